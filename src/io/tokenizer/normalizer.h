// What happens to the text before anything else looks at it: the normalizers of tokenizer.json that replace strings, and
// Unicode's normalization forms.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "io/tokenizer/component.h"
#include "io/tokenizer/normalization_form.h"
#include "io/tokenizer/regex.h"

namespace llama_tp {

class Normalizer {
 public:
  // `component`: tokenizer.json's normalizer; null for none. Errors: a type that is not supported, by name.
  explicit Normalizer(const Component& component);

  bool is_identity() const { return steps_.empty(); }

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

  void add(const Component& component);

  std::vector<std::variant<Prepend, Replace, NormalizationForm>> steps_;
};

// {"String": s} or {"Regex": r}, as Replace and Split hold it. Errors: neither.
Regex read_pattern(const Component& pattern);

// The text with every match replaced.
std::string replace_all(std::string_view text, const Regex& pattern, std::string_view content,
                        Regex::Workspace& workspace);

}  // namespace llama_tp
