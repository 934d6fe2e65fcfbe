// libibverbs, found at run time.
#pragma once

#include <string>
#include <vector>

#include "abi.h"

namespace ibv {

struct Library {
  void** (*getDeviceList)(int* count);
  void (*freeDeviceList)(void** list);
  const char* (*getDeviceName)(void* device);
  Context* (*openDevice)(void* device);
  int (*closeDevice)(Context*);
  int (*queryDevice)(Context*, DeviceAttr*);
  int (*queryPort)(Context*, uint8_t port, PortAttr*);
  int (*queryGid)(Context*, uint8_t port, int index, Gid*);
  // Not in libraries before 2020: then the types of GIDs are unknown.
  int (*queryGidEntry)(Context*, uint32_t port, uint32_t index, GidEntry*, uint32_t flags, size_t entrySize);
  Pd* (*allocPd)(Context*);
  int (*deallocPd)(Pd*);
  Mr* (*regMrIova)(Pd*, void* address, size_t length, uint64_t iova, unsigned int access);
  int (*deregMr)(Mr*);
  CompChannel* (*createCompChannel)(Context*);
  int (*destroyCompChannel)(CompChannel*);
  Cq* (*createCq)(Context*, int entries, void* cqContext, CompChannel*, int vector);
  int (*resizeCq)(Cq*, int entries);
  int (*destroyCq)(Cq*);
  int (*getCqEvent)(CompChannel*, Cq**, void** cqContext);
  void (*ackCqEvents)(Cq*, unsigned int count);
  Srq* (*createSrq)(Pd*, SrqInitAttr*);
  int (*destroySrq)(Srq*);
  Qp* (*createQp)(Pd*, QpInitAttr*);
  int (*modifyQp)(Qp*, QpAttr*, int mask);
  int (*queryQp)(Qp*, QpAttr*, int mask, QpInitAttr*);
  int (*destroyQp)(Qp*);
  int (*getAsyncEvent)(Context*, AsyncEvent*);
  void (*ackAsyncEvent)(AsyncEvent*);
};

// Throws VerbsError::NoDevice, with the reason in one sentence, where there is none.
const Library& library();

// Names of the devices; empty where there is no library.
std::vector<std::string> deviceNames();

}  // namespace ibv
