#include "io/tokenizer/pre_tokenizer.h"

#include <map>

#include "base/error.h"
#include "io/tokenizer/byte_letters.h"
#include "io/tokenizer/refuse_type.h"

namespace llama_tp {

namespace {

// GPT-2's, which ByteLevel uses where it splits by itself.
constexpr std::string_view gpt2_words = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view numeric = R"(\p{N})";
// Unicode's and all of ASCII's. Hugging Face's own table is of Unicode 8, so the later signs of rare scripts differ.
constexpr std::string_view punctuation = R"([\p{P}$+<=>^`|~])";

}  // namespace

PreTokenizer::PreTokenizer(const JsonPart& component) {
  if (!component.is_null()) add(component);
  if (!steps_.empty() && std::holds_alternative<SpellBytes>(steps_.back())) {
    ends_in_letters_ = true;
    steps_.pop_back();
  }
}

void PreTokenizer::add(const JsonPart& component) {
  const std::string type = component.text("type");
  const auto split = [&](std::string_view pattern, Behavior behavior, bool invert = false) {
    push(Split{Regex(pattern, component.where()), behavior, invert});
  };
  if (type == "Sequence") {
    for (const JsonPart& part : component.list("pretokenizers")) add(part);
  } else if (type == "Split") {
    push(Split{read_pattern(component.at("pattern")), read_behavior(component, ""), component.flag("invert", false)});
  } else if (type == "ByteLevel") {
    add_byte_level(component);
  } else if (type == "Metaspace") {
    add_metaspace(component);
  } else if (type == "Digits") {
    split(numeric, component.flag("individual_digits", false) ? Behavior::isolated : Behavior::contiguous);
  } else if (type == "Punctuation") {
    split(punctuation, read_behavior(component, "Isolated"));
  } else if (type == "Whitespace") {
    const std::string word = text(word_characters, joiners);
    split(text('[', word, "]+|[^", word, R"(\s]+)"), Behavior::removed, true);
  } else if (type == "WhitespaceSplit") {
    split(R"(\s)", Behavior::removed);
  } else {
    refuse_type(component,
                "Sequence, Split, ByteLevel, Metaspace, Digits, Punctuation, Whitespace and WhitespaceSplit");
  }
}

void PreTokenizer::add_byte_level(const JsonPart& component) {
  if (component.flag("add_prefix_space", true)) push(Prefix{" ", false});
  if (component.flag("use_regex", true)) push(Split{Regex(gpt2_words, component.where())});
  push(SpellBytes());
}

// Two spellings: add_prefix_space (true: always, false: never) before prepend_scheme was there, and prepend_scheme.
void PreTokenizer::add_metaspace(const JsonPart& component) {
  const std::string replacement = component.text("replacement");
  const std::string scheme =
      component.text("prepend_scheme", component.flag("add_prefix_space", true) ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    component.refuse(text("prepend_scheme \"", scheme, "\" is unknown; it must be always, first or never"));
  }
  if (component.has("add_prefix_space") && component.flag("add_prefix_space", true) == false && scheme != "never") {
    component.refuse(text("add_prefix_space false contradicts prepend_scheme \"", scheme, "\"; remove one of them"));
  }
  push(ReplaceSpaces{replacement});
  if (scheme != "never") push(Prefix{replacement, scheme == "first"});
  if (component.flag("split", true)) push(Split{Regex::literal(replacement), Behavior::merged_with_next});
}

PreTokenizer::Behavior PreTokenizer::read_behavior(const JsonPart& component, std::string_view fallback) {
  static const std::map<std::string, Behavior> behaviors = {{"Removed", Behavior::removed},
                                                            {"Isolated", Behavior::isolated},
                                                            {"MergedWithPrevious", Behavior::merged_with_previous},
                                                            {"MergedWithNext", Behavior::merged_with_next},
                                                            {"Contiguous", Behavior::contiguous}};
  const std::string name = fallback.empty() ? component.text("behavior") : component.text("behavior", fallback);
  const auto found = behaviors.find(name);
  if (found == behaviors.end()) {
    component.refuse(text("behavior \"", name, "\" is unknown; it must be Removed, Isolated, MergedWithPrevious, ",
                          "MergedWithNext or Contiguous"));
  }
  return found->second;
}

KnownStart PreTokenizer::needed_start() const {
  const auto asks = [](const Step& step) {
    const auto* const prefix = std::get_if<Prefix>(&step);
    return prefix && prefix->only_at_start;
  };
  bool split = false;
  KnownStart needed = KnownStart::none;
  for (const Step& step : steps_) {
    if (asks(step)) needed = split ? KnownStart::any_part : std::max(needed, KnownStart::whole_text);
    split = split || std::holds_alternative<Split>(step);
  }
  return needed;
}

void PreTokenizer::run(TextPiece text, Workspace& workspace, PieceSink& sink) const {
  workspace.rewritten.resize(steps_.size());
  run_from(0, text, workspace, sink);
}

void PreTokenizer::run_from(size_t step, TextPiece piece, Workspace& workspace, PieceSink& sink) const {
  if (piece.text.empty()) return;
  if (step == steps_.size()) return sink.take(piece.text);
  const Step& what = steps_[step];
  if (std::holds_alternative<Split>(what)) return split(step, piece, workspace, sink);

  std::string& rewritten = workspace.rewritten[step];
  rewritten.clear();
  if (const auto* replace = std::get_if<ReplaceSpaces>(&what)) {
    for (char c : piece.text) c == ' ' ? rewritten.append(replace->replacement) : rewritten.append(1, c);
  } else if (const auto* prefix = std::get_if<Prefix>(&what)) {
    const bool there = piece.text.starts_with(prefix->prefix) || (prefix->only_at_start && !piece.at_start);
    if (there) return run_from(step + 1, piece, workspace, sink);
    rewritten.append(prefix->prefix).append(piece.text);
  } else {
    append_letters(rewritten, piece.text);
  }
  run_from(step + 1, {rewritten, piece.at_start}, workspace, sink);
}

void PreTokenizer::split(size_t step, TextPiece piece, Workspace& workspace, PieceSink& sink) const {
  const Split& how = std::get<Split>(steps_[step]);
  // The part that may still grow: merging behaviours hold one back.
  size_t held_begin = 0, held_end = 0;
  bool holding = false, previous = false;
  const auto emit = [&](size_t begin, size_t end) {
    run_from(step + 1, {piece.text.substr(begin, end - begin), piece.at_start && begin == 0}, workspace, sink);
  };
  const auto hold = [&](size_t begin, size_t end) {
    if (holding) emit(held_begin, held_end);
    held_begin = begin, held_end = end, holding = true;
  };
  how.pattern.for_each_part(piece.text, workspace.regex, [&](size_t begin, size_t end, bool is_match) {
    const bool match = is_match != how.invert;
    const bool joins = holding && (how.behavior == Behavior::contiguous             ? match == previous
                                   : how.behavior == Behavior::merged_with_previous ? match && !previous
                                   : how.behavior == Behavior::merged_with_next     ? !match && previous
                                                                                    : false);
    if (joins) {
      held_end = end;
    } else if (how.behavior == Behavior::isolated || (how.behavior == Behavior::removed && !match)) {
      emit(begin, end);
    } else if (how.behavior != Behavior::removed) {
      hold(begin, end);
    }
    previous = match;
  });
  if (holding) emit(held_begin, held_end);
}

}  // namespace llama_tp
