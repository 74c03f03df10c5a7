// Ranks as messages name them.
#pragma once

#include <string>
#include <vector>

namespace llama_tp {

// "rank 3 on node1"; "ranks 2, 3 of 8 on node1, node2", with of_all " of 8": the first few. hosts: of all ranks of the
// world.
std::string name_ranks(const std::vector<int>& ranks, const std::vector<std::string>& hosts,
                       const std::string& of_all = "");

}  // namespace llama_tp
