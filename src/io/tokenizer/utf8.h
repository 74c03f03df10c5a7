// UTF-8 (RFC 3629) as data and tokenizers need it: where text stops being valid, where a character ends, and what stands in for broken
// bytes. Every question is answered from one scan of the longest well-formed start of a character
// (Unicode 15, chapter 3, table 3-7), so that all answers agree.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace llama_tp::utf8 {

// The bytes of U+FFFD, the replacement character.
inline constexpr std::string_view replacement = "\xEF\xBF\xBD";

// What stands at one position: a whole character of `length` bytes; or `length` bytes that begin a character which the
// text's end cuts; or `length` bytes (at least one) which no continuation could make a character.
enum class Form { whole, cut, broken };
struct Sequence {
  Form form;
  size_t length;
};
Sequence sequence_at(std::string_view text, size_t position);

// The text behind the byte order mark (U+FEFF) that some editors put before it; all of it where there is none.
std::string_view without_mark(std::string_view text);

// The offset of the first byte that does not belong to a whole character; text.size() when there is none.
size_t first_invalid(std::string_view text);

// The length of a character in valid text, from its first byte.
inline size_t length_from_lead(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// The code point at `position` of valid text; moves `position` behind it.
char32_t next(std::string_view text, size_t& position);

// The start of the last character that ends before `position` (> 0) of valid text.
size_t previous_start(std::string_view text, size_t position);

void append(std::string& out, char32_t code_point);

// Appends `bytes`, with one U+FFFD for every broken sequence, and returns how many bytes it took: all of them, less a
// character that the end cuts, which more bytes may still complete.
size_t append_replacing(std::string& out, std::string_view bytes);

// How many bytes at the end of `bytes` begin a character that is not complete.
size_t cut_length(std::string_view bytes);

// The Unicode property White_Space.
bool is_white_space(char32_t code_point);

}  // namespace llama_tp::utf8
