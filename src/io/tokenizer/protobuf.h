// The fields of a Protocol Buffers message (protobuf.dev/programming-guides/encoding), as far as tokenizer.model, which is
// one, is looked at beside its library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace llama_tp {

// Takes a number off the front of `message`; what is cut short counts as far as it goes.
inline uint64_t take_varint(std::string_view& message) {
  uint64_t value = 0;
  for (int shift = 0; !message.empty() && shift < 64; shift += 7) {
    const auto byte = static_cast<unsigned char>(message.front());
    message.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) break;
  }
  return value;
}

// visit(number, value, bytes) for every field in order; the value is that of numbers and truths, the bytes those of strings
// and messages. Of a field that comes again the last one counts.
template <typename Visit>
void for_each_field(std::string_view message, const Visit& visit) {
  enum WireType : uint64_t { varint = 0, fixed_64 = 1, bytes = 2, fixed_32 = 5 };  // the low bits of a field's key
  while (!message.empty()) {
    const uint64_t key = take_varint(message), type = key & 7;
    const uint64_t value = type == varint ? take_varint(message) : 0;
    const uint64_t size = type == bytes ? take_varint(message) : type == fixed_64 ? 8 : type == fixed_32 ? 4 : 0;
    const std::string_view content = message.substr(0, size);
    message.remove_prefix(content.size());
    visit(key >> 3, value, type == bytes ? content : std::string_view());
  }
}

}  // namespace llama_tp
