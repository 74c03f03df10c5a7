#include "io/tokenizer/normalizer.h"

#include <map>

#include "base/error.h"

namespace llama_tp {

Normalizer::Normalizer(const Component& component) {
  if (!component.is_null()) add(component);
}

void Normalizer::add(const Component& component) {
  static const std::map<std::string, NormalizationForm> forms = {{"NFC", NormalizationForm::nfc},
                                                                 {"NFD", NormalizationForm::nfd},
                                                                 {"NFKC", NormalizationForm::nfkc},
                                                                 {"NFKD", NormalizationForm::nfkd}};
  const std::string type = component.type();
  if (type == "Sequence") {
    for (const Component& part : component.list("normalizers")) add(part);
  } else if (type == "Prepend") {
    steps_.push_back(Prepend{component.text("prepend")});
  } else if (type == "Replace") {
    steps_.push_back(Replace{read_pattern(component.at("pattern")), component.text("content")});
  } else if (const auto form = forms.find(type); form != forms.end()) {
    steps_.push_back(form->second);
  } else {
    component.refuse_type("Sequence, Prepend, Replace, NFC, NFD, NFKC and NFKD");
  }
}

std::string Normalizer::normalize(std::string_view text, Regex::Workspace& workspace) const {
  std::string result(text);
  for (const auto& step : steps_) {
    if (const auto* prepend = std::get_if<Prepend>(&step)) {
      if (!result.empty()) result.insert(0, prepend->prefix);
    } else if (const auto* replace = std::get_if<Replace>(&step)) {
      result = replace_all(result, replace->pattern, replace->content, workspace);
    } else {
      result = normalized(result, std::get<NormalizationForm>(step));
    }
  }
  return result;
}

Regex read_pattern(const Component& pattern) {
  if (pattern.has("String")) return Regex::literal(pattern.text("String"));
  if (pattern.has("Regex")) return Regex(pattern.text("Regex"), pattern.where());
  pattern.refuse("must hold \"String\" or \"Regex\"");
}

std::string replace_all(std::string_view text, const Regex& pattern, std::string_view content,
                        Regex::Workspace& workspace) {
  std::string result;
  result.reserve(text.size());
  pattern.for_each_part(text, workspace, [&](size_t begin, size_t end, bool is_match) {
    result.append(is_match ? content : text.substr(begin, end - begin));
  });
  return result;
}

}  // namespace llama_tp
