// Names for addresses of this program's code, from its debugging information (addr2line).
#pragma once

#include <map>
#include <string>
#include <vector>

namespace llama_tp::accesses {

struct Symbol {
  std::string function;  // without namespaces and parameters
  // From the innermost function that was compiled into its caller to the one that stands alone: "file.h:12".
  std::vector<std::string> lines;
};

// Errors: addr2line is missing.
std::map<const void*, Symbol> symbols_of(const std::vector<const void*>& addresses);

}  // namespace llama_tp::accesses
