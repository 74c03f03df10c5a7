#include "io/chat/chat_tokens.h"

#include <algorithm>

namespace llama_tp {

namespace {

constexpr EncodeOptions as_it_stands{.add_special_tokens = false, .parse_special_tokens = true};

}  // namespace

// The ids of what stands before the byte are those of the whole up to the token that holds it: where one begins there,
// all of them; where a token straddles it, those before that token.
size_t token_at(const Tokenizer& tokenizer, std::string_view text, size_t at, const std::vector<int32_t>& ids) {
  const std::vector<int32_t> before = tokenizer.encode(text.substr(0, at), as_it_stands);
  const auto [own, whole] = std::mismatch(before.begin(), before.end(), ids.begin(), ids.end());
  return static_cast<size_t>(own - before.begin());
}

ChatTokens tokenize_chat(const Tokenizer& tokenizer, const RenderedChat& chat) {
  ChatTokens tokens{tokenizer.encode(chat.text, as_it_stands), {}};
  tokens.learned.resize(tokens.ids.size());
  for (const ByteRange& range : chat.learned) {
    const size_t begin = token_at(tokenizer, chat.text, range.begin, tokens.ids);
    // What is learned ends with a special token, or one follows: no token straddles that place.
    const size_t end = token_at(tokenizer, chat.text, range.end, tokens.ids);
    std::fill(tokens.learned.begin() + static_cast<int64_t>(begin), tokens.learned.begin() + static_cast<int64_t>(end),
              true);
  }
  return tokens;
}

}  // namespace llama_tp
