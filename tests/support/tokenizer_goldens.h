// Where the goldens of the tokenizers are, and how their tests call what is in them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

namespace llama_tp {

using nlohmann::json;
using Ids = std::vector<int32_t>;

inline const std::filesystem::path goldens = "tests/goldens/tokenizers";

}  // namespace llama_tp
