// The entry points of the libibverbs provider. native/ibv/*.ts are the only callers; what users see is there.
#include "ibv_entry_points.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "../ibv/connection.h"
#include "../ibv/library.h"
#include "entry_point.h"
#include "signal_watch.h"

namespace {

using rnic::VerbsError;
template <typename T>
using Ptr = std::shared_ptr<T>;

struct WatchedChannel {
  Ptr<ibv::EventChannel> channel;
  std::unique_ptr<SignalWatch> watch;
};

using Object = std::variant<Ptr<ibv::Device>, Ptr<rnic::HostMemory>, Ptr<ibv::ProtectionDomain>, Ptr<WatchedChannel>,
                            Ptr<ibv::CompletionQueue>, Ptr<ibv::SharedReceiveQueue>, Ptr<ibv::QueuePair>,
                            Ptr<ibv::Listener>, Ptr<ibv::Connection>>;

// Objects by place, for the hot entry points. A place is used again.
template <typename T>
class Places {
 public:
  uint32_t add(T* object) {
    const auto free = std::find(objects_.begin(), objects_.end(), nullptr);
    const auto place = static_cast<uint32_t>(free - objects_.begin());
    if (free == objects_.end()) objects_.push_back(nullptr);
    objects_[place] = object;
    return place;
  }
  void remove(const T* object) { std::replace(objects_.begin(), objects_.end(), const_cast<T*>(object), static_cast<T*>(nullptr)); }
  T* at(uint32_t place) const { return place < objects_.size() ? objects_[place] : nullptr; }

 private:
  std::vector<T*> objects_;
};

// What one JavaScript thread has open of this provider. Handles are never used twice.
class Objects {
 public:
  ~Objects() {
    // Connections say goodbye before their pairs go.
    for (auto& entry : byHandle_) {
      if (auto* connection = std::get_if<Ptr<ibv::Connection>>(&entry.second)) (*connection)->close();
    }
    for (auto& entry : byHandle_) {
      if (auto* qp = std::get_if<Ptr<ibv::QueuePair>>(&entry.second)) (*qp)->close();
    }
  }

  template <typename T>
  uint32_t add(Ptr<T> object) {
    byHandle_.emplace(next_, std::move(object));
    return next_++;
  }
  template <typename T>
  const Ptr<T>& get(const Napi::Value& handle) {
    const auto found = handle.IsNumber() ? byHandle_.find(handle.As<Napi::Number>().Uint32Value()) : byHandle_.end();
    const Ptr<T>* object = found == byHandle_.end() ? nullptr : std::get_if<Ptr<T>>(&found->second);
    if (object == nullptr) throw VerbsError(VerbsError::Kind::Closed, "the object is closed");
    return *object;
  }
  void remove(const Napi::Value& handle) { byHandle_.erase(handle.As<Napi::Number>().Uint32Value()); }

  Places<ibv::QueuePair> pairs;
  Places<ibv::CompletionQueue> queues;
  Places<ibv::SharedReceiveQueue> sharedQueues;

