// Runs the tests of the software RNIC: rnic-test [--seed N] [--scale N] [--only NAME]
#include <chrono>
#include <cstring>
#include <map>
#include <string>

#include "check.h"

namespace check {

namespace {
struct Test {
  const char* name;
  void (*body)();
};
std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}
}  // namespace

std::map<std::string, void (*)(const char*)>& programs() {
  static std::map<std::string, void (*)(const char*)> all;
  return all;
}

Options& options() {
  static Options all;
  return all;
}

Registration::Registration(const char* name, void (*body)()) { tests().push_back({name, body}); }

Program::Program(const char* name, void (*body)(const char*)) { programs()[name] = body; }

void failed(const char* file, int line, const char* what) {
  std::fprintf(stderr, "%s:%d: failed: %s (seed %llu)\n", file, line, what,
               static_cast<unsigned long long>(options().seed));
  std::_Exit(1);
}

}  // namespace check

int main(int count, char** arguments) {
  if (count == 3 && std::strncmp(arguments[1], "--", 2) == 0) {
    const auto found = check::programs().find(arguments[1] + 2);
    if (found != check::programs().end()) {
      found->second(arguments[2]);
      return 0;
    }
  }
  check::Options& options = check::options();
  options.seed = std::random_device{}();
  const char* only = nullptr;
  for (int i = 1; i + 1 < count; i += 2) {
    if (std::strcmp(arguments[i], "--seed") == 0) options.seed = std::strtoull(arguments[i + 1], nullptr, 10);
    if (std::strcmp(arguments[i], "--scale") == 0) options.scale = std::strtoull(arguments[i + 1], nullptr, 10);
    if (std::strcmp(arguments[i], "--only") == 0) only = arguments[i + 1];
  }
  std::printf("seed %llu, scale %llu\n", static_cast<unsigned long long>(options.seed),
              static_cast<unsigned long long>(options.scale));
  int ran = 0;
  for (const auto& test : check::tests()) {
    if (only != nullptr && std::strcmp(only, test.name) != 0) continue;
    const auto began = std::chrono::steady_clock::now();
    test.body();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    std::printf("ok %s (%.2f s)\n", test.name, took.count());
    std::fflush(stdout);
    ran++;
  }
  std::printf("%d tests passed\n", ran);
  return ran > 0 ? 0 : 2;
}
