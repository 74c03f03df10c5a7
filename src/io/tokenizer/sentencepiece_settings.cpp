#include "io/tokenizer/sentencepiece_settings.h"

#include <cstdint>

#include "io/tokenizer/protobuf.h"

namespace llama_tp {

namespace {

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
