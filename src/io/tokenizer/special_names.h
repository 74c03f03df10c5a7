// What the small files beside a tokenizer say of its special tokens: tokenizer_config.json, special_tokens_map.json and
// added_tokens.json, as transformers writes them. All are optional.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/tokenizer/added_tokens.h"

namespace llama_tp {

struct SpecialNames {
  std::optional<std::string> bos, eos;
  std::optional<bool> add_bos, add_eos;
  std::vector<AddedToken> added;
};

// Errors: a file that is there but is not JSON, or holds values of the wrong type.
SpecialNames read_special_names(const std::filesystem::path& folder);

}  // namespace llama_tp
