// The part of libibverbs' binary interface that this provider uses, so that it builds where the RDMA headers are not
// installed. Objects that the library makes are declared up to the last member that is read. Values that the verbs
// contract shares with libibverbs (opcodes, access rights, flags, statuses) are those of ../soft/verbs.h.
// test/native/ibv/abi_check.cc compares all of it with the headers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ibv {

struct Context;
struct Pd {
  Context* context;
};
struct Mr {
  Context* context;
  Pd* pd;
  void* addr;
  size_t length;
  uint32_t handle;
  uint32_t lkey;
  uint32_t rkey;
};
struct Mw {
  Context* context;
  Pd* pd;
  uint32_t rkey;
  uint32_t handle;
  int type;
};
struct CompChannel {
  Context* context;
  int fd;
};
struct Cq {
  Context* context;
  CompChannel* channel;
  void* cqContext;
  uint32_t handle;
  int cqe;
};
struct Srq {
  Context* context;
};
struct Qp {
  Context* context;
  void* qpContext;
  Pd* pd;
  Cq* sendCq;
  Cq* recvCq;
  Srq* srq;
  uint32_t handle;
  uint32_t qpNum;
};

constexpr int MW_TYPE_1 = 1;
constexpr int MW_TYPE_2 = 2;

struct Sge {
  uint64_t addr;
  uint32_t length;
  uint32_t lkey;
};
struct MwBindInfo {
  Mr* mr;
  uint64_t addr;
  uint64_t length;
  unsigned int access;
};
struct SendWr {
  uint64_t wrId;
  SendWr* next;
  Sge* sgList;
  int numSge;
  int opcode;
  unsigned int sendFlags;
  uint32_t immOrInvalidateRkey;
  union {
    struct {
      uint64_t remoteAddr;
      uint32_t rkey;
    } rdma;
    struct {
      uint64_t remoteAddr;
      uint64_t compareAdd;
      uint64_t swap;
      uint32_t rkey;
    } atomic;
  } wr;
  uint32_t xrcRemoteSrqn;
  struct {
    Mw* mw;
    uint32_t rkey;
    MwBindInfo info;
  } bind;
};
struct RecvWr {
  uint64_t wrId;
  RecvWr* next;
  Sge* sgList;
  int numSge;
};
struct Wc {
  uint64_t wrId;
  int status;
  int opcode;
  uint32_t vendorErr;
  uint32_t byteLen;
  uint32_t immOrInvalidatedRkey;
  uint32_t qpNum;
  uint32_t srcQp;
  unsigned int flags;
  uint16_t pkeyIndex;
  uint16_t slid;
  uint8_t sl;
  uint8_t dlidPathBits;
};

// The calls of the fast path are functions of the device's driver, behind the context.
struct ContextOps {
  void* unused0[7];
  Mw* (*allocMw)(Pd*, int type);
  int (*bindMw)(Qp*, Mw*, void*);
  int (*deallocMw)(Mw*);
  void* unused1;
  int (*pollCq)(Cq*, int count, Wc*);
  int (*reqNotifyCq)(Cq*, int solicitedOnly);
  void* unused2[7];
  int (*postSrqRecv)(Srq*, RecvWr*, RecvWr** bad);
  void* unused3[4];
  int (*postSend)(Qp*, SendWr*, SendWr** bad);
  int (*postRecv)(Qp*, RecvWr*, RecvWr** bad);
  void* unused4[5];
};
struct Context {
  void* device;
  ContextOps ops;
  int cmdFd;
  int asyncFd;
};

struct alignas(8) Gid {
  uint8_t raw[16];
};
enum GidType : uint32_t { GID_IB = 0, GID_ROCE_V1 = 1, GID_ROCE_V2 = 2 };
struct GidEntry {
  Gid gid;
  uint32_t index;
  uint32_t port;
  uint32_t type;
  uint32_t interface;
};

