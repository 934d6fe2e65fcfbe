// Who listens at a path, and whom it lets in.
#include <spawn.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "../../../native/soft/shm/engine.h"
#include "hostile_node.h"

using namespace rig;

namespace {

bool exists(const std::string& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0;
}

// What a server leaves behind that was killed.
void leaveDeadSocket(const std::string& path) {
  const Descriptor fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  CHECK(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
}

}  // namespace

TEST(of_servers_that_replace_a_dead_one_at_once_one_wins) {
  const std::string path = "/tmp/rnic-test-race-" + std::to_string(getpid()) + ".sock";
  for (uint64_t round = 0; round < rounds(50); round++) {
    if (round % 4 != 0) leaveDeadSocket(path);
    constexpr int SERVERS = 4;
    std::atomic<int> ready{0};
    std::vector<std::shared_ptr<Listener>> listeners(SERVERS);
    check::parallel(SERVERS, [&](int index) {
      for (ready++; ready < SERVERS;) std::this_thread::yield();
      try {
        listeners[index] = Listener::openUnix(std::make_shared<Channel>(false), path, 1);
      } catch (const VerbsError& error) {
        CHECK(error.kind == VerbsError::Kind::Busy);
      }
    });
    int winners = 0;
    for (const auto& listener : listeners) winners += listener != nullptr;
    CHECK(winners == 1);
    CHECK(HostilePeer(path).shake(0));
    for (const auto& listener : listeners) {
      if (listener != nullptr) listener->close();
    }
    CHECK(!exists(path) && !exists(path + ".lock"));
  }
}

TEST(a_server_leaves_alone_what_has_taken_its_place) {
  const std::string path = "/tmp/rnic-test-place-" + std::to_string(getpid()) + ".sock";
  const auto channel = std::make_shared<Channel>(false);
  const auto first = Listener::openUnix(channel, path, 1);
  CHECK_REFUSED(Busy, Listener::openUnix(channel, path, 1));
  CHECK(unlink(path.c_str()) == 0);
  const auto second = Listener::openUnix(channel, path, 1);
  first->close();
  CHECK(HostilePeer(path).shake(0));
  second->close();
  CHECK(!exists(path));
}

// What the test below has another process do: to connect as often as it can and say nothing, until its input ends.
TEST_PROGRAM(hold_places) {
  std::vector<std::shared_ptr<ControlSocket>> silent;
  for (int i = 0; i < 100; i++) silent.push_back(ControlSocket::connect(argument));
  char octet = 0;
  CHECK(write(STDOUT_FILENO, &octet, 1) == 1);
  while (read(STDIN_FILENO, &octet, 1) > 0) {
  }
}

TEST(one_process_does_not_take_all_places_for_handshakes) {
  besideAnHonestClient([](Node& node) {
    int input[2];
    int output[2];
    CHECK(pipe2(input, O_CLOEXEC) == 0 && pipe2(output, O_CLOEXEC) == 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
    std::string path = node.path;
    std::string self = "/proc/self/exe";
    std::string option = "--hold_places";
    char* const arguments[] = {self.data(), option.data(), path.data(), nullptr};
    pid_t child = 0;
    CHECK(posix_spawn(&child, self.c_str(), &actions, nullptr, arguments, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    close(input[0]);
    close(output[1]);
    char octet = 0;
    CHECK(read(output[0], &octet, 1) == 1);
    for (int i = 0; i < 8; i++) CHECK(HostilePeer(node.path).connect());
    close(input[1]);
    close(output[0]);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
  });
}
