#include "io/tokenizer/bpe.h"

#include <algorithm>

#include "base/error.h"
#include "io/tokenizer/byte_letters.h"
#include "io/tokenizer/space_sign.h"
#include "io/tokenizer/utf8.h"

namespace llama_tp {

namespace {

// Up to here looking through all pairs for the lowest rank beats keeping them in a queue.
constexpr size_t short_word = 48;

std::string byte_token_name(int byte) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  return {'<', '0', 'x', digits[static_cast<size_t>(byte >> 4)], digits[static_cast<size_t>(byte & 15)], '>'};
}

bool spaces_only_begin_tokens(const Vocabulary& vocabulary) {
  if (vocabulary.find(space_sign) == no_token) return false;
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (!vocabulary.contains(id)) continue;
    const std::string_view name = vocabulary.name(id);
    if (next_border(name, 0) != name.size()) return false;
  }
  return true;
}

}  // namespace

Bpe::Bpe(Vocabulary vocabulary, MergeTable merges, BpeOptions options)
    : vocabulary_(std::move(vocabulary)), merges_(std::move(merges)), options_(options) {
  for (int byte = 0; byte < 256; ++byte)
    byte_tokens_[static_cast<size_t>(byte)] = vocabulary_.find(byte_token_name(byte));
  for (char32_t character = 0; character < common_characters; ++character) {
    std::string name;
    utf8::append(name, character);
    common_[character] = vocabulary_.find(name);
  }
  const bool has_all_bytes = options_.byte_fallback && std::ranges::find(byte_tokens_, no_token) == byte_tokens_.end();
  const bool drops_characters = options_.unknown == no_token && !has_all_bytes;
  cut_before_spaces_ =
      !options_.spell_bytes && !options_.ignore_merges && !drops_characters && spaces_only_begin_tokens(vocabulary_);
}

void Bpe::encode(std::string_view piece, Workspace& workspace, std::vector<int32_t>& ids) const {
  size_t begin = 0;
  while (cut_before_spaces_ && begin < piece.size()) {
    const size_t end = next_border(piece, begin + 1);
    encode_word(piece.substr(begin, end - begin), workspace, ids);
    begin = end;
  }
  if (begin < piece.size()) encode_word(piece, workspace, ids);
}

void Bpe::encode_word(std::string_view word, Workspace& workspace, std::vector<int32_t>& ids) const {
  if (!WordCache::fits(word)) return encode_new_word(word, workspace, ids);
  const WordCache::Key key(word);
  const std::span<const int32_t> known = workspace.cache.find(key);
  if (!known.empty()) {
    ids.insert(ids.end(), known.begin(), known.end());
    return;
  }
  const size_t before = ids.size();
  encode_new_word(word, workspace, ids);
  workspace.cache.put(key, std::span(ids).subspan(before));
}

void Bpe::encode_new_word(std::string_view word, Workspace& workspace, std::vector<int32_t>& ids) const {
  if (options_.spell_bytes) {
    workspace.spelled.clear();
    append_letters(workspace.spelled, word);
    word = workspace.spelled;
  }
  if (options_.ignore_merges) {
    const int32_t id = vocabulary_.find(word);
    if (id != no_token) return ids.push_back(id);
  }
  std::vector<int32_t>& symbols = workspace.symbols;
  symbols.clear();
  split_characters(word, symbols);
  if (symbols.size() <= short_word) {
    merge_short(symbols, workspace.merges);
  } else {
    merge_long(symbols);
  }
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

void Bpe::split_characters(std::string_view word, std::vector<int32_t>& symbols) const {
  // An unknown character waits for the next known one, for it may grow into a run.
  bool unknown_waits = false;
  const auto release = [&] {
    if (unknown_waits) symbols.push_back(options_.unknown);
    unknown_waits = false;
  };
  for (size_t at = 0; at < word.size();) {
    const std::string_view character = word.substr(at, utf8::length_from_lead(word[at]));
    at += character.size();
    const int32_t id = id_of_character(character);
    if (id != no_token) {
      release();
      symbols.push_back(id);
    } else if (options_.byte_fallback && append_byte_tokens(character, symbols)) {
      continue;
    } else if (options_.unknown != no_token) {
      if (!options_.fuse_unknown) release();
      unknown_waits = true;
    }
  }
  release();
}

// All of the character's bytes, or none of them.
bool Bpe::append_byte_tokens(std::string_view character, std::vector<int32_t>& symbols) const {
  const auto token_of = [&](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)]; };
  if (std::any_of(character.begin(), character.end(), [&](char byte) { return token_of(byte) == no_token; })) {
    return false;
  }
  for (char byte : character) symbols.push_back(token_of(byte));
  return true;
}

