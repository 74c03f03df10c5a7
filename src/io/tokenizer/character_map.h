// SentencePiece's normalization rules, a trie of the characters that others replace, lie in tokenizer.model as they lie in
// memory; the library follows its offsets unchecked.
#pragma once

#include <string_view>

namespace llama_tp {

// Whether all that such rules of a model (its bytes, sentencepiece_model.proto) refer to lies within them. True of bytes
// without any, and of some that are no model.
bool has_sound_character_maps(std::string_view model);

}  // namespace llama_tp
