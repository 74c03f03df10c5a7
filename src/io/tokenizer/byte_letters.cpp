#include "io/tokenizer/byte_letters.h"

#include <array>

#include "io/tokenizer/utf8.h"

namespace llama_tp {

namespace {

constexpr char32_t first_spare = 0x100;
constexpr size_t alphabet_end = 0x144;  // 0x100 + 68 bytes that do not stand for themselves

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

struct Alphabet {
  std::array<char32_t, 256> letter{};
  std::array<int, alphabet_end> byte{};
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  for (int& byte : alphabet.byte) byte = -1;
  char32_t spare = first_spare;
  for (unsigned byte = 0; byte < 256; ++byte) {
    alphabet.letter[byte] = stands_for_itself(byte) ? byte : spare++;
    alphabet.byte[alphabet.letter[byte]] = static_cast<int>(byte);
  }
  return alphabet;
}

constexpr Alphabet alphabet = make_alphabet();

}  // namespace

void append_letters(std::string& out, std::string_view bytes) {
  for (char byte : bytes) utf8::append(out, alphabet.letter[static_cast<unsigned char>(byte)]);
}

bool append_bytes(std::string& out, std::string_view letters) {
  const size_t before = out.size();
  for (size_t position = 0; position < letters.size();) {
    const char32_t letter = utf8::next(letters, position);
    const int byte = letter < alphabet_end ? alphabet.byte[letter] : -1;
    if (byte < 0) {
      out.resize(before);
      return false;
    }
    out.push_back(static_cast<char>(byte));
  }
  return true;
}

}  // namespace llama_tp
