// tokenizer.json as parsed: the two large tables straight into compact ones, everything else as JSON. A document tree
// of 128,256 tokens and 280,147 merges would take most of a second by itself, so nlohmann's parser only sends events.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "io/tokenizer/vocabulary.h"

namespace llama_tp {

struct TokenizerFile {
  std::unique_ptr<nlohmann::json> rest;  // without model.vocab and model.merges
  bool has_vocabulary = false, has_merges = false;
  Vocabulary vocabulary;
  MergeTable merges;
};

// `bytes`: the content; `path`: what errors call it. Errors: not JSON (with the byte), vocab or merges of the wrong
// type, ids out of range, a name or an id that comes twice, merges of or into tokens that the vocabulary lacks.
TokenizerFile parse_tokenizer_file(std::string_view bytes, const std::string& path);

}  // namespace llama_tp
