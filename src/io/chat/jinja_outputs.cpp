#include "io/chat/jinja_outputs.h"

#include <algorithm>
#include <array>
#include <map>
#include <regex>
#include <string_view>

#include "io/chat/white_space.h"

namespace llama_tp {

namespace {

using Texts = std::vector<std::string>;
using Outputs = std::vector<JinjaOutput>;

constexpr std::array<std::string_view, 3> roles{"system", "user", "assistant"};
constexpr size_t longest_operand = 1000;  // that is no literal: std::regex takes stack for each byte
constexpr size_t longest_text = 1 << 16;
constexpr size_t most_texts = 64;  // of one output; beyond these it is unknown

// Behind the literal that begins at `at`.
size_t literal_end(std::string_view text, size_t at) {
  const char quote = text[at++];
  while (at < text.size() && text[at] != quote) at += text[at] == '\\' ? 2 : 1;
  return std::min(at + 1, text.size());
}

bool is_quote(char c) { return c == '\'' || c == '"'; }

std::string literal_value(std::string_view literal) {
  std::string value;
  for (size_t i = 1; i + 1 < literal.size(); i++) {
    if (literal[i] != '\\') {
      value += literal[i];
      continue;
    }
    const char escaped = literal[++i];
    const size_t known = std::string_view("ntr\\'\"").find(escaped);
    value += known == std::string_view::npos ? jinja::unknown : "\n\t\r\\'\""[known];
  }
  return value;
}

// The operands of + and ~, which bind less than filters do.
Texts operands(std::string_view expression) {
  Texts parts(1);
  int depth = 0;
  for (size_t i = 0; i < expression.size();) {
    const char c = expression[i];
    if (depth == 0 && (c == '+' || c == '~')) {
      parts.emplace_back();
      i++;
      continue;
    }
    depth += (c == '(' || c == '[') - (c == ')' || c == ']');
    const size_t end = is_quote(c) ? literal_end(expression, i) : i + 1;
    parts.back() += expression.substr(i, end - i);
    i = end;
  }
  for (std::string& part : parts) part = trimmed(part);
  return parts;
}

Outputs one(std::string text) { return {{std::move(text), {}}}; }
Outputs one(char stand_in) { return one(std::string(1, stand_in)); }

// Each of the first followed by each of the second.
Outputs joined(const Outputs& first, const Outputs& second) {
  if (first.size() * second.size() > most_texts) return one(jinja::unknown);
  Outputs all;
  for (const JinjaOutput& a : first)
    for (const JinjaOutput& b : second) {
      if (a.text.size() + b.text.size() > longest_text) return one(jinja::unknown);
      all.push_back({a.text + b.text, a.sources});
      all.back().sources.insert(b.sources.begin(), b.sources.end());
    }
  return all;
}

bool is_one_of(const Texts& texts, const std::string& text) {
  return std::find(texts.begin(), texts.end(), text) != texts.end();
}

// A condition with one kind of quotes and single blanks.
std::string plain(std::string_view text) {
  std::string out;
  for (const char c : trimmed(text)) {
    const bool space = c == ' ' || c == '\n' || c == '\t';
    if (!space || out.back() != ' ') out += space ? ' ' : c == '"' ? '\'' : c;
  }
  return out;
}

// Whether a branch is for the last message alone, or for what a message says: that shows in no output.
bool chooses_messages(const std::string& condition) {
  static const std::regex choice(R"(\bloop\.last\b|\.content\b|\['content'\])");
  return std::regex_search(condition, choice) && condition != "loop.last and add_generation_prompt";
}

bool is_no_text(const std::string& value) {
  static const Texts words{"false", "true", "none", "False", "True", "None"};
  return is_one_of(words, value) || value.find_first_not_of("0123456789") == std::string::npos;
}

class Scan {
 public:
  Scan(const std::string& text, const JinjaConditions& known) : text_(text), known_(known) {
    if (text_.ends_with('\n')) text_.pop_back();  // as Jinja does
  }

  Outputs outputs() {
    for (size_t at = 0; at < text_.size();) {
      const size_t open = next_tag(at);
      plain_text(at, open);
      if (open == text_.size()) break;
      at = tag(open);
    }
    flush();
    return outputs_;
  }

 private:
  // An if that is open: whether its branch is left out, and whether another was not.
  struct If {
    bool skipped, any_reached;
    Texts conditions;  // so far
  };

  size_t next_tag(size_t at) const {
    for (; at + 1 < text_.size(); at++)
      if (text_[at] == '{' && (text_[at + 1] == '{' || text_[at + 1] == '%' || text_[at + 1] == '#')) return at;
    return text_.size();
  }

