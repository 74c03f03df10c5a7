// Where text stops being UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing past U+10FFFF).
#pragma once

#include <cstdint>
#include <string_view>

namespace llama_tp {

// Offset of the first byte that does not begin or continue a character rightly; -1 where all is UTF-8.
int64_t first_bad_utf8(std::string_view text);

}  // namespace llama_tp
