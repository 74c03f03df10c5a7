// The regular expressions of tokenizer.json. They are written for Oniguruma in its Ruby syntax, which Hugging Face's
// library uses; PCRE2 (compiled, JIT) runs them here. Where the two mean different things by one sign the expression
// is rewritten, and where that cannot be done it is refused, never run with another meaning. One thing alone is known to
// differ: two letters match the one that folds to them, as (?i)ss does ß, only in Oniguruma.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace llama_tp {

// An expression of Oniguruma as PCRE2 understands it: \s, \w and \h as sets of characters, \b by them, \uHHHH, \v, (?m),
// {,n}.
// Errors: `where`: what has no equal in PCRE2 (&& and sets inside [...], {n,m}+, {n}?, (?i) within a branch, letters of one
// case in a set under (?i), \p without braces, \Q, \E, \V, bytes above \x7F).
std::string pcre_from_oniguruma(std::string_view pattern, std::string_view where);

// A script by its Unicode name, such as Han.
bool is_script(std::string_view name);

// The inside of a set: alphabetic characters, marks, decimal digits and connectors, which is about what \w means. The
// ranges are the alphabetic symbols: circled and squared letters.
inline constexpr std::string_view word_characters =
    R"(\p{L}\p{M}\p{Nl}\p{Nd}\p{Pc}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189})";
// To which Unicode (UTS 18, annex C) adds the two joiners, and Oniguruma, but not inside a set, the raised digits and
// fractions of Latin-1.
inline constexpr std::string_view joiners = R"(\x{200C}\x{200D})";
inline constexpr std::string_view latin_numbers = R"(\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";

class Regex {
 public:
  // Errors: `where`: an expression that does not compile, with the reason and the offset.
  Regex(std::string_view oniguruma_pattern, std::string_view where);
  static Regex literal(std::string_view text);

  // What one thread needs for matching, reused from match to match.
  class Workspace;
  struct Match {
    size_t begin, end;
  };

  // The first match in valid UTF-8 that starts at or after `from`, a character's start.
  std::optional<Match> find(std::string_view text, size_t from, Workspace& workspace) const;

  // Cuts the whole text into matches and what lies between them, in order: visit(begin, end, is_match).
  // An empty match counts, except right behind another match.
  template <class Visit>
  void for_each_part(std::string_view text, Workspace& workspace, Visit&& visit) const;

 private:
  struct FromPcre {};
  Regex(FromPcre, const std::string& pattern, std::string_view original, std::string_view where);

  struct Code;
  std::shared_ptr<const Code> code_;
};

class Regex::Workspace {
 public:
  Workspace();
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

 private:
  friend class Regex;
  struct Data;
  std::unique_ptr<Data> data_;
};

// The byte behind the character at `position`; one past the end at the end, so that a search there stops.
size_t behind_character(std::string_view text, size_t position);

template <class Visit>
void Regex::for_each_part(std::string_view text, Workspace& workspace, Visit&& visit) const {
  size_t covered = 0, from = 0;
  bool matched = false;
  while (from <= text.size()) {
    const std::optional<Match> match = find(text, from, workspace);
    if (!match) break;
    if (match->begin == match->end && matched && match->end == covered) {
      from = behind_character(text, from);
      continue;
    }
    if (covered != match->begin) visit(covered, match->begin, false);
    visit(match->begin, match->end, true);
    covered = from = match->end;
    matched = true;
  }
  if (covered != text.size()) visit(covered, text.size(), false);
}

}  // namespace llama_tp
