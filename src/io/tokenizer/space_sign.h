// Vocabularies that hold text as it is write the space as "▁", which mostly begins a token.
#pragma once

#include <cstddef>
#include <string_view>

namespace llama_tp {

inline constexpr std::string_view space_sign = "\xE2\x96\x81";  // U+2581

// The start of the next "▁" behind a character that is no "▁", from `from` on; text.size() where there is none.
size_t next_border(std::string_view text, size_t from);

}  // namespace llama_tp
