#include "engine.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "../spin_lock.h"

namespace rnic {

namespace {

// How long an engine polls in vain before it sleeps: some times what waking it costs.
constexpr uint64_t POLL_NS = 50000;
// And how long before it lets others run between two looks, who may be the clients that it waits for.
constexpr uint64_t SPIN_NS = 5000;
// A look that takes so long was preempted: others want the core, perhaps the clients that are waited for. The engine
// then sleeps at once so many times: who is woken gets a core sooner than who has used up his share by polling.
constexpr uint64_t PREEMPTED_NS = 100000;
constexpr uint32_t CROWDED_SLEEPS = 64;
// Rounds of polling between two looks at the sockets.
constexpr uint32_t ROUNDS_PER_LOOK = 256;
constexpr uint64_t HANDSHAKE_NS = 5000000000;
constexpr uint64_t WAKE_UP_ID = 0;
constexpr int EVENTS_AT_ONCE = 64;

uint64_t nowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

void watch(int epoll, int fd, uint64_t id) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP;
  event.data.u64 = id;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
    throw VerbsError(VerbsError::Kind::Limit, "the engine can't watch one more descriptor");
  }
}

}  // namespace

Engine::Engine() : epoll_(epoll_create1(EPOLL_CLOEXEC)), wakeUp_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (!epoll_.has() || !wakeUp_.has()) {
    throw VerbsError(VerbsError::Kind::Limit, "no descriptor left for an engine");
  }
  watch(epoll_.get(), wakeUp_.get(), WAKE_UP_ID);
}

Engine::~Engine() = default;

std::shared_ptr<Engine> Engine::start() {
  std::shared_ptr<Engine> engine(new Engine());
  std::thread([engine] { engine->run(); }).detach();
  return engine;
}

std::shared_ptr<ServedClient> Engine::add(std::shared_ptr<ControlSocket> socket, const ucred& peer,
                                          std::shared_ptr<Listener> listener) {
  auto client = std::make_shared<ServedClient>(std::move(socket), peer, std::move(listener), shared_from_this());
  clientCount_++;
  handshakeCount_++;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    added_.push_back(client);
  }
  wake();
  return client;
}

void Engine::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wakeUp_.get(), &one, sizeof one);
}

void Engine::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
  }
  wake();
}

void Engine::run() {
  uint32_t rounds = 0;
  uint32_t crowded = 0;
  uint64_t idleSince = 0;
  uint64_t lastLook = 0;
  while (!ending_) {
    const bool worked = progress();
    if (++rounds % ROUNDS_PER_LOOK == 0 && takeEvents(0)) idleSince = 0;
    if (worked) {
      idleSince = 0;
      continue;
    }
    const uint64_t now = nowNs();
    if (idleSince == 0) {
      idleSince = now;
    } else if (now - lastLook > PREEMPTED_NS) {
      crowded = CROWDED_SLEEPS;
    }
    lastLook = now;
    if (crowded == 0 && now - idleSince < SPIN_NS) {
      cpuRelax();
    } else if (crowded == 0 && now - idleSince < POLL_NS) {
      sched_yield();
    } else {
      if (crowded > 0) crowded--;
      sleep();
      idleSince = 0;
    }
  }
}

bool Engine::progress() {
  bool worked = false;
  for (ServedClient* const client : polled_) worked |= client->progress();
  return worked;
}

void Engine::sleep() {
  bool hasWork = false;
  for (ServedClient* const client : polled_) hasWork |= client->fallAsleep();
  if (!hasWork) takeEvents(handshakeCount_ > 0 ? 1000 : -1);
  for (ServedClient* const client : polled_) client->wakeUp();
}

bool Engine::takeEvents(int timeoutMs) {
  epoll_event events[EVENTS_AT_ONCE];
  const int count = epoll_wait(epoll_.get(), events, EVENTS_AT_ONCE, timeoutMs);
  for (int i = 0; i < count; i++) {
    const uint64_t id = events[i].data.u64;
    if (id == WAKE_UP_ID) {
      uint64_t ignored;
      [[maybe_unused]] const ssize_t got = read(wakeUp_.get(), &ignored, sizeof ignored);
      takeNewClients();
      continue;
    }
    const auto found = clients_.find(id);
    if (found == clients_.end()) continue;
    // What it said before its end is of no interest any more.
    const bool gone = (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    if (gone || !found->second.served->takeMessages()) drop(id);
  }
  if (count > 0 || handshakeCount_ > 0) dropThose();
  return count > 0;
}

void Engine::takeNewClients() {
  std::vector<std::shared_ptr<ServedClient>> added;
  bool stopped;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    added.swap(added_);
    stopped = stopped_;
  }
  for (auto& client : added) {
    const uint64_t id = nextId_++;
    try {
      watch(epoll_.get(), client->fd(), id);
    } catch (const VerbsError&) {
      client->drop();
      continue;
    }
    polled_.push_back(client.get());
    clients_[id] = {std::move(client), nowNs() + HANDSHAKE_NS};
  }
  ending_ = stopped && clients_.empty();
}

// Those whose time is over, or of whom another thread asks it.
void Engine::dropThose() {
  std::vector<uint64_t> ids;
  size_t handshakes = 0;
  const uint64_t now = nowNs();
  for (const auto& [id, client] : clients_) {
    const bool shakesHands = client.served->shakingHands();
    if (client.served->endRequested() || (shakesHands && now >= client.handshakeUntilNs)) {
      ids.push_back(id);
    } else if (shakesHands) {
      handshakes++;
    }
  }
  for (const uint64_t id : ids) drop(id);
  clientCount_ = clients_.size();
  handshakeCount_ = handshakes;
}

void Engine::drop(uint64_t id) {
  const auto found = clients_.find(id);
  const std::shared_ptr<ServedClient> client = std::move(found->second.served);
  clients_.erase(found);
  polled_.erase(std::find(polled_.begin(), polled_.end(), client.get()));
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, client->fd(), nullptr);
  client->drop();
  if (clients_.empty()) {
    std::lock_guard<std::mutex> lock(mutex_);
    ending_ = stopped_ && added_.empty();
  }
}

}  // namespace rnic
