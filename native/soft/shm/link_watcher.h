// A thread of the client's process that sleeps until a link ends from the other side.
#pragma once

#include <memory>

namespace rnic {

class ClientLink;

class LinkWatcher {
 public:
  static void watch(const std::shared_ptr<ClientLink>& link);
  static void forget(const ClientLink& link);
};

}  // namespace rnic
