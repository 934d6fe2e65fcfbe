// Writes the inputs that the fuzzers start from: seeds requests|control FOLDER
#include <cstdio>
#include <string>
#include <vector>

#include "script.h"

namespace {

using Bytes = std::vector<uint8_t>;

void write(const std::string& folder, const char* name, const Bytes& bytes) {
  FILE* const file = std::fopen((folder + "/" + name).c_str(), "wb");
  if (file == nullptr || std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size()) std::exit(1);
  std::fclose(file);
}

void add(Bytes& to, std::initializer_list<int> bytes) {
  for (const int byte : bytes) to.push_back(static_cast<uint8_t>(byte));
}

void act(Bytes& to, Act what, int pair = 0) { add(to, {static_cast<int>(what), pair}); }

// A request of the opcode, with the window it goes through; 24 bytes from the client's own region.
void request(Bytes& to, int opcode, int window, int flags = 2) {
  act(to, Act::Request, opcode << 1);
  const int range = window;
  add(to, {flags, window, 5, range, 0, 5, 64, 24, 3, 4, window});
}

void requests(const std::string& folder) {
  static const char* const names[] = {"write", "write-imm", "send", "send-imm", "read", "cas", "faa", "inv", "bind",
                                      "send-inv"};
  for (int opcode = 0; opcode < 10; opcode++) {
    Bytes bytes;
    for (int window = 0; window < 4; window++) {
      request(bytes, opcode, window);
      act(bytes, Act::Ring);
      act(bytes, Act::Recover);
    }
    write(folder, names[opcode], bytes);
  }
  Bytes inlined;
  for (const int opcode : {0, 1, 2, 3, 9}) request(inlined, opcode, 0, 2 | 8);
  act(inlined, Act::Ring);
  write(folder, "inline", inlined);
  Bytes storm;
  for (int pair = 0; pair < 2; pair++) {
    act(storm, Act::Storm, pair);
    add(storm, {1, 2, 3, 4});
  }
  write(folder, "storm", storm);
  Bytes wild;
  act(wild, Act::SendCounter);
  add(wild, {255, 255, 255, 255});
  act(wild, Act::Ring);
  act(wild, Act::ReceiveCounter);
  add(wild, {0, 0, 0, 128});
  act(wild, Act::QueueCounters, 2);
  add(wild, {1, 2, 3, 4, 1, 0, 0, 0});
  for (int state = 0; state < 8; state++) {
    act(wild, Act::Modify, 1);
    add(wild, {state, 31});
  }
  act(wild, Act::Recover);
  request(wild, 0, 0);
  act(wild, Act::Overwrite);
  add(wild, {0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  act(wild, Act::Ring);
  write(folder, "wild", wild);
}

// A likely message with as many descriptors, of the pool.
void message(Bytes& to, int type, int id, std::initializer_list<int> args, std::initializer_list<int> fds = {}) {
  add(to, {0, type - 1, id});
  add(to, args);
  for (size_t i = args.size(); i < 8; i++) to.push_back(0);
  add(to, {0, 0, 16, 0, static_cast<int>(fds.size())});
  add(to, fds);
}

// HELLO, ADD_CHANNEL, ADD_CQ, ADD_QP, ADD_REGION, CONNECT as they should be; types in the order of ControlType.
Bytes handshake() {
  Bytes bytes;
  message(bytes, 1, 0, {1});
  message(bytes, 2, 0, {}, {4});
  message(bytes, 3, 0, {0, 16, 0}, {2});
  message(bytes, 5, 9, {1, 0, 0, 16, 16, 0, 0, 255}, {0, 1});
  message(bytes, 6, 255, {1, 15}, {3});
  message(bytes, 11, 0, {});
  return bytes;
}

void control(const std::string& folder) {
  Bytes connected = handshake();
  add(connected, {4 | 8});
  write(folder, "connected", connected);
  for (int opcode = 0; opcode < 10; opcode++) {
    Bytes bytes = connected;
    for (int key = 0; key < 2; key++) add(bytes, {6, opcode, 2, key, 255, 0, 0, 8, 1, 1, 3});
    write(folder, ("request-" + std::to_string(opcode)).c_str(), bytes);
  }
  Bytes rejected = handshake();
  add(rejected, {4});
  write(folder, "rejected", rejected);
  for (int type = 1; type <= 16; type++) {
    Bytes bytes = connected;
    message(bytes, type, 9, {1, 0, 3}, {0});
    message(bytes, type, 9, {1, 0, 3}, {0});
    add(bytes, {7, 0, 1, 0, 0, 8, 0, 3});
    write(folder, ("message-" + std::to_string(type)).c_str(), bytes);
  }
  for (int fd = 0; fd < 14; fd++) {
    Bytes bytes;
    message(bytes, 1, 0, {1});
    for (const int type : {2, 3, 4, 5, 6}) message(bytes, type, 1, {0, 16}, {fd, fd});
    write(folder, ("descriptor-" + std::to_string(fd)).c_str(), bytes);
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const std::string which = arguments[1];
  if (which == "requests") requests(arguments[2]);
  if (which == "control") control(arguments[2]);
  return 0;
}
