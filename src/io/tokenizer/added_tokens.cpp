#include "io/tokenizer/added_tokens.h"

#include <algorithm>

#include "base/error.h"
#include "io/tokenizer/regex.h"
#include "io/tokenizer/utf8.h"

namespace llama_tp {

namespace {

bool is_word_character(std::string_view text, size_t position) {
  static const Regex word(llama_tp::text('[', word_characters, joiners, ']'), "added_tokens");
  Regex::Workspace workspace;
  return word.find(text.substr(position, utf8::length_from_lead(text[position])), 0, workspace).has_value();
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  return (begin == 0 || !is_word_character(text, utf8::previous_start(text, begin))) &&
         (end == text.size() || !is_word_character(text, end));
}

size_t begin_of_space_before(std::string_view text, size_t position, size_t least) {
  while (position > least) {
    const size_t start = utf8::previous_start(text, position);
    size_t at = start;
    if (!utf8::is_white_space(utf8::next(text, at))) break;
    position = start;
  }
  return position;
}

size_t end_of_space_behind(std::string_view text, size_t position) {
  for (size_t behind = position; position < text.size(); position = behind) {
    if (!utf8::is_white_space(utf8::next(text, behind))) break;
  }
  return position;
}

}  // namespace

AddedToken AddedToken::read(const JsonPart& component) {
  AddedToken token;
  token.id = static_cast<int32_t>(component.integer("id", 0, Vocabulary::highest_id));
  token.content = component.text("content");
  token.single_word = component.flag("single_word", false);
  token.lstrip = component.flag("lstrip", false);
  token.rstrip = component.flag("rstrip", false);
  token.special = component.flag("special", false);
  token.normalized = component.flag("normalized", !token.special);
  return token;
}

void AddedTokenSearch::add(std::string name, const AddedToken& token) {
  if (name.empty()) return;
  first_bytes_[static_cast<unsigned char>(name[0])] = true;
  const auto place = std::lower_bound(entries_.begin(), entries_.end(), name,
                                      [](const Entry& entry, const std::string& key) { return entry.name < key; });
  if (place != entries_.end() && place->name == name) {
    place->token = token;
  } else {
    entries_.insert(place, {std::move(name), token});
  }
}

void AddedTokenSearch::for_each_part(std::string_view text, bool parse_special, const Visit& visit) const {
  size_t covered = 0, at = 0;
  const auto part = [&](size_t begin, size_t end, int32_t id) {
    if (begin < end) visit(text.substr(begin, end - begin), id, begin);
    covered = end;
  };
  while (at < text.size()) {
    const Entry* entry = first_bytes_[static_cast<unsigned char>(text[at])] ? longest_at(text, at) : nullptr;
    if (!entry) {
      ++at;
      continue;
    }
    const AddedToken& token = entry->token;
    size_t begin = at, end = at + entry->name.size();
    at = end;
    if (token.special && !parse_special) continue;
    if (token.single_word && !stands_alone(text, begin, end)) continue;
    // The search goes on behind the name, so a token of spaces may be found in what rstrip took: twice, unless it strips
    // itself; as in Hugging Face's.
    if (token.lstrip) begin = std::max(begin_of_space_before(text, begin, covered), covered);
    if (token.rstrip) end = end_of_space_behind(text, end);
    if (begin >= end) continue;
    if (covered < begin) part(covered, begin, no_token);
    part(begin, end, token.id);
  }
  part(covered, text.size(), no_token);
}

// The entries that agree with the text so far are neighbours in the sorted list, the shortest first. Each further byte
// narrows them.
const AddedTokenSearch::Entry* AddedTokenSearch::longest_at(std::string_view text, size_t position) const {
  const Entry* best = nullptr;
  auto first = entries_.begin(), last = entries_.end();
  for (size_t length = 0; first != last; ++length) {
    if (first->name.size() == length && length > 0) best = &*first++;
    if (position + length == text.size()) break;
    const auto byte = static_cast<unsigned char>(text[position + length]);
    const auto byte_of = [length](const Entry& entry) { return static_cast<unsigned char>(entry.name[length]); };
    first = std::partition_point(first, last, [&](const Entry& entry) { return byte_of(entry) < byte; });
    last = std::partition_point(first, last, [&](const Entry& entry) { return byte_of(entry) == byte; });
  }
  return best;
}

}  // namespace llama_tp
