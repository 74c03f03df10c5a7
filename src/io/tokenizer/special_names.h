// What the small files beside a tokenizer say of its tokens: tokenizer_config.json, special_tokens_map.json and
// added_tokens.json, as transformers writes them and AutoTokenizer reads them. All are optional.
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
  std::optional<bool> legacy;            // of a SentencePiece model: text behind a special token begins with "▁", too
  std::optional<bool> add_prefix_space;  // to a SentencePiece model's text; false: no text begins with "▁" by itself

  // By id: added_tokens_decoder of tokenizer_config.json, else added_tokens.json.
  std::vector<AddedToken> added;
  std::string added_file;        // which of the two
  bool added_overrules = false;  // the first: its flags replace those of the tokenizer's own file

  // Without ids: what bos_token, eos_token, unk_token, sep_token, pad_token, cls_token and mask_token name, then tokens
  // with a name of the model's own, such as image_token, all special whatever else is said of them; and the list of
  // further tokens, which are special where tokenizer.json or added_tokens_decoder says nothing else.
  std::vector<AddedToken> roles, further;
};

// Where the config has added_tokens_decoder it is the only file read. Else special_tokens_map.json overrules it in what
// has a role, and only adds to its other tokens.
// Errors: a file that is there but is not JSON, or holds values of the wrong type.
SpecialNames read_special_names(const std::filesystem::path& folder);

}  // namespace llama_tp
