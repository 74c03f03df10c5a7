// From Oniguruma's Ruby syntax to PCRE2. Both are Perl's children and agree on most signs; this rewrites the rest.
#include <cctype>
#include <vector>

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

// Properties that tell letters by case, which both read in any spelling.
bool is_of_case(std::string_view property) {
  std::string name;
  for (char c : property) {
    if (c == ' ' || c == '_' || c == '-') continue;
    name.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  }
  return name == "lu" || name == "ll" || name == "lt" || name.starts_with("upper") || name.starts_with("lower");
}

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
    } else if (follows("(")) {
      caseless_.push_back(caseless_.back());
      follows("(?") ? group() : copy(1);
      begins_branch_ = true;
      return;
    } else if (follows("|")) {
      copy(1);
      begins_branch_ = true;
      return;
    } else if (follows(")")) {
      if (caseless_.size() > 1) caseless_.pop_back();
      copy(1);
    } else if (follows("{")) {
      repetition();
    } else if (follows("}+")) {
      refuse("a repeated repetition, {n,m}+");  // Ruby: (…{n,m})+; PCRE2 would take it as possessive
    } else {
      copy(1);
    }
    begins_branch_ = false;
  }

  // {,n} is {0,n}, and {n}? is (…{n})?, which PCRE2 would take as the same as {n}.
  void repetition() {
    const size_t first = pattern_.find_first_not_of("0123456789", at_ + 1);
    const size_t second = pattern_.find_first_not_of("0123456789", at_ + 2);
    const auto is = [&](size_t position, char sign) {
      return position < pattern_.size() && pattern_[position] == sign;
    };
    if (first > at_ + 1 && is(first, '}') && is(first + 1, '?')) refuse("a repetition that may be left out, {n}?,");
    if (is(at_ + 1, ',') && second > at_ + 2 && is(second, '}')) return put("{0,", 2);
    copy(1);
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
      case 'v':
        return put("\\x{B}", 2);
      case 'Q':  // to Ruby the letter; to PCRE2 a quotation,
      case 'E':
      case 'V':  // or all but vertical space
        refuse(text('\\', sign));
      case 'x':
        return hexadecimal_character();
      case 'p':
      case 'P':
        return property();
      default:
        copy(escape_length());
    }
  }

  // \x80 and on without braces: to Ruby a byte, to PCRE2 a character.
  void hexadecimal_character() {
    const size_t end = std::min(pattern_.find_first_not_of("0123456789ABCDEFabcdef", at_ + 2), at_ + 4);
    if (end == at_ + 4 && at_ + 3 < pattern_.size() && pattern_[at_ + 2] > '7') refuse("a byte above 7F");
    copy(escape_length());
  }

  // "\\p{L}" is one escape, not the letter p repeated.
  size_t escape_length() const {
    const size_t rest = pattern_.size() - at_;
    if (rest < 3 || pattern_[at_ + 2] != '{') return std::min<size_t>(2, rest);
    const size_t close = pattern_.find('}', at_);
    return close == std::string_view::npos ? rest : close + 1 - at_;
  }

  // \pL: to Oniguruma the letters p and L. \p{Han}: to Oniguruma the characters of that script, to PCRE2 also those that
  // it shares with others.
  void property() {
    const size_t length = escape_length();
    if (length < 3) refuse("\\p without braces");
    const bool named = length > 4 && pattern_[at_ + length - 1] == '}';
    const size_t sign = named && pattern_[at_ + 3] == '^' ? 1 : 0;
    const std::string_view name = named ? pattern_.substr(at_ + 3 + sign, length - 4 - sign) : std::string_view();
    if (in_set_ && caseless_.back() && is_of_case(name)) refuse("letters of one case in a set under (?i)");
    if (named && is_script(name)) {
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

  // (?imx-imx: and (?imx-imx): Ruby's m lets the point match a line's end, which is s elsewhere. (?i) holds up to the
  // group's end: in Ruby with all branches behind it, a(?i)b|c being a(?i:b|c), in PCRE2 with what it stands beside.
  void group() {
    const size_t end = pattern_.find_first_not_of("imxa-", at_ + 2);
    const bool has_options = end != std::string_view::npos && (pattern_[end] == ':' || pattern_[end] == ')');
    if (!has_options) return copy(group_begin());
    const std::string_view options = pattern_.substr(at_ + 2, end - at_ - 2);
    const size_t letter = options.find('i');
    const bool alone = pattern_[end] == ')';
    if (alone && !begins_branch_) refuse(text("(?", options, ") behind the beginning of a branch"));
    if (alone) caseless_.pop_back();
    if (letter != std::string_view::npos) caseless_.back() = letter < options.find('-');
    copy(2);
    for (; at_ < end; ++at_) out_.push_back(pattern_[at_] == 'm' ? 's' : pattern_[at_]);
    copy(1);
  }

  // (?= (?! (?> (?<= (?<! (?<name>
  size_t group_begin() const {
    if (!follows("(?<")) return std::min<size_t>(3, pattern_.size() - at_);
    if (follows("(?<=") || follows("(?<!")) return 4;
    const size_t close = pattern_.find('>', at_);
    return (close == std::string_view::npos ? pattern_.size() : close + 1) - at_;
  }

  std::string_view pattern_, where_;
  std::string out_;
  size_t at_ = 0;
  bool in_set_ = false;
  bool begins_branch_ = true;             // nothing of the branch stands before this place
  std::vector<bool> caseless_ = {false};  // (?i) here, and around each group that is open
};

}  // namespace

std::string pcre_from_oniguruma(std::string_view pattern, std::string_view where) {
  return Translation(pattern, where).run();
}

}  // namespace llama_tp
