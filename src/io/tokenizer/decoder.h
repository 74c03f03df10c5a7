// Token names back to text: the decoders of tokenizer.json as a chain of stages, each handing what it has to the next
// as soon as no later token can change it. Decoding a whole list is the same chain run to its end, so that text that
// comes token by token is by construction the text of the whole.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_part.h"
#include "io/tokenizer/regex.h"

namespace llama_tp {

// One stage at work: it may hold tokens back, and finish() asks for them; held() is their number of bytes, with that of
// the stages behind it. settle() draws a border: what is held comes out, though more may follow, and does not depend on
// that. What it takes is valid UTF-8.
class DecoderStage {
 public:
  virtual ~DecoderStage() = default;
  virtual void take(std::string_view token) = 0;
  virtual void settle() = 0;
  virtual void finish() = 0;
  virtual size_t held() const = 0;
};

class Decoder {
 public:
  // `component`: tokenizer.json's decoder; null: names joined by spaces. Errors: a type that is not supported, by name.
  explicit Decoder(const JsonPart& component);

  // A fresh chain of stages; the last one appends to `out`. Both must not outlive this decoder and `out`.
  std::unique_ptr<DecoderStage> chain(std::string& out) const;

 private:
  enum class Kind { join_by_spaces, replace, byte_fallback, byte_level, strip, metaspace, gather };
  struct Step {
    Kind kind;
    std::optional<Regex> pattern = {};  // replace; metaspace: the sign of a space
    std::string content = {};           // replace: instead of the pattern; strip: the character
    int64_t start = 0, stop = 0;        // strip: at most so many at either end
    bool whole_text = false;            // strip: of all text, not of each token
    bool drops_first = false;           // metaspace: no space for the first token's sign
  };

  void add(const JsonPart& component);
  void add_strip(const JsonPart& component);
  void add_step(Step step);

  std::vector<Step> steps_;
  bool fused_ = false;  // from here on all text is one token, which comes in parts
};

}  // namespace llama_tp
