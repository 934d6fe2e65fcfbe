#include "library.h"

#include <dlfcn.h>

#include "../soft/error.h"

namespace ibv {

namespace {

struct Loaded {
  Library library{};
  std::string why;  // empty if it is there
};

template <typename F>
bool find(void* handle, const char* name, F& into) {
  into = reinterpret_cast<F>(dlsym(handle, name));
  return into != nullptr;
}

Loaded load() {
  Loaded result;
  // Never closed: drivers that it loads keep threads and handlers of their own.
  void* const handle = dlopen("libibverbs.so.1", RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    result.why = "libibverbs is not installed (Debian, Ubuntu: apt-get install libibverbs1 ibverbs-providers)";
    return result;
  }
  Library& all = result.library;
  find(handle, "_ibv_query_gid_ex", all.queryGidEntry);
  const bool complete =
      find(handle, "ibv_get_device_list", all.getDeviceList) &&
      find(handle, "ibv_free_device_list", all.freeDeviceList) &&
      find(handle, "ibv_get_device_name", all.getDeviceName) && find(handle, "ibv_open_device", all.openDevice) &&
      find(handle, "ibv_close_device", all.closeDevice) && find(handle, "ibv_query_device", all.queryDevice) &&
      find(handle, "ibv_query_port", all.queryPort) && find(handle, "ibv_query_gid", all.queryGid) &&
      find(handle, "ibv_alloc_pd", all.allocPd) && find(handle, "ibv_dealloc_pd", all.deallocPd) &&
      find(handle, "ibv_reg_mr_iova2", all.regMrIova) && find(handle, "ibv_dereg_mr", all.deregMr) &&
      find(handle, "ibv_create_comp_channel", all.createCompChannel) &&
      find(handle, "ibv_destroy_comp_channel", all.destroyCompChannel) && find(handle, "ibv_create_cq", all.createCq) &&
      find(handle, "ibv_resize_cq", all.resizeCq) && find(handle, "ibv_destroy_cq", all.destroyCq) &&
      find(handle, "ibv_get_cq_event", all.getCqEvent) && find(handle, "ibv_ack_cq_events", all.ackCqEvents) &&
      find(handle, "ibv_create_srq", all.createSrq) && find(handle, "ibv_destroy_srq", all.destroySrq) &&
      find(handle, "ibv_create_qp", all.createQp) && find(handle, "ibv_modify_qp", all.modifyQp) &&
      find(handle, "ibv_query_qp", all.queryQp) && find(handle, "ibv_destroy_qp", all.destroyQp) &&
      find(handle, "ibv_get_async_event", all.getAsyncEvent) && find(handle, "ibv_ack_async_event", all.ackAsyncEvent);
  if (!complete) result.why = "the libibverbs here is too old: version 28 of rdma-core or a later one is needed";
  return result;
}

const Loaded& loaded() {
  static const Loaded once = load();
  return once;
}

}  // namespace

const Library& library() {
  if (!loaded().why.empty()) {
    throw rnic::VerbsError(rnic::VerbsError::Kind::NoDevice, "no RDMA device can be opened: " + loaded().why);
  }
  return loaded().library;
}

std::vector<std::string> deviceNames() {
  std::vector<std::string> names;
  if (!loaded().why.empty()) return names;
  const Library& all = loaded().library;
  int count = 0;
  void** const list = all.getDeviceList(&count);
  if (list == nullptr) return names;
  for (int i = 0; i < count; i++) names.emplace_back(all.getDeviceName(list[i]));
  all.freeDeviceList(list);
  return names;
}

}  // namespace ibv
