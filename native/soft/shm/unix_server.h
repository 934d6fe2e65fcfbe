// The socket at which a node meets its clients of other processes, and the engines that serve them.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine.h"

namespace rnic {

class UnixServer {
 public:
  // Throws Busy if somebody listens there already. A socket that nobody listens at any more is replaced.
  UnixServer(std::string path, uint32_t engines);
  ~UnixServer();

  void open(std::shared_ptr<Listener> listener);
  // No new clients; those that are connected are served on.
  void close();

 private:
  void removeSocket() const;
  void run(const std::shared_ptr<Listener>& listener);

  const std::string path_;
  uint64_t file_ = 0;  // the inode of the socket's file
  Descriptor listening_;
  Descriptor closing_;
  std::vector<std::shared_ptr<Engine>> engines_;
  std::thread thread_;
};

}  // namespace rnic
