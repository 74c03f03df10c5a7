#include "report/resident.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <string>
#include <utility>

namespace llama_tp {

ResidentMemory resident_memory() {
  ResidentMemory memory;
  const std::array<std::pair<const char*, int64_t*>, 5> fields{{{"VmRSS:", &memory.total},
                                                                {"RssAnon:", &memory.anonymous},
                                                                {"RssFile:", &memory.files},
                                                                {"RssShmem:", &memory.shared},
                                                                {"VmHWM:", &memory.peak}}};
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    for (const auto& [name, bytes] : fields)
      if (word == name && status >> *bytes) *bytes *= 1024;
  if (memory.anonymous + memory.files + memory.shared == 0) memory.anonymous = memory.total;
  memory.peak = std::max(memory.peak, memory.total);
  return memory;
}

}  // namespace llama_tp