 private:
  std::unordered_map<uint32_t, Object> byHandle_;
  uint32_t next_ = 1;
};

Objects& objects(Info info) { return *static_cast<Objects*>(info.Data()); }

template <typename T>
const Ptr<T>& get(Info info, size_t argument) {
  return objects(info).get<T>(info[argument]);
}

Napi::Value number(Info info, double value) { return Napi::Number::New(info.Env(), value); }

Napi::Value deviceNames(Info info) {
  const std::vector<std::string> names = ibv::deviceNames();
  Napi::Array result = Napi::Array::New(info.Env(), names.size());
  for (uint32_t i = 0; i < names.size(); i++) result.Set(i, names[i]);
  return result;
}

Napi::Value openDevice(Info info) {
  ibv::DeviceOptions options;
  options.name = info[0].ToString();
  options.port = static_cast<uint8_t>(integer(info[1], "port", 255));
  if (!info[2].IsUndefined()) options.gidIndex = static_cast<int>(integer(info[2], "gid", 255));
  options.windowType = integer(info[3], "windows", 2) == 2 ? ibv::MW_TYPE_2 : ibv::MW_TYPE_1;
  auto device = std::make_shared<ibv::Device>(options);
  const ibv::DeviceAttr& attr = device->attr;
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("maxQp", attr.maxQp);
  result.Set("maxQpWr", attr.maxQpWr);
  result.Set("maxCq", attr.maxCq);
  result.Set("maxCqe", attr.maxCqe);
  result.Set("maxMr", attr.maxMr);
  const unsigned int needed = options.windowType == ibv::MW_TYPE_2 ? ibv::CAP_MEM_WINDOW_TYPE_2B : ibv::CAP_MEM_WINDOW;
  result.Set("maxMw", (attr.capabilities & needed) != 0 ? attr.maxMw : 0);
  result.Set("maxPd", attr.maxPd);
  result.Set("maxSrq", attr.maxSrq);
  result.Set("maxSrqWr", attr.maxSrqWr);
  result.Set("maxMessage", static_cast<double>(device->port.maxMessage));
  result.Set("handle", objects(info).add(std::move(device)));
  return result;
}

Napi::Value queryPort(Info info) {
  const ibv::Device& device = *get<ibv::Device>(info, 0);
  const ibv::PortAttr port = device.queryPort();
  Napi::Array gids = Napi::Array::New(info.Env());
  uint32_t count = 0;
  for (int index = 0; index < port.gidTableLength; index++) {
    const ibv::Gid gid = device.gid(index);
    if (std::all_of(std::begin(gid.raw), std::end(gid.raw), [](uint8_t byte) { return byte == 0; })) continue;
    char text[40];
    for (int group = 0; group < 8; group++) {
      std::snprintf(text + 5 * group, 6, group < 7 ? "%02x%02x:" : "%02x%02x", gid.raw[2 * group],
                    gid.raw[2 * group + 1]);
    }
    gids.Set(count++, Napi::String::New(info.Env(), text));
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("active", port.state == ibv::PORT_ACTIVE);
  result.Set("linkLayer", port.linkLayer == ibv::LINK_LAYER_ETHERNET ? "ethernet" : "infiniband");
  result.Set("activeMtu", 128 << port.activeMtu);
  result.Set("lid", port.lid);
  result.Set("gids", gids);
  return result;
}

Napi::Value closeObject(Info info) {
  objects(info).remove(info[0]);
  return info.Env().Undefined();
}

Napi::Value allocMemory(Info info) {
  get<ibv::Device>(info, 0);
  const uint64_t bytes = integer(info[1], "byteLength");
  return number(info, objects(info).add(std::make_shared<rnic::HostMemory>(bytes, pageOptions(info, 2))));
}

Napi::Value memoryBuffer(Info info) { return arrayBuffer(info.Env(), get<rnic::HostMemory>(info, 0)); }

Napi::Value publishMemory(Info info) {
  return number(info, rnic::HostMemory::publish(get<rnic::HostMemory>(info, 0)));
}

Napi::Value openMemory(Info info) {
  auto memory = rnic::HostMemory::published(integer32(info[0], "number"));
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("byteLength", static_cast<double>(memory->bytes()));
  result.Set("handle", objects(info).add(std::move(memory)));
  return result;
}

Napi::Value allocPd(Info info) {
  return number(info, objects(info).add(std::make_shared<ibv::ProtectionDomain>(get<ibv::Device>(info, 0))));
}

Napi::Value closePd(Info info) {
  if (get<ibv::ProtectionDomain>(info, 0)->inUse()) {
    throw VerbsError(VerbsError::Kind::Busy, "the protection domain is in use");
  }
  return closeObject(info);
}

Napi::Value regMr(Info info) {
  ibv::ProtectionDomain& pd = *get<ibv::ProtectionDomain>(info, 0);
  const Ptr<rnic::HostMemory>& memory = get<rnic::HostMemory>(info, 1);
  const uint64_t offset = integer(info[2], "offset");
  const uint64_t length = integer(info[3], "length");
  const uint32_t rights = integer32(info[4], "access");
  const ibv::Region& region = pd.addRegion(memory, offset, length, integer(info[5], "iova"), rights);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("lkey", region.mr->lkey);
  result.Set("rkey", region.mr->rkey);
  return result;
}

Napi::Value deregMr(Info info) {
  get<ibv::ProtectionDomain>(info, 0)->removeRegion(integer32(info[1], "lkey"));
  return info.Env().Undefined();
}

Napi::Value allocMw(Info info) { return number(info, get<ibv::ProtectionDomain>(info, 0)->addWindow()); }

Napi::Value deallocMw(Info info) {
  get<ibv::ProtectionDomain>(info, 0)->removeWindow(integer32(info[1], "keyBase"));
  return info.Env().Undefined();
}

Napi::Value createChannel(Info info) {
  auto channel = std::make_shared<WatchedChannel>();
  channel->channel = std::make_shared<ibv::EventChannel>(get<ibv::Device>(info, 0));
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("fd", channel->channel->signals()->fd());
  result.Set("handle", objects(info).add(std::move(channel)));
  return result;
}

Napi::Value waitChannel(Info info) {
  const Ptr<ibv::EventChannel> channel = get<WatchedChannel>(info, 0)->channel;
  return Napi::Boolean::New(info.Env(), channel->wait(static_cast<double>(integer(info[1], "timeoutNs"))));
}

Napi::Value listenToChannel(Info info) {
  WatchedChannel& watched = *get<WatchedChannel>(info, 0);
  if (watched.watch == nullptr) {
    const auto take = [channel = watched.channel] { return channel->take(); };
    watched.watch = std::make_unique<SignalWatch>(info.Env(), watched.channel->watchFd(), take);
  }
  watched.watch->listen(info[1].IsFunction() ? Napi::Persistent(info[1].As<Napi::Function>())
                                             : Napi::FunctionReference());
  return info.Env().Undefined();
}

Napi::Value createCq(Info info) {
  const Ptr<ibv::Device>& device = get<ibv::Device>(info, 0);
  const uint32_t depth = integer32(info[1], "depth");
  rnic::Ring<rnic::Cqe>::checkDepth("depth", depth, static_cast<uint32_t>(device->attr.maxCqe));
  Ptr<ibv::EventChannel> channel;
  if (!info[2].IsUndefined()) channel = get<WatchedChannel>(info, 2)->channel;
  // The reader tells of every so many entries only, and must find room for as many again.
  auto cq = std::make_shared<ibv::CompletionQueue>(device, depth, channel);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("ring", arrayBuffer(info.Env(), cq->ring.memory()));
  result.Set("place", objects(info).queues.add(cq.get()));
  result.Set("handle", objects(info).add(std::move(cq)));
  return result;
}

Napi::Value armCq(Info info) {
  get<ibv::CompletionQueue>(info, 0)->arm(info[1].ToBoolean());
  return info.Env().Undefined();
}

Napi::Value closeCq(Info info) {
  const Ptr<ibv::CompletionQueue>& cq = get<ibv::CompletionQueue>(info, 0);
  if (cq->users() > 0) throw VerbsError(VerbsError::Kind::Busy, "queue pairs complete into the queue");
  objects(info).queues.remove(cq.get());
  return closeObject(info);
}

Napi::Value createSrq(Info info) {
  const Ptr<ibv::ProtectionDomain>& pd = get<ibv::ProtectionDomain>(info, 0);
  const uint32_t maxWr = integer32(info[1], "maxWr");
  rnic::Ring<rnic::RecvWqe>::checkDepth("maxWr", maxWr, static_cast<uint32_t>(pd->device->attr.maxSrqWr));
  auto srq = std::make_shared<ibv::SharedReceiveQueue>(pd, maxWr);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("ring", arrayBuffer(info.Env(), srq->ring.memory()));
  result.Set("place", objects(info).sharedQueues.add(srq.get()));
  result.Set("handle", objects(info).add(std::move(srq)));
  return result;
}

Napi::Value closeSrq(Info info) {
  const Ptr<ibv::SharedReceiveQueue>& srq = get<ibv::SharedReceiveQueue>(info, 0);
  if (srq->users > 0) throw VerbsError(VerbsError::Kind::Busy, "queue pairs use the shared receive queue");
  objects(info).sharedQueues.remove(srq.get());
  return closeObject(info);
}

Napi::Value createQp(Info info) {
  const Ptr<ibv::ProtectionDomain>& pd = get<ibv::ProtectionDomain>(info, 0);
  const Ptr<ibv::CompletionQueue>& sendCq = get<ibv::CompletionQueue>(info, 1);
  const Ptr<ibv::CompletionQueue>& recvCq = get<ibv::CompletionQueue>(info, 2);
  const uint32_t maxSendWr = integer32(info[3], "maxSendWr");
  const uint32_t maxRecvWr = integer32(info[4], "maxRecvWr");
  const auto most = static_cast<uint32_t>(pd->device->attr.maxQpWr);
  rnic::Ring<rnic::Wqe>::checkDepth("maxSendWr", maxSendWr, most);
  rnic::Ring<rnic::RecvWqe>::checkDepth("maxRecvWr", maxRecvWr, most);
  if (sendCq->device != pd->device || recvCq->device != pd->device) {
    throw VerbsError(VerbsError::Kind::Type, "the completion queues are of another device");
  }
  Ptr<ibv::SharedReceiveQueue> srq;
  if (!info[5].IsUndefined()) srq = get<ibv::SharedReceiveQueue>(info, 5);
  if (srq != nullptr && srq->pd != pd) {
    throw VerbsError(VerbsError::Kind::Type, "the shared receive queue is of another protection domain");
  }
  auto qp = std::make_shared<ibv::QueuePair>(pd, sendCq, recvCq, srq, maxSendWr, maxRecvWr);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("qpNum", qp->qpNum());
  result.Set("sendRing", arrayBuffer(info.Env(), qp->sendRing.memory()));
  result.Set("recvRing", arrayBuffer(info.Env(), qp->recvRing.memory()));
  result.Set("place", objects(info).pairs.add(qp.get()));
  result.Set("handle", objects(info).add(std::move(qp)));
  return result;
}

Napi::Value qpState(Info info) {
  return number(info, static_cast<uint32_t>(get<ibv::QueuePair>(info, 0)->state()));
}

Napi::Value qpRemote(Info info) { return number(info, get<ibv::QueuePair>(info, 0)->remoteQpNum()); }

Napi::Value modifyQp(Info info) {
  const Ptr<ibv::QueuePair> qp = get<ibv::QueuePair>(info, 0);
  qp->modify(static_cast<rnic::QpState>(integer32(info[1], "state")), integer32(info[2], "access"));
  return info.Env().Undefined();
}

Napi::Value closeQp(Info info) {
  const Ptr<ibv::QueuePair>& qp = get<ibv::QueuePair>(info, 0);
  objects(info).pairs.remove(qp.get());
  qp->close();
  return closeObject(info);
}

std::vector<Ptr<ibv::QueuePair>> queuePairs(Info info, const Napi::Value& handles) {
  if (!handles.IsArray()) throw VerbsError(VerbsError::Kind::Type, "queue pairs must come as an array");
  const Napi::Array array = handles.As<Napi::Array>();
  std::vector<Ptr<ibv::QueuePair>> qps;
  for (uint32_t i = 0; i < array.Length(); i++) qps.push_back(objects(info).get<ibv::QueuePair>(array.Get(i)));
  return qps;
}

Napi::Value listen(Info info) {
  const std::string address = info[1].IsUndefined() ? "" : std::string(info[1].ToString());
  auto listener =
      std::make_shared<ibv::Listener>(get<ibv::Device>(info, 0), address, get<WatchedChannel>(info, 2)->channel);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("address", listener->address());
  result.Set("handle", objects(info).add(std::move(listener)));
  return result;
}

Napi::Value connectionObject(Info info, Ptr<ibv::Connection> connection) {
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("id", static_cast<double>(connection->id));
  result.Set("qpCount", static_cast<double>(connection->qpCount()));
  result.Set("handle", objects(info).add(std::move(connection)));
  return result;
}

Napi::Value nextConnection(Info info) {
  auto connection = get<ibv::Listener>(info, 0)->nextConnection();
  return connection == nullptr ? info.Env().Undefined() : connectionObject(info, std::move(connection));
}

Napi::Value nextDisconnection(Info info) {
  const auto connection = get<ibv::Listener>(info, 0)->nextDisconnection();
  return connection == nullptr ? info.Env().Undefined() : number(info, static_cast<double>(connection->id));
}

Napi::Value connect(Info info) {
  if (!info[1].IsString()) throw VerbsError(VerbsError::Kind::Type, "address must be a string");
  return connectionObject(info, ibv::Connection::request(get<ibv::Device>(info, 0), info[1].As<Napi::String>(),
                                                         queuePairs(info, info[2]),
                                                         get<WatchedChannel>(info, 3)->channel));
}

Napi::Value connectionState(Info info) {
  static const char* const names[] = {"connecting", "established", "rejected", "closed"};
  const Ptr<ibv::Connection> connection = get<ibv::Connection>(info, 0);
  connection->progress();
  return Napi::String::New(info.Env(), names[static_cast<int>(connection->state())]);
}

Napi::Value acceptConnection(Info info) {
  const Ptr<ibv::Connection> connection = get<ibv::Connection>(info, 0);
  connection->accept(queuePairs(info, info[1]));
  return info.Env().Undefined();
}

Napi::Value rejectConnection(Info info) {
  get<ibv::Connection>(info, 0)->reject();
  return info.Env().Undefined();
}

Napi::Value closeConnection(Info info) {
  get<ibv::Connection>(info, 0)->close();
  return closeObject(info);
}

// The hot entry points take an object's place.
template <typename T, Places<T> Objects::*places, void (*action)(T&)>
napi_value atPlace(napi_env env, napi_callback_info info) {
  void* data;
  napi_value argument;
  size_t count = 1;
  uint32_t place;
  napi_get_cb_info(env, info, &count, &argument, nullptr, &data);
  if (napi_get_value_uint32(env, argument, &place) != napi_ok) return nullptr;
  T* const object = (static_cast<Objects*>(data)->*places).at(place);
  if (object != nullptr) action(*object);
  return nullptr;
}

void ring(ibv::QueuePair& qp) { qp.doorbell(); }
void flushReceives(ibv::QueuePair& qp) { qp.flushReceives(); }
void flushShared(ibv::SharedReceiveQueue& srq) { srq.flush(); }
void pump(ibv::CompletionQueue& cq) { cq.pump(); }

}  // namespace

Napi::Object ibvEntryPoints(Napi::Env env) {
  auto* const objects = new Objects();
  napi_add_env_cleanup_hook(env, [](void* data) { delete static_cast<Objects*>(data); }, objects);
  Napi::Object exports = Napi::Object::New(env);
  const auto hot = [&](const char* name, napi_callback function) {
    exports.Set(name, hotFunction(env, name, function, objects));
  };
  hot("doorbell", atPlace<ibv::QueuePair, &Objects::pairs, ring>);
  hot("flushReceives", atPlace<ibv::QueuePair, &Objects::pairs, flushReceives>);
  hot("flushShared", atPlace<ibv::SharedReceiveQueue, &Objects::sharedQueues, flushShared>);
  hot("pump", atPlace<ibv::CompletionQueue, &Objects::queues, pump>);
#define ENTRY(name) exports.Set(#name, Napi::Function::New<guarded<name>>(env, #name, objects))
  ENTRY(deviceNames);
  ENTRY(openDevice);
  ENTRY(queryPort);
  ENTRY(closeObject);
  ENTRY(allocMemory);
  ENTRY(memoryBuffer);
  ENTRY(publishMemory);
  ENTRY(openMemory);
  ENTRY(allocPd);
  ENTRY(closePd);
  ENTRY(regMr);
  ENTRY(deregMr);
  ENTRY(allocMw);
  ENTRY(deallocMw);
  ENTRY(createChannel);
  ENTRY(waitChannel);
  ENTRY(listenToChannel);
  ENTRY(createCq);
  ENTRY(armCq);
  ENTRY(closeCq);
  ENTRY(createSrq);
  ENTRY(closeSrq);
  ENTRY(createQp);
  ENTRY(qpState);
  ENTRY(qpRemote);
  ENTRY(modifyQp);
  ENTRY(closeQp);
  ENTRY(listen);
  ENTRY(nextConnection);
  ENTRY(nextDisconnection);
  ENTRY(connect);
  ENTRY(connectionState);
  ENTRY(acceptConnection);
  ENTRY(rejectConnection);
  ENTRY(closeConnection);
#undef ENTRY
  return exports;
}
