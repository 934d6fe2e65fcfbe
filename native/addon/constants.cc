#include "constants.h"

#include <initializer_list>
#include <utility>

#include "../soft/verbs.h"

namespace {

using Pairs = std::initializer_list<std::pair<const char*, double>>;

void add(Napi::Object parent, const char* name, Pairs pairs) {
  Napi::Object object = Napi::Object::New(parent.Env());
  for (const auto& [key, value] : pairs) object.Set(key, value);
  parent.Set(name, object);
}

template <typename T>
double number(T value) {
  return static_cast<double>(value);
}

}  // namespace

#define NAMED(scope, name) \
  { #name, number(scope::name) }
#define FIELD(type, name, field) \
  { name, number(offsetof(rnic::type, field)) }

Napi::Object verbsConstants(Napi::Env env) {
  using rnic::Opcode;
  using rnic::QpState;
  using rnic::WcOpcode;
  using rnic::WcStatus;
  Napi::Object all = Napi::Object::New(env);
  add(all, "Opcode",
      {NAMED(Opcode, RDMA_WRITE), NAMED(Opcode, RDMA_WRITE_WITH_IMM), NAMED(Opcode, SEND),
       NAMED(Opcode, SEND_WITH_IMM), NAMED(Opcode, RDMA_READ), NAMED(Opcode, CMP_AND_SWP),
       NAMED(Opcode, FETCH_AND_ADD), NAMED(Opcode, LOCAL_INV), NAMED(Opcode, BIND_MW),
       NAMED(Opcode, SEND_WITH_INV)});
  add(all, "Access",
      {NAMED(rnic::access, LOCAL_WRITE), NAMED(rnic::access, REMOTE_WRITE), NAMED(rnic::access, REMOTE_READ),
       NAMED(rnic::access, REMOTE_ATOMIC), NAMED(rnic::access, MW_BIND)});
  add(all, "SendFlag",
      {NAMED(rnic::send_flag, FENCE), NAMED(rnic::send_flag, SIGNALED), NAMED(rnic::send_flag, SOLICITED),
       NAMED(rnic::send_flag, INLINE)});
  add(all, "QpState",
      {NAMED(QpState, RESET), NAMED(QpState, INIT), NAMED(QpState, RTR), NAMED(QpState, RTS), NAMED(QpState, ERR)});
  add(all, "WcStatus",
      {NAMED(WcStatus, SUCCESS), NAMED(WcStatus, LOC_LEN_ERR), NAMED(WcStatus, LOC_QP_OP_ERR),
       NAMED(WcStatus, LOC_PROT_ERR), NAMED(WcStatus, WR_FLUSH_ERR), NAMED(WcStatus, MW_BIND_ERR),
       NAMED(WcStatus, LOC_ACCESS_ERR), NAMED(WcStatus, REM_INV_REQ_ERR), NAMED(WcStatus, REM_ACCESS_ERR),
       NAMED(WcStatus, REM_OP_ERR), NAMED(WcStatus, RETRY_EXC_ERR), NAMED(WcStatus, RNR_RETRY_EXC_ERR)});
  add(all, "WcOpcode",
      {NAMED(WcOpcode, SEND), NAMED(WcOpcode, RDMA_WRITE), NAMED(WcOpcode, RDMA_READ), NAMED(WcOpcode, COMP_SWAP),
       NAMED(WcOpcode, FETCH_ADD), NAMED(WcOpcode, BIND_MW), NAMED(WcOpcode, LOCAL_INV), NAMED(WcOpcode, RECV),
       NAMED(WcOpcode, RECV_RDMA_WITH_IMM)});
  add(all, "WcFlag", {NAMED(rnic::wc_flag, WITH_IMM), NAMED(rnic::wc_flag, WITH_INV)});
  add(all, "RingLayout",
      {{"HEADER_BYTES", number(rnic::RING_HEADER_BYTES)},
       {"USER_COUNTER", number(rnic::RING_USER_COUNTER)},
       {"NIC_COUNTER", number(rnic::RING_NIC_COUNTER)},
       {"QP_STATE", number(rnic::RING_QP_STATE)}});
  add(all, "CqArm", {NAMED(rnic::cq_arm, NEXT), NAMED(rnic::cq_arm, SOLICITED)});
  add(all, "WqeLayout",
      {{"BYTES", number(sizeof(rnic::Wqe))},
       FIELD(Wqe, "OPCODE", opcode),
       FIELD(Wqe, "SEND_FLAGS", sendFlags),
       FIELD(Wqe, "BIND_ACCESS", bindAccess),
       FIELD(Wqe, "LENGTH", length),
       FIELD(Wqe, "WR_ID", wrId),
       FIELD(Wqe, "REMOTE_ADDR", remoteAddr),
       FIELD(Wqe, "RKEY", rkey),
       FIELD(Wqe, "LKEY", lkey),
       FIELD(Wqe, "LOCAL_ADDR", localAddr),
       FIELD(Wqe, "COMPARE_ADD", compareAdd),
       FIELD(Wqe, "SWAP", swap),
       FIELD(Wqe, "IMM", imm),
       {"INLINE_BYTES", number(rnic::WQE_INLINE_BYTES)}});
  add(all, "RecvWqeLayout",
      {{"BYTES", number(sizeof(rnic::RecvWqe))},
       FIELD(RecvWqe, "WR_ID", wrId),
       FIELD(RecvWqe, "LOCAL_ADDR", localAddr),
       FIELD(RecvWqe, "LKEY", lkey),
       FIELD(RecvWqe, "LENGTH", length)});
  add(all, "CqeLayout",
      {{"BYTES", number(sizeof(rnic::Cqe))},
       FIELD(Cqe, "WR_ID", wrId),
       FIELD(Cqe, "STATUS", status),
       FIELD(Cqe, "OPCODE", opcode),
       FIELD(Cqe, "FLAGS", flags),
       FIELD(Cqe, "BYTE_LEN", byteLen),
       FIELD(Cqe, "QP_NUM", qpNum),
       FIELD(Cqe, "IMM", imm),
       FIELD(Cqe, "SEQUENCE", sequence)});
  all.Set("KEY_TAG_BITS", number(rnic::KEY_TAG_BITS));
  return all;
}

Napi::Object sharedLimits(Napi::Env env) {
  Napi::Object limits = Napi::Object::New(env);
  limits.Set("maxMr", number(rnic::MAX_LINK_MR));
  limits.Set("maxMw", number(rnic::MAX_LINK_MW));
  limits.Set("maxSrq", number(rnic::MAX_LINK_SRQ));
  return limits;
}

Napi::Object deviceLimits(Napi::Env env) {
  Napi::Object limits = Napi::Object::New(env);
  const Pairs all = {{"maxQp", number(rnic::MAX_QP)},
                     {"maxQpWr", number(rnic::MAX_QP_WR)},
                     {"maxCq", number(rnic::MAX_CQ)},
                     {"maxCqe", number(rnic::MAX_CQE)},
                     {"maxSrq", number(rnic::MAX_SRQ)},
                     {"maxSrqWr", number(rnic::MAX_SRQ_WR)},
                     {"maxMr", number(rnic::MAX_MR)},
                     {"maxMw", number(rnic::MAX_MW)},
                     {"maxPd", number(rnic::MAX_PD)},
                     {"maxInline", number(rnic::WQE_INLINE_BYTES)},
                     {"maxMessage", number(rnic::MAX_MESSAGE)}};
  for (const auto& [name, value] : all) limits.Set(name, value);
  return limits;
}
