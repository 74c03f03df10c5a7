// Numbers that a user writes as part of something longer: rank=0,world=8.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace llama_tp {

// What is written in digits and nothing else, no sign either; none where it lies outside of [least, most], least >= 0.
std::optional<int64_t> parse_count(std::string_view digits, int64_t least, int64_t most);

}  // namespace llama_tp
