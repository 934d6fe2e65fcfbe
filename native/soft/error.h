#pragma once

#include <stdexcept>
#include <string>

namespace rnic {

// What the verbs calls refuse (work requests never throw: they complete with a status).
class VerbsError : public std::runtime_error {
 public:
  enum class Kind { Range, Type, Busy, Closed, Limit, NoListener, NoDevice };
  VerbsError(Kind kind, const std::string& message) : std::runtime_error(message), kind(kind) {}
  const Kind kind;
};

}  // namespace rnic
