#include "io/tokenizer/normalizer.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "io/tokenizer/refuse_type.h"

namespace llama_tp {

namespace {

bool is_one_character(std::string_view text) { return !text.empty() && behind_character(text, 0) == text.size(); }

// Only a character that becomes one or more is sure to leave the next one's place alone.
KnownStart known_start_behind(const JsonPart& replace) {
  const JsonPart pattern = replace.at("pattern");
  const std::string content = replace.text("content");
  if (!pattern.has("String") || !is_one_character(pattern.text("String")) || content.empty()) return KnownStart::none;
  return is_one_character(content) ? KnownStart::any_part : KnownStart::whole_text;
}

}  // namespace

Normalizer::Normalizer(const JsonPart& component) {
  if (!component.is_null()) add(component);
}

void Normalizer::add(const JsonPart& component) {
  static const std::map<std::string, NormalizationForm> forms = {{"NFC", NormalizationForm::nfc},
                                                                 {"NFD", NormalizationForm::nfd},
                                                                 {"NFKC", NormalizationForm::nfkc},
                                                                 {"NFKD", NormalizationForm::nfkd}};
  const std::string type = component.text("type");
  const auto keep = [this](KnownStart start) { known_start_ = std::min(known_start_, start); };
  if (type == "Sequence") {
    for (const JsonPart& part : component.list("normalizers")) add(part);
  } else if (type == "Prepend") {
    steps_.push_back(Prepend{component.text("prepend")});
    keep(KnownStart::whole_text);
  } else if (type == "Replace") {
    steps_.push_back(Replace{read_pattern(component.at("pattern")), component.text("content")});
    keep(known_start_behind(component));
  } else if (const auto form = forms.find(type); form != forms.end()) {
    steps_.push_back(form->second);
    keep(KnownStart::whole_text);
  } else {
    refuse_type(component, "Sequence, Prepend, Replace, NFC, NFD, NFKC and NFKD");
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

Regex read_pattern(const JsonPart& pattern) {
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
