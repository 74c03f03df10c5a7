#include "io/tokenizer/utf8.h"

#include <cstdint>
#include <cstring>

namespace llama_tp::utf8 {

namespace {

struct Range {
  unsigned char low, high;
  bool has(unsigned char byte) const { return low <= byte && byte <= high; }
};

// What the second byte may be: narrower after four lead bytes, which rules out overlong forms, surrogates and
// everything past U+10FFFF.
Range second_byte(unsigned char lead) {
  switch (lead) {
    case 0xE0:
      return {0xA0, 0xBF};
    case 0xED:
      return {0x80, 0x9F};
    case 0xF0:
      return {0x90, 0xBF};
    case 0xF4:
      return {0x80, 0x8F};
    default:
      return {0x80, 0xBF};
  }
}

}  // namespace

Sequence sequence_at(std::string_view text, size_t position) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[position + i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {Form::whole, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Form::broken, 1};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  Range allowed = second_byte(lead);
  for (size_t i = 1; i < length; ++i) {
    if (position + i == text.size()) return {Form::cut, i};
    if (!allowed.has(byte(i))) return {Form::broken, i};
    allowed = {0x80, 0xBF};
  }
  return {Form::whole, length};
}

std::string_view without_mark(std::string_view text) {
  constexpr std::string_view mark = "\xEF\xBB\xBF";
  if (text.starts_with(mark)) text.remove_prefix(mark.size());
  return text;
}

size_t first_invalid(std::string_view text) {
  size_t position = 0;
  while (position < text.size()) {
    uint64_t eight;
    if (position + sizeof eight <= text.size()) {
      std::memcpy(&eight, text.data() + position, sizeof eight);
      if ((eight & 0x8080808080808080u) == 0) {
        position += sizeof eight;
        continue;
      }
    }
    const Sequence sequence = sequence_at(text, position);
    if (sequence.form != Form::whole) return position;
    position += sequence.length;
  }
  return position;
}

char32_t next(std::string_view text, size_t& position) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[position + i])); };
  const size_t length = length_from_lead(text[position]);
  char32_t code_point = byte(0);
  if (length == 2) {
    code_point = (code_point & 0x1F) << 6 | (byte(1) & 0x3F);
  } else if (length == 3) {
    code_point = (code_point & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
  } else if (length == 4) {
    code_point = (code_point & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  }
  position += length;
  return code_point;
}

size_t previous_start(std::string_view text, size_t position) {
  do {
    --position;
  } while ((static_cast<unsigned char>(text[position]) & 0xC0) == 0x80);
  return position;
}

void append(std::string& out, char32_t c) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  }
}

size_t append_replacing(std::string& out, std::string_view bytes) {
  size_t position = 0;
  while (position < bytes.size()) {
    const Sequence sequence = sequence_at(bytes, position);
    if (sequence.form == Form::cut) break;
    out.append(sequence.form == Form::whole ? bytes.substr(position, sequence.length) : replacement);
    position += sequence.length;
  }
  return position;
}

size_t cut_length(std::string_view bytes) {
  size_t position = 0;
  while (position < bytes.size()) {
    const Sequence sequence = sequence_at(bytes, position);
    if (sequence.form == Form::cut) return sequence.length;
    position += sequence.length;
  }
  return 0;
}

bool is_white_space(char32_t c) {
  if (c <= 0x20) return c == 0x20 || (c >= 0x09 && c <= 0x0D);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

}  // namespace llama_tp::utf8
