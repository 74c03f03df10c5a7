// What happens to the text before anything else looks at it: the normalizers of tokenizer.json that replace strings, and
// Unicode's normalization forms.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json_part.h"
#include "io/tokenizer/normalization_form.h"
#include "io/tokenizer/regex.h"

namespace llama_tp {

// Metaspace's prepend_scheme "first" asks whether a piece of the normalized text begins where the original begins. A
// normalizer leaves that known for no piece, for the one that is the whole text, or for any.
enum class KnownStart { none, whole_text, any_part };

class Normalizer {
 public:
  // `component`: tokenizer.json's normalizer; null for none. Errors: a type that is not supported, by name.
  explicit Normalizer(const JsonPart& component);

  bool is_identity() const { return steps_.empty(); }

  // None where a step may remove text at the start; any piece where each character stays one.
  KnownStart known_start() const { return known_start_; }

  // Empty text stays empty.
  std::string normalize(std::string_view text, Regex::Workspace& workspace) const;

 private:
  struct Prepend {
    std::string prefix;
  };
  struct Replace {
    Regex pattern;
    std::string content;
  };

  void add(const JsonPart& component);

  std::vector<std::variant<Prepend, Replace, NormalizationForm>> steps_;
  KnownStart known_start_ = KnownStart::any_part;
};

// {"String": s} or {"Regex": r}, as Replace and Split hold it. Errors: neither.
Regex read_pattern(const JsonPart& pattern);

// The text with every match replaced.
std::string replace_all(std::string_view text, const Regex& pattern, std::string_view content,
                        Regex::Workspace& workspace);

}  // namespace llama_tp
