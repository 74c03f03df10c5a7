#include "ptx/instructions.h"

namespace llama_tp::ptx {

const std::map<std::string, Known, std::less<>>& instructions() {
  static const Table table = [] {
    Table all;
    add_arithmetic(all);
    add_flow(all);
    add_memory_accesses(all);
    add_copies(all);
    add_matrices(all);
    return all;
  }();
  return table;
}

}  // namespace llama_tp::ptx
