// The stages of decoder.h's chain, each with what it does to a list of tokens. `next` takes what it lets through.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "io/tokenizer/decoder.h"

namespace llama_tp {

using NextStage = std::unique_ptr<DecoderStage>;

struct StripOptions {
  std::string character;
  int64_t start, stop;
  bool whole_text;
};

// Appends every token to `out`.
NextStage make_output(std::string& out);

// A space between tokens.
NextStage make_join_by_spaces(NextStage next);

// In each token, every match of `pattern` (which must live as long) becomes `content`.
NextStage make_replace(const Regex& pattern, std::string content, NextStage next);

// A run of tokens "<0xE2>" becomes the characters that its bytes spell, or one U+FFFD a byte where they are not UTF-8.
// The run is held back until it ends.
NextStage make_byte_fallback(NextStage next);

// Letters become bytes (byte_letters.h); a token with other characters stands for itself. All bytes together are read
// as UTF-8, U+FFFD for what is broken. A character that is not complete is held back.
NextStage make_byte_level(NextStage next);

// Takes up to `start` and `stop` times the character off both ends: of each token, or of the whole text, of which the
// last `stop` such characters then are held back.
NextStage make_strip(StripOptions options, NextStage next);

// The sign of a space (which must live as long) becomes a space; in the first token nothing, where `drops_first`.
NextStage make_metaspace(const Regex& sign, bool drops_first, NextStage next);

// Holds everything back and hands it on as one token.
NextStage make_gather(NextStage next);

}  // namespace llama_tp
