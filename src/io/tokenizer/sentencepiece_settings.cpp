#include "io/tokenizer/sentencepiece_settings.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace llama_tp {

namespace {

// The wire types of a field: the low bits of its key.
enum WireType : uint64_t { wire_varint = 0, wire_64_bits = 1, wire_bytes = 2, wire_32_bits = 5 };

uint64_t take_varint(std::string_view& message) {
  uint64_t value = 0;
  for (int shift = 0; !message.empty() && shift < 64; shift += 7) {
    const auto byte = static_cast<unsigned char>(message.front());
    message.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) break;
  }
  return value;
}

// visit(number, value, bytes) for every field; the value is that of numbers and truths, the bytes those of all others.
template <typename Visit>
void for_each_field(std::string_view message, const Visit& visit) {
  while (!message.empty()) {
    const uint64_t key = take_varint(message), type = key & 7;
    uint64_t value = 0;
    size_t size = 0;
    if (type == wire_varint) value = take_varint(message);
    if (type == wire_bytes) size = take_varint(message);
    if (type == wire_64_bits) size = 8;
    if (type == wire_32_bits) size = 4;
    visit(key >> 3, value, message.substr(0, size));
    message.remove_prefix(std::min(size, message.size()));
  }
}

void read_trainer(std::string_view message, SentencePieceSettings& settings) {
  constexpr uint64_t model_type = 3, bpe = 2, treat_whitespace_as_suffix = 24;
  for_each_field(message, [&](uint64_t number, uint64_t value, std::string_view) {
    if (number == model_type) settings.byte_pairs = value == bpe;
    if (number == treat_whitespace_as_suffix) settings.space_as_suffix = value != 0;
  });
}

void read_normalizer(std::string_view message, SentencePieceSettings& settings) {
  constexpr uint64_t precompiled_charsmap = 2, add_dummy_prefix = 3, remove_extra_whitespaces = 4,
                     escape_whitespaces = 5;
  for_each_field(message, [&](uint64_t number, uint64_t value, std::string_view bytes) {
    if (number == precompiled_charsmap) settings.rewrites_characters = !bytes.empty();
    if (number == add_dummy_prefix) settings.dummy_prefix = value != 0;
    if (number == remove_extra_whitespaces) settings.remove_extra_whitespaces = value != 0;
    if (number == escape_whitespaces) settings.escape_whitespaces = value != 0;
  });
}

}  // namespace

// Of a field that comes again the last one counts.
SentencePieceSettings read_sentencepiece_settings(std::string_view model) {
  constexpr uint64_t trainer_spec = 2, normalizer_spec = 3;
  SentencePieceSettings settings;
  for_each_field(model, [&](uint64_t number, uint64_t, std::string_view bytes) {
    if (number == trainer_spec) read_trainer(bytes, settings);
    if (number == normalizer_spec) read_normalizer(bytes, settings);
  });
  return settings;
}

}  // namespace llama_tp