int32_t Bpe::id_of_character(std::string_view character) const {
  if (character.size() > 2) return vocabulary_.find(character);
  size_t position = 0;
  return common_[utf8::next(character, position)];
}

void Bpe::merge_short(std::vector<int32_t>& symbols, std::vector<MergeTable::Merge>& merges) const {
  if (symbols.size() < 2) return;
  // merges[i] is that of symbols i and i + 1.
  merges.resize(symbols.size() - 1);
  for (size_t i = 0; i < merges.size(); ++i) merges[i] = merges_.find(symbols[i], symbols[i + 1]);
  while (!merges.empty()) {
    const auto best =
        std::min_element(merges.begin(), merges.end(), [](const auto& a, const auto& b) { return a.rank < b.rank; });
    if (best->rank == MergeTable::no_rank) return;
    const auto i = best - merges.begin();
    const auto left = symbols.begin() + i;
    *left = best->result;
    symbols.erase(left + 1);
    merges.erase(best);
    if (i > 0) merges[static_cast<size_t>(i - 1)] = merges_.find(*(left - 1), *left);
    if (left + 1 != symbols.end()) merges[static_cast<size_t>(i)] = merges_.find(*left, *(left + 1));
  }
}

void Bpe::merge_long(std::vector<int32_t>& symbols) const {
  constexpr uint32_t none = UINT32_MAX;
  require(symbols.size() < none, "a word of more than 4 billion characters cannot be encoded; cut the text");
  const auto count = static_cast<uint32_t>(symbols.size());
  // A list of the symbols that are left, and for each the merge with its right neighbour.
  std::vector<uint32_t> left_of(count), right_of(count);
  std::vector<MergeTable::Merge> merges(count, {MergeTable::no_rank, no_token});
  // The lowest (rank, position) on top. Entries whose rank is no longer that of their position are stale.
  std::vector<uint64_t> queue;
  const auto look_up = [&](uint32_t i) {
    merges[i] = merges_.find(symbols[i], symbols[right_of[i]]);
    if (merges[i].rank == MergeTable::no_rank) return false;
    queue.push_back(static_cast<uint64_t>(merges[i].rank) << 32 | i);
    return true;
  };
  for (uint32_t i = 0; i < count; ++i) {
    left_of[i] = i == 0 ? none : i - 1;
    right_of[i] = i + 1 == count ? none : i + 1;
    if (right_of[i] != none) look_up(i);
  }
  std::make_heap(queue.begin(), queue.end(), std::greater<>());
  const auto renew = [&](uint32_t i) {
    if (look_up(i)) std::push_heap(queue.begin(), queue.end(), std::greater<>());
  };
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    const auto rank = static_cast<uint32_t>(queue.back() >> 32);
    const auto i = static_cast<uint32_t>(queue.back());
    queue.pop_back();
    if (merges[i].rank != rank) continue;
    const uint32_t gone = right_of[i];
    symbols[i] = merges[i].result;
    symbols[gone] = no_token;
    merges[i].rank = merges[gone].rank = MergeTable::no_rank;
    right_of[i] = right_of[gone];
    if (right_of[i] != none) {
      left_of[right_of[i]] = i;
      renew(i);
    }
    if (left_of[i] != none) renew(left_of[i]);
  }
  std::erase(symbols, no_token);
}

}  // namespace llama_tp
