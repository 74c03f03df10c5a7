// Cuts normalized text into words, which BPE never joins again. Hugging Face's pre-tokenizers come down to four kinds
// of steps: split, replace spaces, put a prefix in front, and spell bytes by letters. Each step hands its pieces to the
// next one as it finds them, so that a text of any length needs no list of words.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json_part.h"
#include "io/tokenizer/normalizer.h"
#include "io/tokenizer/regex.h"

namespace llama_tp {

struct TextPiece {
  std::string_view text;
  bool at_start;  // nothing of the original text lies before it
};

class PieceSink {
 public:
  virtual ~PieceSink() = default;
  virtual void take(std::string_view piece) = 0;  // never empty; valid during the call
};

class PreTokenizer {
 public:
  struct Workspace {
    Regex::Workspace regex;
    std::vector<std::string> rewritten;  // one buffer a step
  };

  // `component`: tokenizer.json's pre_tokenizer; null for none. Errors: a type that is not supported, by name.
  explicit PreTokenizer(const JsonPart& component);

  // True when the last step spells bytes by letters. That step is left to the model, which needs it only for words
  // that it has not seen yet: pieces then are plain text.
  bool ends_in_letters() const { return ends_in_letters_; }

  // Metaspace's "first" must know where the original text begins; behind a split, for each part.
  KnownStart needed_start() const;

  void run(TextPiece text, Workspace& workspace, PieceSink& sink) const;

 private:
  enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
  struct Split {
    Regex pattern;
    Behavior behavior = Behavior::isolated;
    bool invert = false;  // what lies between the matches counts as match
  };
  struct ReplaceSpaces {
    std::string replacement;
  };
  struct Prefix {  // where it is not there already
    std::string prefix;
    bool only_at_start;
  };
  struct SpellBytes {};
  using Step = std::variant<Split, ReplaceSpaces, Prefix, SpellBytes>;

  template <class Kind>
  void push(Kind step) {
    steps_.emplace_back(std::in_place_type<Kind>, std::move(step));
  }
  void add(const JsonPart& component);
  void add_byte_level(const JsonPart& component);
  void add_metaspace(const JsonPart& component);
  static Behavior read_behavior(const JsonPart& component, std::string_view fallback);

  void run_from(size_t step, TextPiece piece, Workspace& workspace, PieceSink& sink) const;
  void split(size_t step, TextPiece piece, Workspace& workspace, PieceSink& sink) const;

  std::vector<Step> steps_;
  bool ends_in_letters_ = false;
};

}  // namespace llama_tp
