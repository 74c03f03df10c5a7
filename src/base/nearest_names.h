// What somebody who wrote a name that does not exist may have meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace llama_tp {

// The names with the least Levenshtein distance to `given`, of those that differ from it in a third of its letters at most,
// or that it continues or abbreviates: for learnig-rate, learning-rate; for temperature, temp; for tensor,
// tensor-parallel. Empty where there are none.
std::vector<std::string> nearest_names(std::string_view given, const std::vector<std::string>& names);

}  // namespace llama_tp
