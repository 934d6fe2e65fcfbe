// A test program in a few lines: TEST(name) { ... CHECK(condition); ... }. A check that fails ends the program.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <thread>
#include <vector>

namespace check {

struct Options {
  uint64_t seed = 0;
  // How many times as long as in the suite.
  uint64_t scale = 1;
};

Options& options();

struct Registration {
  Registration(const char* name, void (*body)());
};

// What the program does when it is called with --NAME ARGUMENT, by a test that needs another process.
struct Program {
  Program(const char* name, void (*body)(const char* argument));
};

[[noreturn]] void failed(const char* file, int line, const char* what);

// Random numbers that follow from the program's seed: the `stream`-th sequence of them.
inline std::mt19937_64 random(uint64_t stream) { return std::mt19937_64(options().seed * 1000003 + stream); }

// Run body(0) to body(count - 1), each on a thread of its own.
inline void parallel(int count, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; i++) threads.emplace_back(body, i);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace check

#define TEST(name)                                               \
  static void test_##name();                                     \
  static check::Registration registration_##name(#name, test_##name); \
  static void test_##name()

#define TEST_PROGRAM(name)                                  \
  static void program_##name(const char* argument);        \
  static check::Program registration_##name(#name, program_##name); \
  static void program_##name(const char* argument)

#define CHECK(condition) \
  do {                   \
    if (!(condition)) check::failed(__FILE__, __LINE__, #condition); \
  } while (false)

// The call throws a VerbsError of this kind.
#define CHECK_REFUSED(expected, call)               \
  do {                                              \
    bool refused = false;                           \
    try {                                           \
      call;                                         \
    } catch (const rnic::VerbsError& error) {       \
      refused = error.kind == rnic::VerbsError::Kind::expected; \
    }                                               \
    if (!refused) check::failed(__FILE__, __LINE__, #call " is refused as " #expected); \
  } while (false)
