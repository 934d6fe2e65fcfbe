// The entry points: each finds its objects by their handles, calls the RNIC, converts the result. native/soft/*.ts are
// the only callers; what users see is there.
#include <napi.h>
#include <time.h>

#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

#include "../soft/connection.h"
#include "../soft/error.h"
#include "../soft/shm/client_link.h"
#include "../soft/shm/engine.h"
#include "../soft/shm/unix_server.h"
#include "constants.h"
#include "entry_point.h"
#include "ibv_entry_points.h"
#include "signal_watch.h"

namespace {

using rnic::VerbsError;
template <typename T>
using Ptr = std::shared_ptr<T>;

struct WatchedChannel {
  explicit WatchedChannel(bool shared) : channel(std::make_shared<rnic::Channel>(shared)) {}
  ~WatchedChannel() { channel->retire(); }

  Ptr<rnic::Channel> channel;
  std::unique_ptr<SignalWatch> watch;
};
struct Queue {
  Ptr<rnic::Device> device;
  Ptr<rnic::CompletionQueue> cq;
};

using Object = std::variant<Ptr<rnic::Device>, Ptr<rnic::HostMemory>, Ptr<rnic::ProtectionDomain>, Ptr<WatchedChannel>,
                            Ptr<Queue>, Ptr<rnic::ReceiveQueue>, Ptr<rnic::QueuePair>, Ptr<rnic::Listener>,
                            Ptr<rnic::Connection>, Ptr<rnic::ClientLink>>;

// What one JavaScript thread has open. Handles are never used twice.
class Objects {
 public:
  explicit Objects(Napi::Env) {}
  ~Objects() {
    for (auto& [handle, object] : byHandle_) {
      if (auto* connection = std::get_if<Ptr<rnic::Connection>>(&object)) closeConnection(handle, **connection);
      if (auto* link = std::get_if<Ptr<rnic::ClientLink>>(&object)) (*link)->close();
      if (auto* listener = std::get_if<Ptr<rnic::Listener>>(&object)) (*listener)->close();
    }
    for (auto& entry : byHandle_) {
      if (auto* qp = std::get_if<Ptr<rnic::QueuePair>>(&entry.second)) (*qp)->close();
    }
  }

  template <typename T>
  uint32_t add(Ptr<T> object) {
    byHandle_.emplace(next_, std::move(object));
    return next_++;
  }

  template <typename T>
  const Ptr<T>* find(const Napi::Value& handle) {
    const auto found = handle.IsNumber() ? byHandle_.find(handle.As<Napi::Number>().Uint32Value()) : byHandle_.end();
    return found == byHandle_.end() ? nullptr : std::get_if<Ptr<T>>(&found->second);
  }

  template <typename T>
  const Ptr<T>& get(const Napi::Value& handle) {
    const Ptr<T>* object = find<T>(handle);
    if (object == nullptr) throw VerbsError(VerbsError::Kind::Closed, "the object is closed");
    return *object;
  }

  // Queue pairs by place, for the doorbell. A place is used again.
  uint32_t addPair(rnic::QueuePair* qp) {
    uint32_t place;
    if (freePlaces_.empty()) {
      place = static_cast<uint32_t>(pairs_.size());
      pairs_.push_back(qp);
    } else {
      place = freePlaces_.back();
      freePlaces_.pop_back();
      pairs_[place] = qp;
    }
    places_[qp] = place;
    return place;
  }
  void removePair(const rnic::QueuePair* qp) {
    const auto found = places_.find(qp);
    pairs_[found->second] = nullptr;
    freePlaces_.push_back(found->second);
    places_.erase(found);
  }
  // Where JavaScript writes the place of the pair that it rings next.
  const Ptr<rnic::HostMemory>& ringing() const { return ringing_; }
  rnic::QueuePair* pairToRing() const {
    const uint32_t place = *reinterpret_cast<const uint32_t*>(ringing_->data());
    return place < pairs_.size() ? pairs_[place] : nullptr;
  }

  void remove(const Napi::Value& handle) { byHandle_.erase(handle.As<Napi::Number>().Uint32Value()); }

