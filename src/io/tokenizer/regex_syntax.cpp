// From Oniguruma's Ruby syntax to PCRE2. Both are Perl's children and agree on most signs; this rewrites the rest.
#include "base/error.h"
#include "io/tokenizer/regex.h"

namespace llama_tp {

namespace {

// Each is the inside of a set. Unicode's White_Space is PCRE2's \s without U+180E; a set cannot hold its complement, so
// that is written out.
constexpr std::string_view white_space =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view not_white_space =
    R"(\x{0}-\x{8}\x{E}-\x{1F}\x{21}-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027})"
    R"(\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";
const std::string word = text(word_characters, latin_numbers);
constexpr std::string_view hexadecimal = "0-9A-Fa-f";

class Translation {
 public:
  Translation(std::string_view pattern, std::string_view where) : pattern_(pattern), where_(where) {}

  std::string run() {
    while (at_ < pattern_.size()) in_set_ ? step_in_set() : step();
    return std::move(out_);
  }

 private:
  bool follows(std::string_view text) const { return pattern_.substr(at_, text.size()) == text; }
  void copy(size_t count) {
    out_.append(pattern_.substr(at_, count));
    at_ += count;
  }
  void put(std::string_view text, size_t instead_of) {
    out_.append(text);
    at_ += instead_of;
  }
  [[noreturn]] void refuse(std::string_view what) const {
    fail(where_, ": ", what, " at offset ", at_, " of the regular expression ", pattern_,
         " has no equal in PCRE2; write it in another way");
  }

  void step() {
    if (follows("\\")) {
      escape();
    } else if (follows("[")) {
      in_set_ = true;
      copy(1);
      if (follows("^")) copy(1);
      if (follows("]")) copy(1);  // the first ] stands for itself
    } else if (follows("(?")) {
      group_options();
    } else if (follows("{,")) {
      put("{0,", 2);
    } else if (follows("}+")) {
      refuse("a repeated repetition, {n,m}+");  // Ruby: (…{n,m})+; PCRE2 would take it as possessive
    } else {
      copy(1);
    }
  }

  void step_in_set() {
    if (follows("\\")) {
      escape();
    } else if (follows("&&")) {
      refuse("the intersection of sets, &&,");
    } else if (follows("[")) {
      refuse("a set inside a set");
    } else {
      if (follows("]")) in_set_ = false;
      copy(1);
    }
  }

  void escape() {
    const char sign = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    switch (sign) {
      case 's':
        return set(white_space, false);
      case 'S':
        return in_set_ ? put(not_white_space, 2) : set(white_space, true);
      case 'b':
        return in_set_ ? copy(2) : word_border(false);  // in a set: the backspace
      case 'B':
        return in_set_ ? copy(2) : word_border(true);
      case 'w':
        return set(in_set_ ? word_characters : word, false);
      case 'W':
        return in_set_ ? refuse("\\W inside a set") : set(word, true);
      case 'h':
        return set(hexadecimal, false);
      case 'H':
        return in_set_ ? refuse("\\H inside a set") : set(hexadecimal, true);
      case 'u':
        out_.append("\\x{").append(pattern_.substr(at_ + 2, 4)).push_back('}');
        at_ = std::min(at_ + 6, pattern_.size());
        return;
      case 'p':
      case 'P':
        return property();
      default:
        copy(escape_length());
    }
  }

  // "\\p{L}" is one escape, not the letter p repeated.
  size_t escape_length() const {
    const size_t rest = pattern_.size() - at_;
    if (rest < 3 || pattern_[at_ + 2] != '{') return std::min<size_t>(2, rest);
    const size_t close = pattern_.find('}', at_);
    return close == std::string_view::npos ? rest : close + 1 - at_;
  }

  // \p{Han}: to Oniguruma the characters of that script, to PCRE2 also those that it shares with others.
  void property() {
    const size_t length = escape_length();
    const bool named = length > 4 && pattern_[at_ + length - 1] == '}';
    const size_t sign = named && pattern_[at_ + 3] == '^' ? 1 : 0;
    if (named && is_script(pattern_.substr(at_ + 3 + sign, length - 4 - sign))) {
      copy(3 + sign);
      out_.append("sc:");
      copy(length - 3 - sign);
    } else {
      copy(length);
    }
  }

  // A word's character on one side alone, or on both or neither: PCRE2's own \b has another word, without marks.
  void word_border(bool same_on_both) {
    const char *in_word = "=[", *in_none = "![";
    put(text("(?:(?<", in_word, word, "])(?", same_on_both ? in_word : in_none, word, "])|(?<", in_none, word, "])(?",
             same_on_both ? in_none : in_word, word, "]))"),
        2);
  }

  void set(std::string_view inside, bool negated) {
    if (in_set_) return put(inside, 2);
    out_.append(negated ? "[^" : "[").append(inside).push_back(']');
    at_ += 2;
  }

  // (?imx-imx: and (?imx-imx): Ruby's m lets the point match a line's end, which is s elsewhere.
  void group_options() {
    copy(2);
    const size_t end = pattern_.find_first_not_of("imxa-", at_);
    if (end == std::string_view::npos || (pattern_[end] != ':' && pattern_[end] != ')')) return;
    for (; at_ < end; ++at_) out_.push_back(pattern_[at_] == 'm' ? 's' : pattern_[at_]);
  }

  std::string_view pattern_, where_;
  std::string out_;
  size_t at_ = 0;
  bool in_set_ = false;
};

}  // namespace

std::string pcre_from_oniguruma(std::string_view pattern, std::string_view where) {
  return Translation(pattern, where).run();
}

}  // namespace llama_tp