  void plain_text(size_t begin, size_t end) {
    std::string_view piece(text_.data() + begin, end - begin);
    if (strip_next_) piece.remove_prefix(std::min(piece.find_first_not_of(" \t\r\n"), piece.size()));
    strip_next_ = false;
    if (end < text_.size()) piece = stripped_before_tag(piece, end);
    write(one(std::string(piece)));
  }

  std::string_view stripped_before_tag(std::string_view piece, size_t tag) const {
    const auto without = [&](const char* spaces) { return piece.substr(0, piece.find_last_not_of(spaces) + 1); };
    if (text_.compare(tag + 2, 1, "-") == 0) return without(" \t\r\n");
    if (text_[tag + 1] == '{' || text_.compare(tag + 2, 1, "+") == 0) return piece;
    const size_t last = tag == 0 ? std::string::npos : text_.find_last_not_of(" \t", tag - 1);
    return last == std::string::npos || text_[last] == '\n' ? without(" \t") : piece;
  }

  // Reads the tag at `open`; returns what is behind it.
  size_t tag(size_t open) {
    const char kind = text_[open + 1];
    const std::string close = kind == '{' ? "}}" : std::string(1, kind) + "}";
    size_t end = open + 2;
    while (end < text_.size() && text_.compare(end, 2, close) != 0)
      end = kind != '#' && is_quote(text_[end]) ? literal_end(text_, end) : end + 1;
    std::string_view inner = std::string_view(text_).substr(open + 2, end - open - 2);
    if (inner.starts_with('-') || inner.starts_with('+')) inner.remove_prefix(1);
    strip_next_ = inner.ends_with('-');
    if (strip_next_) inner.remove_suffix(1);
    if (kind == '{') write(values(inner));
    if (kind == '%') statement(trimmed(inner));
    end = std::min(end + 2, text_.size());
    return kind != '{' && text_.compare(end, 1, "\n") == 0 ? end + 1 : end;
  }

  void statement(const std::string& inner) {
    const size_t blank = inner.find_first_of(" \t\r\n");
    const std::string word = inner.substr(0, blank);
    const std::string rest = blank == std::string::npos ? "" : plain(inner.substr(blank));
    if (word == "if") {
      ifs_.push_back({false, false, {}});
      branch(rest, rest);
    } else if ((word == "elif" || word == "else") && !ifs_.empty()) {
      branch(word == "elif" ? rest : "else " + ifs_.back().conditions.back(), word == "elif" ? rest : "");
    } else if (word == "endif" && !ifs_.empty()) {
      const bool any_reached = ifs_.back().any_reached;
      ifs_.pop_back();
      if (any_reached) flush();
    } else if (word == "for" || word == "endfor") {
      flush();
      if (word == "for" && !takes_all(rest)) write(one(jinja::unknown));
    } else if (word == "set") {
      assign(inner.substr(std::min(word.size(), inner.size())));
    } else if (word != "generation" && word != "endgeneration") {
      write(one(jinja::unknown));
    }
  }

  // Whether a loop is over the whole of what it names, or all but the first message, where that is the system's.
  bool takes_all(const std::string& loop) const {
    static const std::regex whole(R"(\w+(?: ?, ?\w+)? in (\w+)(?:\.\w+)*(?:\[1:\])?(?: ?\| ?items)?)");
    std::smatch parts;
    if (loop.size() > longest_operand || !std::regex_match(loop, parts, whole)) return false;
    const auto variable = variables_.find(parts[1]);
    const auto is_unknown = [](const JinjaOutput& value) {
      return value.text.find(jinja::unknown) != std::string::npos;
    };
    return variable == variables_.end() || std::ranges::none_of(variable->second, is_unknown);
  }

  void branch(const std::string& name, const std::string& condition) {
    If& open = ifs_.back();
    open.skipped = false;
    const bool skipped = is_unreached(name);
    if (!skipped) flush();
    if (!skipped && chooses_messages(condition) && !is_one_of(known_.heeded, condition)) write(one(jinja::unknown));
    open.skipped = skipped;
    open.any_reached |= !skipped;
    open.conditions.push_back(condition);
  }

  bool is_unreached(const std::string& name) const {
    const auto behind = known_.unreached_behind.find(name);
    const auto stands_in = [&](const std::string& earlier) {
      return earlier.find(behind->second) != std::string::npos;
    };
    return is_one_of(known_.unreached, name) ||
           (behind != known_.unreached_behind.end() && std::ranges::any_of(ifs_.back().conditions, stands_in));
  }

  bool skips() const {
    return std::any_of(ifs_.begin(), ifs_.end(), [](const If& open) { return open.skipped; });
  }