struct DeviceAttr {
  char firmware[64];
  uint64_t guids[2];
  uint64_t maxMrSize;
  uint64_t pageSizes;
  uint32_t vendor[3];
  int maxQp;
  int maxQpWr;
  unsigned int capabilities;
  int maxSge;
  int maxSgeRd;
  int maxCq;
  int maxCqe;
  int maxMr;
  int maxPd;
  int maxQpRdAtom;
  int maxEeRdAtom;
  int maxResRdAtom;
  int maxQpInitRdAtom;
  int maxEeInitRdAtom;
  int atomicCap;
  int maxEe;
  int maxRdd;
  int maxMw;
  int unused[6];
  int maxFmr;
  int maxMapPerFmr;
  int maxSrq;
  int maxSrqWr;
  int maxSrqSge;
  uint16_t maxPkeys;
  uint8_t localCaAckDelay;
  uint8_t ports;
};
constexpr unsigned int CAP_MEM_WINDOW = 1u << 17;
constexpr unsigned int CAP_MEM_WINDOW_TYPE_2B = 1u << 24;

struct PortAttr {
  int state;
  int maxMtu;
  int activeMtu;
  int gidTableLength;
  uint32_t capabilities;
  uint32_t maxMessage;
  uint32_t counters[2];
  uint16_t pkeyTableLength;
  uint16_t lid;
  uint16_t smLid;
  uint8_t bytes[8];
  uint8_t linkLayer;
  uint8_t flags;
  uint16_t capabilities2;
};
constexpr int PORT_ACTIVE = 4;
constexpr uint8_t LINK_LAYER_ETHERNET = 2;

struct SrqInitAttr {
  void* context;
  uint32_t maxWr;
  uint32_t maxSge;
  uint32_t limit;
};
struct QpCap {
  uint32_t maxSendWr;
  uint32_t maxRecvWr;
  uint32_t maxSendSge;
  uint32_t maxRecvSge;
  uint32_t maxInline;
};
constexpr int QP_TYPE_RC = 2;
struct QpInitAttr {
  void* context;
  Cq* sendCq;
  Cq* recvCq;
  Srq* srq;
  QpCap cap;
  int type;
  int sigAll;
};
struct alignas(8) AhAttr {  // with the global route in it, whose members are aligned so
  Gid dgid;
  uint32_t flowLabel;
  uint8_t sgidIndex;
  uint8_t hopLimit;
  uint8_t trafficClass;
  uint16_t dlid;
  uint8_t sl;
  uint8_t srcPathBits;
  uint8_t staticRate;
  uint8_t isGlobal;
  uint8_t portNum;
};
struct QpAttr {
  int state;
  int curState;
  int pathMtu;
  int pathMigState;
  uint32_t qkey;
  uint32_t rqPsn;
  uint32_t sqPsn;
  uint32_t destQpNum;
  unsigned int access;
  QpCap cap;
  AhAttr ah;
  AhAttr alternative;
  uint16_t pkeyIndex;
  uint16_t altPkeyIndex;
  uint8_t enSqdAsyncNotify;
  uint8_t sqDraining;
  uint8_t maxRdAtomic;
  uint8_t maxDestRdAtomic;
  uint8_t minRnrTimer;
  uint8_t portNum;
  uint8_t timeout;
  uint8_t retryCount;
  uint8_t rnrRetry;
  uint8_t altPortNum;
  uint8_t altTimeout;
  uint32_t rateLimit;
};
namespace qp_attr {
constexpr int STATE = 1 << 0;
constexpr int ACCESS = 1 << 3;
constexpr int PKEY_INDEX = 1 << 4;
constexpr int PORT = 1 << 5;
constexpr int AV = 1 << 7;
constexpr int PATH_MTU = 1 << 8;
constexpr int TIMEOUT = 1 << 9;
constexpr int RETRY_COUNT = 1 << 10;
constexpr int RNR_RETRY = 1 << 11;
constexpr int RQ_PSN = 1 << 12;
constexpr int MAX_QP_RD_ATOMIC = 1 << 13;
constexpr int MIN_RNR_TIMER = 1 << 15;
constexpr int SQ_PSN = 1 << 16;
constexpr int MAX_DEST_RD_ATOMIC = 1 << 17;
constexpr int DEST_QPN = 1 << 20;
}  // namespace qp_attr

struct AsyncEvent {
  void* element;
  int type;
};

}  // namespace ibv
