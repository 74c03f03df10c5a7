// Token ids of a rendered conversation, and which of them are learned.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "io/chat/chat_template.h"

namespace llama_tp {

struct ChatTokens {
  std::vector<int32_t> ids;
  std::vector<bool> learned;
};

// The text is tokenized as a whole, the special tokens in it parsed and none added. A token is learned where it holds a
// byte that is, as transformers' return_assistant_tokens_mask has it.
ChatTokens tokenize_chat(const Tokenizer& tokenizer, const RenderedChat& chat);

// The token that holds byte `at` of `text`, whose ids are `ids`; their number for the end.
size_t token_at(const Tokenizer& tokenizer, std::string_view text, size_t at, const std::vector<int32_t>& ids);

}  // namespace llama_tp