  // A variable has every text that it was ever set to; what is no text (false, none) adds none.
  void assign(const std::string& assignment) {
    const size_t equals = assignment.find('=');
    if (equals == std::string::npos) return write(one(jinja::unknown));
    if (skips()) return;
    const std::string name = trimmed(assignment.substr(0, equals)), value = trimmed(assignment.substr(equals + 1));
    Outputs added = is_no_text(value) ? Outputs{} : values(value);
    sources_++;
    Outputs& texts = variables_[name];
    for (JinjaOutput& text : added) {
      text.sources.insert(sources_);
      texts.push_back(std::move(text));
    }
  }

  Outputs values(std::string_view expression) const {
    Outputs all = one("");
    for (const std::string& operand : operands(expression)) all = joined(all, operand_values(operand));
    return all;
  }

  Outputs operand_values(const std::string& operand) const {
    static const std::regex path(R"((\w+)((?:\.\w+|\[['"]\w+['"]\]|\[\d+:?\])*)(\.strip\(\)|\s*\|\s*trim)?)");
    static const std::regex date(R"(strftime_now\(['"]%d %b %Y['"]\))");
    if (!operand.empty() && is_quote(operand[0]) && literal_end(operand, 0) == operand.size())
      return one(literal_value(operand));
    if (operand.starts_with("raise_exception(")) return one("");
    if (operand.size() > longest_operand) return one(jinja::unknown);
    if (std::regex_match(operand, date)) return one(std::string(jinja::data));
    std::smatch parts;
    if (!std::regex_match(operand, parts, path)) return one(jinja::unknown);
    const std::string name = parts[1], keys = parts[2];
    if (keys.empty() && name == "bos_token") return one(jinja::bos);
    if (keys.empty() && name == "eos_token") return one(jinja::eos);
    if (keys.find("role") != std::string::npos) return one(jinja::role);
    const auto variable = variables_.find(name);
    const bool is_data = variable == variables_.end() || !keys.empty();
    if (!is_data && variable->second.empty()) return one(jinja::unknown);
    Outputs texts = is_data ? one(std::string(jinja::data)) : variable->second;
    if (parts[3].matched)
      for (JinjaOutput& output : texts) output.text = trimmed(output.text);
    return texts;
  }

  void write(const Outputs& texts) {
    if (!skips()) current_ = joined(current_, texts);
  }

  void flush() {
    if (skips()) return;
    sources_++;
    for (JinjaOutput& output : current_) {
      output.sources.insert(sources_);
      if (!output.text.empty()) outputs_.push_back(std::move(output));
    }
    current_ = one("");
  }

  std::string text_;
  const JinjaConditions& known_;
  bool strip_next_ = false;
  std::vector<If> ifs_;
  std::map<std::string, Outputs> variables_;
  size_t sources_ = 0;
  Outputs current_ = one(""), outputs_;
};

// Behind `output` where it stands at `at`, a role as any of the three; npos where it does not.
size_t matched(const std::string& output, const std::string& text, size_t at) {
  for (const char c : output) {
    if (c != jinja::role) {
      if (at == text.size() || text[at++] != c) return std::string::npos;
      continue;
    }
    const std::string_view rest = std::string_view(text).substr(at);
    const auto role = std::find_if(roles.begin(), roles.end(), [&](std::string_view r) { return rest.starts_with(r); });
    if (role == roles.end()) return std::string::npos;
    at += role->size();
  }
  return at;
}

// Adds the sources of the outputs in all sequences that make the conversation; false where there is none.
bool spell_one(const Outputs& outputs, const std::string& conversation, std::set<size_t>& used) {
  const size_t size = conversation.size();
  std::vector<bool> begins(size + 1), ends(size + 1);  // a sequence leads to this place, and from it to the end
  begins[0] = ends[size] = true;
  for (size_t at = 0; at < size; at++)
    for (const JinjaOutput& output : outputs)
      if (const size_t end = begins[at] ? matched(output.text, conversation, at) : std::string::npos;
          end != std::string::npos)
        begins[end] = true;
  for (size_t at = size; at-- > 0;)
    for (const JinjaOutput& output : outputs)
      if (const size_t end = matched(output.text, conversation, at); end != std::string::npos && ends[end]) {
        ends[at] = true;
        if (begins[at]) used.insert(output.sources.begin(), output.sources.end());
      }
  return ends[0];
}

}  // namespace

std::vector<JinjaOutput> jinja_outputs(const std::string& text, const JinjaConditions& conditions) {
  return Scan(text, conditions).outputs();
}

bool spell(const std::vector<JinjaOutput>& outputs, const std::vector<std::string>& conversations) {
  std::set<size_t> used;
  for (const std::string& conversation : conversations)
    if (!spell_one(outputs, conversation, used)) return false;
  return std::all_of(outputs.begin(), outputs.end(), [&](const JinjaOutput& output) {
    return std::includes(used.begin(), used.end(), output.sources.begin(), output.sources.end());
  });
}

}  // namespace llama_tp
