// Byte pair encoding (Sennrich et al. 2016): a word becomes its characters, then the two neighbours whose merge ranks
// lowest become one, the leftmost first, until nothing merges. Ids are those of Hugging Face's BPE model.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/tokenizer/vocabulary.h"
#include "io/tokenizer/word_cache.h"

namespace llama_tp {

struct BpeOptions {
  int32_t unknown = no_token;  // for a character that the vocabulary lacks; with no_token it gives nothing
  bool fuse_unknown = false;   // one unknown token for a run of such characters
  bool byte_fallback = false;  // rather its bytes, as "<0xE2>", where the vocabulary has all of them
  bool ignore_merges = false;  // a word that is itself a token needs no merges
  bool spell_bytes = false;    // words come as text; the vocabulary spells their bytes by letters (byte_letters.h)
};

class Bpe {
 public:
  // What one thread needs, reused from word to word.
  struct Workspace {
    WordCache cache;
    std::string spelled;
    std::vector<int32_t> symbols;
    std::vector<MergeTable::Merge> merges;
  };

  Bpe(Vocabulary vocabulary, MergeTable merges, BpeOptions options);

  const Vocabulary& vocabulary() const { return vocabulary_; }

  // Appends the ids of one piece of the pre-tokenizer: valid UTF-8, not empty. Time grows as n log n with its length.
  void encode(std::string_view piece, Workspace& workspace, std::vector<int32_t>& ids) const;

 private:
  void encode_word(std::string_view word, Workspace& workspace, std::vector<int32_t>& ids) const;
  void encode_new_word(std::string_view word, Workspace& workspace, std::vector<int32_t>& ids) const;
  void split_characters(std::string_view word, std::vector<int32_t>& symbols) const;
  bool append_byte_tokens(std::string_view character, std::vector<int32_t>& symbols) const;
  int32_t id_of_character(std::string_view character) const;
  void merge_short(std::vector<int32_t>& symbols, std::vector<MergeTable::Merge>& merges) const;
  void merge_long(std::vector<int32_t>& symbols) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  BpeOptions options_;
  std::array<int32_t, 256> byte_tokens_;  // "<0x00>" and on

  // Ids of the characters that take one or two bytes: the whole byte-level alphabet, and most of Latin text.
  static constexpr size_t common_characters = 0x800;
  std::array<int32_t, common_characters> common_;

  // In a vocabulary that writes the space as "▁" a piece may be the whole text. Where no token has a "▁" behind
  // another character nothing ever merges across that border: the text is cut there, and its words can be cached. Not
  // where a character may vanish, for two "▁" around it become neighbours; nor where a piece that is itself a token
  // needs no merges, which is asked of the whole piece alone.
  bool cut_before_spaces_;
};

}  // namespace llama_tp
