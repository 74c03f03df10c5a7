#include "io/chat/chat_tokens.h"

#include <algorithm>

namespace llama_tp {

namespace {

constexpr EncodeOptions as_it_stands{.add_special_tokens = false, .parse_special_tokens = true};

// Where in the text that ids give each of them ends.
class Places {
 public:
  explicit Places(const Tokenizer& tokenizer) : decoder_(tokenizer.stream_decoder({.skip_special_tokens = false})) {}
  size_t end_of(int32_t id) {
    came_ += decoder_->push(id).size();
    return came_ + decoder_->held();
  }

 private:
  std::unique_ptr<StreamDecoder> decoder_;
  size_t came_ = 0;
};

}  // namespace

// The ids of what stands before the byte are mostly those of the whole up to the token that holds it. But the end of a
// text may be cut otherwise where more follows: of four spaces alone one token, of four before a word one of three and
// the word's. Places are then those of decoded text, since a normalizer may have changed the text itself.
size_t token_at(const Tokenizer& tokenizer, std::string_view text, size_t at, const std::vector<int32_t>& ids) {
  const std::vector<int32_t> before = tokenizer.encode(text.substr(0, at), as_it_stands);
  const auto [own, whole] = std::mismatch(before.begin(), before.end(), ids.begin(), ids.end());
  const auto shared = static_cast<size_t>(own - before.begin());
  if (own == before.end()) return shared;
  Places places_before(tokenizer), places(tokenizer);
  size_t border = 0;
  for (const int32_t id : before) border = places_before.end_of(id);
  size_t token = 0;
  while (token < ids.size() && (places.end_of(ids[token]) <= border || token < shared)) token++;
  return token;
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
