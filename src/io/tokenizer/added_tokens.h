// Tokens that are found in the text by their name before anything cuts it: the marks of a chat template, BOS and EOS,
// and words added to a finished vocabulary. At each place the longest name wins, and the leftmost place comes first.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json_part.h"
#include "io/tokenizer/vocabulary.h"

namespace llama_tp {

struct AddedToken {
  int32_t id = no_token;
  std::string content;
  bool single_word = false;  // not where a letter or digit touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and behind it
  bool normalized = false;   // looked for in the normalized text, by its normalized name
  bool special = false;

  static AddedToken read(const JsonPart& component);  // one entry of tokenizer.json's added_tokens
};

// The names of one kind: those looked for in the text as it is, or those in the normalized text.
class AddedTokenSearch {
 public:
  // `name`: what to look for; a second token of the same name takes the place of the first.
  void add(std::string name, const AddedToken& token);

  bool empty() const { return entries_.empty(); }

  // Cuts the whole text: visit(part, id, offset), where id is no_token for the text between. No part is empty.
  // parse_special false: special tokens are text.
  using Visit = std::function<void(std::string_view part, int32_t id, size_t offset)>;
  void for_each_part(std::string_view text, bool parse_special, const Visit& visit) const;

 private:
  struct Entry {
    std::string name;
    AddedToken token;
  };
  // The longest entry whose name stands at `position`; null where none does.
  const Entry* longest_at(std::string_view text, size_t position) const;

  std::vector<Entry> entries_;           // sorted by name
  std::array<bool, 256> first_bytes_{};  // of all names
};

}  // namespace llama_tp