  void markServerSide(uint32_t handle) { serverSide_.insert(handle); }
  bool isServerSide(const Napi::Value& handle) const {
    return serverSide_.count(handle.As<Napi::Number>().Uint32Value()) != 0;
  }
  void closeConnection(uint32_t handle, rnic::Connection& connection) {
    const bool server = serverSide_.count(handle) != 0;
    connection.close(server ? rnic::Connection::Side::Listener : rnic::Connection::Side::Client);
  }
  void forgetConnection(uint32_t handle) {
    serverSide_.erase(handle);
    byHandle_.erase(handle);
  }

 private:
  std::unordered_map<uint32_t, Object> byHandle_;
  std::unordered_set<uint32_t> serverSide_;  // handles of connections that the listener's side has
  std::vector<rnic::QueuePair*> pairs_;
  std::vector<uint32_t> freePlaces_;
  std::unordered_map<const rnic::QueuePair*, uint32_t> places_;
  const Ptr<rnic::HostMemory> ringing_ = std::make_shared<rnic::HostMemory>(sizeof(uint32_t));
  uint32_t next_ = 1;
};

Objects& objects(Info info) { return *info.Env().GetInstanceData<Objects>(); }

// The two hot entry points.

// The clock's value goes into memory: no number is allocated.
napi_value readClock(napi_env env, napi_callback_info info) {
  void* data;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  *static_cast<double*>(data) = static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
  return nullptr;
}

// What crossing into native code costs: for benchmarks.
napi_value nothing(napi_env, napi_callback_info) { return nullptr; }

// The pair's place is in memory: to fetch an argument takes a third of an empty call.
napi_value ringDoorbell(napi_env env, napi_callback_info info) {
  void* data;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  rnic::QueuePair* const qp = static_cast<Objects*>(data)->pairToRing();
  if (qp != nullptr) qp->doorbell();
  return nullptr;
}

Napi::Value signalChannel(Info info) {
  return Napi::Boolean::New(info.Env(), rnic::Channel::signalChannel(static_cast<int>(integer32(info[0], "fd"))));
}

Napi::Value openDevice(Info info) {
  return Napi::Number::New(info.Env(), objects(info).add(std::make_shared<rnic::Device>(info[0].ToBoolean())));
}

Napi::Value closeObject(Info info) {
  objects(info).remove(info[0]);
  return info.Env().Undefined();
}

Napi::Value allocMemory(Info info) {
  const bool shared = objects(info).get<rnic::Device>(info[0])->shared;
  const uint64_t bytes = integer(info[1], "byteLength");
  if (!shared) {
    return Napi::Number::New(info.Env(), objects(info).add(std::make_shared<rnic::HostMemory>(bytes, pageOptions(info, 2))));
  }
  if (!info[2].IsUndefined() || !info[3].IsUndefined()) {
    throw VerbsError(VerbsError::Kind::Type, "memory that other processes can map has ordinary pages of any NUMA node");
  }
  return Napi::Number::New(info.Env(), objects(info).add(rnic::HostMemory::shared(bytes)));
}

Napi::Value memoryBuffer(Info info) { return arrayBuffer(info.Env(), objects(info).get<rnic::HostMemory>(info[0])); }

Napi::Value publishMemory(Info info) {
  return Napi::Number::New(info.Env(), rnic::HostMemory::publish(objects(info).get<rnic::HostMemory>(info[0])));
}

Napi::Value openMemory(Info info) {
  auto memory = rnic::HostMemory::published(integer32(info[0], "number"));
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("byteLength", static_cast<double>(memory->bytes()));
  result.Set("handle", objects(info).add(std::move(memory)));
  return result;
}

Napi::Value allocPd(Info info) {
  const auto& device = objects(info).get<rnic::Device>(info[0]);
  return Napi::Number::New(info.Env(), objects(info).add(std::make_shared<rnic::ProtectionDomain>(device)));
}

Napi::Value closePd(Info info) {
  if (objects(info).get<rnic::ProtectionDomain>(info[0])->users > 0) {
    throw VerbsError(VerbsError::Kind::Busy, "the protection domain is in use");
  }
  return closeObject(info);
}

Napi::Value regMr(Info info) {
  const auto& pd = objects(info).get<rnic::ProtectionDomain>(info[0]);
  const auto& memory = objects(info).get<rnic::HostMemory>(info[1]);
  const uint64_t offset = integer(info[2], "offset");
  const uint64_t length = integer(info[3], "length");
  const uint32_t access = integer32(info[4], "access");
  return Napi::Number::New(info.Env(), pd->addRegion(memory, offset, length, integer(info[5], "iova"), access));
}

Napi::Value deregMr(Info info) {
  objects(info).get<rnic::ProtectionDomain>(info[0])->removeRegion(integer32(info[1], "key"));
  return info.Env().Undefined();
}

Napi::Value allocMw(Info info) {
  return Napi::Number::New(info.Env(), objects(info).get<rnic::ProtectionDomain>(info[0])->addWindow());
}

Napi::Value deallocMw(Info info) {
  objects(info).get<rnic::ProtectionDomain>(info[0])->removeWindow(integer32(info[1], "key"));
  return info.Env().Undefined();
}

Napi::Value createChannel(Info info) {
  auto channel = std::make_shared<WatchedChannel>(objects(info).get<rnic::Device>(info[0])->shared);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("fd", channel->channel->fd());
  result.Set("handle", objects(info).add(std::move(channel)));
  return result;
}

Napi::Value waitChannel(Info info) {
  const Ptr<rnic::Channel> channel = objects(info).get<WatchedChannel>(info[0])->channel;
  return Napi::Boolean::New(info.Env(), channel->wait(static_cast<double>(integer(info[1], "timeoutNs"))));
}

Napi::Value listenToChannel(Info info) {
  WatchedChannel& watched = *objects(info).get<WatchedChannel>(info[0]);
  if (watched.watch == nullptr) {
    const auto take = [channel = watched.channel] {
      channel->drain();
      return true;
    };
    watched.watch = std::make_unique<SignalWatch>(info.Env(), watched.channel->fd(), take);
  }
  watched.watch->listen(info[1].IsFunction() ? Napi::Persistent(info[1].As<Napi::Function>())
                                             : Napi::FunctionReference());
  return info.Env().Undefined();
}

Napi::Value createCq(Info info) {
  const auto& device = objects(info).get<rnic::Device>(info[0]);
  const uint32_t depth = integer32(info[1], "depth");
  rnic::Ring<rnic::Cqe>::checkDepth("depth", depth, rnic::MAX_CQE);
  if (device->cqs >= rnic::MAX_CQ) throw VerbsError(VerbsError::Kind::Limit, "the device has no completion queue left");
  Ptr<rnic::Channel> channel;
  if (!info[2].IsUndefined()) channel = objects(info).get<WatchedChannel>(info[2])->channel;
  auto queue = std::make_shared<Queue>(Queue{device, std::make_shared<rnic::CompletionQueue>(
                                                         rnic::RING_PLACES_PER_CQE * depth, device->shared, channel)});
  device->cqs++;
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("ring", arrayBuffer(info.Env(), queue->cq->ring.memory()));
  result.Set("handle", objects(info).add(std::move(queue)));
  return result;
}

Napi::Value closeCq(Info info) {
  const auto& queue = objects(info).get<Queue>(info[0]);
  if (queue->cq->users > 0) throw VerbsError(VerbsError::Kind::Busy, "queue pairs complete into the queue");
  queue->device->cqs--;
  return closeObject(info);
}

Napi::Value createSrq(Info info) {
  const auto& pd = objects(info).get<rnic::ProtectionDomain>(info[0]);
  const uint32_t maxWr = integer32(info[1], "maxWr");
  rnic::Ring<rnic::RecvWqe>::checkDepth("maxWr", maxWr, rnic::MAX_SRQ_WR);
  auto srq = std::make_shared<rnic::ReceiveQueue>(rnic::Ring<rnic::RecvWqe>(maxWr, pd->device->shared), pd);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("ring", arrayBuffer(info.Env(), srq->ring.memory()));
  result.Set("handle", objects(info).add(std::move(srq)));
  return result;
}

Napi::Value closeSrq(Info info) {
  const auto& srq = objects(info).get<rnic::ReceiveQueue>(info[0]);
  if (srq->users > 0) throw VerbsError(VerbsError::Kind::Busy, "queue pairs take from the shared receive queue");
  srq->close();
  return closeObject(info);
}

Napi::Value createQp(Info info) {
  const auto& pd = objects(info).get<rnic::ProtectionDomain>(info[0]);
  const auto& sendCq = objects(info).get<Queue>(info[1]);
  const auto& recvCq = objects(info).get<Queue>(info[2]);
  const uint32_t maxSendWr = integer32(info[3], "maxSendWr");
  const uint32_t maxRecvWr = integer32(info[4], "maxRecvWr");
  rnic::Ring<rnic::Wqe>::checkDepth("maxSendWr", maxSendWr, rnic::MAX_QP_WR);
  rnic::Ring<rnic::RecvWqe>::checkDepth("maxRecvWr", maxRecvWr, rnic::MAX_QP_WR);
  if (sendCq->device != pd->device || recvCq->device != pd->device) {
    throw VerbsError(VerbsError::Kind::Type, "the completion queues are of another device");
  }
  Ptr<rnic::ReceiveQueue> receives;
  if (info[5].IsUndefined()) {
    receives = std::make_shared<rnic::ReceiveQueue>(rnic::Ring<rnic::RecvWqe>(maxRecvWr, pd->device->shared));
  } else {
    receives = objects(info).get<rnic::ReceiveQueue>(info[5]);
    if (receives->pd() != pd) {
      throw VerbsError(VerbsError::Kind::Type, "the shared receive queue is of another protection domain");
    }
  }
  auto qp = std::make_shared<rnic::QueuePair>(pd, sendCq->cq, recvCq->cq,
                                              rnic::Ring<rnic::Wqe>(maxSendWr, pd->device->shared), receives);

  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("qpNum", qp->qpNum);
  result.Set("sendRing", arrayBuffer(info.Env(), qp->sendRing.memory()));
  if (receives->pd() == nullptr) result.Set("recvRing", arrayBuffer(info.Env(), receives->ring.memory()));
  result.Set("place", objects(info).addPair(qp.get()));
  result.Set("handle", objects(info).add(std::move(qp)));
  return result;
}

Napi::Value qpState(Info info) {
  const auto& qp = objects(info).get<rnic::QueuePair>(info[0]);
  return Napi::Number::New(info.Env(), static_cast<uint32_t>(qp->state()));
}

Napi::Value qpRemote(Info info) {
  return Napi::Number::New(info.Env(), objects(info).get<rnic::QueuePair>(info[0])->remoteQpNum());
}

Napi::Value modifyQp(Info info) {
  const auto& qp = objects(info).get<rnic::QueuePair>(info[0]);
  qp->modify(static_cast<rnic::QpState>(integer32(info[1], "state")), integer32(info[2], "access"));
  return info.Env().Undefined();
}

Napi::Value closeQp(Info info) {
  const auto& qp = objects(info).get<rnic::QueuePair>(info[0]);
  objects(info).removePair(qp.get());
  qp->close();
  return closeObject(info);
}

std::vector<Ptr<rnic::QueuePair>> queuePairs(Info info, const Napi::Value& handles) {
  if (!handles.IsArray()) throw VerbsError(VerbsError::Kind::Type, "queue pairs must come as an array");
  const Napi::Array array = handles.As<Napi::Array>();
  std::vector<Ptr<rnic::QueuePair>> qps;
  for (uint32_t i = 0; i < array.Length(); i++) qps.push_back(objects(info).get<rnic::QueuePair>(array.Get(i)));
  return qps;
}

// What follows the scheme of the address; empty if it has another.
std::string unixPath(const Napi::Value& address) {
  if (!address.IsString()) throw VerbsError(VerbsError::Kind::Type, "address must be a string");
  const std::string text = address.As<Napi::String>();
  return text.compare(0, 5, "unix:") == 0 ? text.substr(5) : "";
}

Napi::Value listen(Info info) {
  const auto& channel = objects(info).get<WatchedChannel>(info[0])->channel;
  Ptr<rnic::Listener> listener;
  if (info[1].IsUndefined()) {
    listener = rnic::Listener::open(channel);
  } else {
    const std::string path = unixPath(info[1]);
    if (path.empty()) throw VerbsError(VerbsError::Kind::Range, "the address to listen at must be unix:PATH");
    listener = rnic::Listener::openUnix(channel, path, integer32(info[2], "engineThreads"));
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("address", listener->address);
  result.Set("handle", objects(info).add(std::move(listener)));
  return result;
}

Napi::Value connectionObject(Info info, Ptr<rnic::Connection> connection, bool server) {
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("id", static_cast<double>(connection->id));
  result.Set("qpCount", static_cast<double>(connection->qpCount()));
  if (server && connection->peer().pid != 0) {
    Napi::Object peer = Napi::Object::New(info.Env());
    peer.Set("pid", connection->peer().pid);
    peer.Set("uid", connection->peer().uid);
    result.Set("peer", peer);
  }
  const uint32_t handle = objects(info).add(std::move(connection));
  if (server) objects(info).markServerSide(handle);
  result.Set("handle", handle);
  return result;
}

Napi::Value nextConnection(Info info) {
  auto connection = objects(info).get<rnic::Listener>(info[0])->nextConnection();
  if (connection == nullptr) return info.Env().Undefined();
  return connectionObject(info, std::move(connection), true);
}

Napi::Value nextDisconnection(Info info) {
  const auto connection = objects(info).get<rnic::Listener>(info[0])->nextDisconnection();
  if (connection == nullptr) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(connection->id));
}

Napi::Value closeListener(Info info) {
  objects(info).get<rnic::Listener>(info[0])->close();
  return closeObject(info);
}

Napi::Value connect(Info info) {
  const std::string path = unixPath(info[0]);
  const std::string address = info[0].As<Napi::String>();
  const auto& channel = objects(info).get<WatchedChannel>(info[2])->channel;
  if (!path.empty()) {
    auto link = rnic::ClientLink::connect(path, queuePairs(info, info[1]), channel);
    Napi::Object result = Napi::Object::New(info.Env());
    result.Set("id", static_cast<double>(rnic::Connection::newId()));
    result.Set("qpCount", static_cast<double>(link->qpCount()));
    result.Set("handle", objects(info).add(std::move(link)));
    return result;
  }
  return connectionObject(info, rnic::Connection::request(address, queuePairs(info, info[1]), channel), false);
}

Napi::Value connectionState(Info info) {
  static const char* const names[] = {"connecting", "established", "rejected", "closed"};
  const auto* link = objects(info).find<rnic::ClientLink>(info[0]);
  const auto state = link != nullptr ? (*link)->state() : objects(info).get<rnic::Connection>(info[0])->state();
  return Napi::String::New(info.Env(), names[static_cast<int>(state)]);
}

const Ptr<rnic::Connection>& offeredConnection(Info info) {
  const bool isClients = objects(info).find<rnic::ClientLink>(info[0]) != nullptr;
  if (!isClients) {
    const auto& connection = objects(info).get<rnic::Connection>(info[0]);
    if (objects(info).isServerSide(info[0])) return connection;
  }
  throw VerbsError(VerbsError::Kind::Type, "the listener's side accepts or rejects a connection");
}

Napi::Value acceptConnection(Info info) {
  offeredConnection(info)->accept(queuePairs(info, info[1]));
  return info.Env().Undefined();
}

Napi::Value rejectConnection(Info info) {
  offeredConnection(info)->reject();
  return info.Env().Undefined();
}

Napi::Value closeConnection(Info info) {
  if (const auto* link = objects(info).find<rnic::ClientLink>(info[0])) {
    (*link)->close();
    return closeObject(info);
  }
  const uint32_t handle = integer32(info[0], "handle");
  const Ptr<rnic::Connection> connection = objects(info).get<rnic::Connection>(info[0]);
  objects(info).closeConnection(handle, *connection);
  objects(info).forgetConnection(handle);
  return info.Env().Undefined();
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  auto* const objects = new Objects(env);
  env.SetInstanceData<Objects>(objects);
  exports.Set("constants", verbsConstants(env));
  exports.Set("limits", deviceLimits(env));
  exports.Set("sharedLimits", sharedLimits(env));
  exports.Set("ibv", ibvEntryPoints(env));
  // Kept by the ArrayBuffer, which the addon's only user keeps for good.
  auto clock = std::make_shared<rnic::HostMemory>(sizeof(double));
  exports.Set("readClock", hotFunction(env, "readClock", readClock, clock->data()));
  exports.Set("clock", arrayBuffer(env, clock));
  exports.Set("nothing", hotFunction(env, "nothing", nothing, nullptr));
  exports.Set("ringing", arrayBuffer(env, objects->ringing()));
  exports.Set("doorbell", hotFunction(env, "doorbell", ringDoorbell, objects));
  exports.Set("signalChannel", Napi::Function::New<guarded<signalChannel>>(env));
  exports.Set("openDevice", Napi::Function::New<guarded<openDevice>>(env));
  exports.Set("closeObject", Napi::Function::New<guarded<closeObject>>(env));
  exports.Set("allocMemory", Napi::Function::New<guarded<allocMemory>>(env));
  exports.Set("memoryBuffer", Napi::Function::New<guarded<memoryBuffer>>(env));
  exports.Set("publishMemory", Napi::Function::New<guarded<publishMemory>>(env));
  exports.Set("openMemory", Napi::Function::New<guarded<openMemory>>(env));
  exports.Set("allocPd", Napi::Function::New<guarded<allocPd>>(env));
  exports.Set("closePd", Napi::Function::New<guarded<closePd>>(env));
  exports.Set("regMr", Napi::Function::New<guarded<regMr>>(env));
  exports.Set("deregMr", Napi::Function::New<guarded<deregMr>>(env));
  exports.Set("allocMw", Napi::Function::New<guarded<allocMw>>(env));
  exports.Set("deallocMw", Napi::Function::New<guarded<deallocMw>>(env));
  exports.Set("createChannel", Napi::Function::New<guarded<createChannel>>(env));
  exports.Set("waitChannel", Napi::Function::New<guarded<waitChannel>>(env));
  exports.Set("listenToChannel", Napi::Function::New<guarded<listenToChannel>>(env));
  exports.Set("createCq", Napi::Function::New<guarded<createCq>>(env));
  exports.Set("closeCq", Napi::Function::New<guarded<closeCq>>(env));
  exports.Set("createSrq", Napi::Function::New<guarded<createSrq>>(env));
  exports.Set("closeSrq", Napi::Function::New<guarded<closeSrq>>(env));
  exports.Set("createQp", Napi::Function::New<guarded<createQp>>(env));
  exports.Set("qpState", Napi::Function::New<guarded<qpState>>(env));
  exports.Set("qpRemote", Napi::Function::New<guarded<qpRemote>>(env));
  exports.Set("modifyQp", Napi::Function::New<guarded<modifyQp>>(env));
  exports.Set("closeQp", Napi::Function::New<guarded<closeQp>>(env));
  exports.Set("listen", Napi::Function::New<guarded<listen>>(env));
  exports.Set("nextConnection", Napi::Function::New<guarded<nextConnection>>(env));
  exports.Set("nextDisconnection", Napi::Function::New<guarded<nextDisconnection>>(env));
  exports.Set("closeListener", Napi::Function::New<guarded<closeListener>>(env));
  exports.Set("connect", Napi::Function::New<guarded<connect>>(env));
  exports.Set("connectionState", Napi::Function::New<guarded<connectionState>>(env));
  exports.Set("acceptConnection", Napi::Function::New<guarded<acceptConnection>>(env));
  exports.Set("rejectConnection", Napi::Function::New<guarded<rejectConnection>>(env));
  exports.Set("closeConnection", Napi::Function::New<guarded<closeConnection>>(env));
  return exports;
}

NODE_API_MODULE(patronus_native, initialise)

}  // namespace
