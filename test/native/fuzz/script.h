// Inputs of the fuzzers are scripts: an octet that says what to do, then what it needs. Octets that lack read as zero,
// so that every input is a script.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

class Script {
 public:
  Script(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  bool atEnd() const { return left_ == 0; }
  void bytes(void* into, size_t size) {
    const size_t there = std::min(size, left_);
    std::memset(into, 0, size);
    std::memcpy(into, data_, there);
    data_ += there;
    left_ -= there;
  }
  template <typename T>
  T number() {
    T value;
    bytes(&value, sizeof value);
    return value;
  }
  uint8_t octet() { return number<uint8_t>(); }

 private:
  const uint8_t* data_;
  size_t left_;
};

// What requests_fuzzer does with a pair (an octet each, and the pair's index in another).
enum class Act : uint8_t {
  RawRequest,      // 64 octets into the next place of the send ring
  Request,         // a likely one: opcode, flags, keys by index, places near the ends of ranges
  RawReceive,      // 32 octets into the next place of the receive ring
  Receive,         // a likely one
  Ring,            // tell the RNIC of what was posted
  SendCounter,     // any value
  ReceiveCounter,  // any value
  QueueCounters,   // of the send or receive completion queue
  Poll,            // as a good user does
  Overwrite,       // any octets at any place of the send ring
  Modify,          // the state
  Recover,         // from any state to RTS, both ends
  Storm,           // many likely requests, from a seed
  COUNT,
};
