#include "hostile_node.h"

#include <dirent.h>

#include <fstream>

namespace rig {

Resources resources() {
  Resources found;
  DIR* const directory = opendir("/proc/self/fd");
  while (readdir(directory) != nullptr) found.descriptors++;
  closedir(directory);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) found.mappings += line.find("memfd:") != std::string::npos;
  return found;
}

void besideAnHonestClient(const std::function<void(Node&)>& attack) {
  // The thread that watches links, and its descriptor, are made once.
  static const bool warm = [] {
    Node node;
    Honest honest(node);
    return true;
  }();
  CHECK(warm);
  const Resources atFirst = resources();
  {
    Node node;
    {
      Honest honest(node);
      const Resources before = resources();
      attack(node);
      node.expectCanaries();
      // The engines learn of ends on their own threads.
      for (int i = 0; i < 2000 && (node.clients() > 1 || resources() > before); i++) sleepMs(10);
      CHECK(node.clients() == 1);
      CHECK(!(resources() > before));
    }
  }
  for (int i = 0; i < 2000 && resources() > atFirst; i++) sleepMs(10);
  CHECK(!(resources() > atFirst));
}

}  // namespace rig
