// What a SentencePiece model says of itself. Its library keeps this to itself, so it is read from the file, which is one
// message of Protocol Buffers (sentencepiece_model.proto of github.com/google/sentencepiece).
#pragma once

#include <string_view>

namespace llama_tp {

struct SentencePieceSettings {
  bool byte_pairs = false;               // a model of BPE, not of unigrams
  bool space_as_suffix = false;          // spaces end tokens
  bool rewrites_characters = false;      // by a table of rules, such as NFKC
  bool dummy_prefix = true;              // a space is put in front of the text
  bool remove_extra_whitespaces = true;  // at both ends, and of several all but one
  bool escape_whitespaces = true;        // as "▁"
};

// `model`: a file that the library has loaded.
SentencePieceSettings read_sentencepiece_settings(std::string_view model);

}  // namespace llama_tp
