// What the tensor of a model that no family lists can be, by its shape and the words of its name.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "model/config.h"

namespace llama_tp {

using Parts = std::vector<Part>;

// One part or several packed along `out`, the words that a name may have for it, its TP style, and words that no name
// of it has.
struct Kind {
  Parts parts;
  std::vector<std::string> words;
  const char* style;
  std::vector<std::string> never{};
};

const std::vector<Kind>& kinds();
std::vector<int64_t> shape_of(const Kind& kind, const ModelConfig& config);
std::string name_of_kind(const Kind& kind);  // "gate+up"

// "h.3.ln_1" → "h.*.ln_1" for each number in it.
std::vector<std::string> templates_of(const std::string& name);
// The words of a name: its pieces, and their letters and digits apart.
std::set<std::string> words_of(const std::string& name);

std::string joined(const std::vector<std::string>& words, const char* between);

}  // namespace llama_tp
