// What encode() puts around the ids of a text when special tokens are asked for: the BOS of Llama, an EOS elsewhere.
#pragma once

#include <cstdint>
#include <vector>

#include "base/json_part.h"

namespace llama_tp {

struct SpecialFrame {
  std::vector<int32_t> before, behind;
};

// `component`: tokenizer.json's post_processor; null for none. Only what is done to a single text is read. Errors: a
// type that is not supported, by name; a template without the text, or with tokens that it does not define.
SpecialFrame read_post_processor(const JsonPart& component);

}  // namespace llama_tp
