// The two kinds of tokenizer behind load_tokenizer().
#pragma once

#include <memory>
#include <string>

#include "io/tokenizer/special_names.h"
#include "io/tokenizer/tokenizer.h"

namespace llama_tp {

// `path`: a tokenizer.json of Hugging Face's `tokenizers` with a BPE model. Truncation and padding in it are not
// applied: they belong to the caller.
std::unique_ptr<Tokenizer> load_json_tokenizer(const std::string& path, const SpecialNames& names);

// `path`: a model of SentencePiece, read and run by its library. Names of control symbols and added tokens are found
// in the text as in a tokenizer.json, and each stretch of text between them is encoded by itself.
std::unique_ptr<Tokenizer> load_sentencepiece_tokenizer(const std::string& path, const SpecialNames& names);

}  // namespace llama_tp
