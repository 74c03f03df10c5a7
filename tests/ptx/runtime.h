// The GPU whose runtime ptx/runtime.cpp stands in for.
#pragma once

#include <string>
#include <vector>

namespace llama_tp::ptx {

// Its compute capability: 9.0, or 8.0.
int& compute_capability();

// Of the kernels of this program those that no launch has started, by name; only those whose name has `part`.
std::vector<std::string> never_started(const std::string& part);

}  // namespace llama_tp::ptx
