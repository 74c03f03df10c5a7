// The byte-level alphabet of GPT-2: every byte spelled as one visible letter, so that a vocabulary of bytes can be
// written as text. Printable Latin-1 bytes stand for themselves, the other 68 for U+0100 and on ("Ġ" is the space).
#pragma once

#include <string>
#include <string_view>

namespace llama_tp {

void append_letters(std::string& out, std::string_view bytes);

// Appends the bytes that `letters` (valid UTF-8) spell, and returns true; or leaves `out` and returns false where a
// character is not of the alphabet.
bool append_bytes(std::string& out, std::string_view letters);

}  // namespace llama_tp
