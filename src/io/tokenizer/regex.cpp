#include "io/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"
#include "io/tokenizer/utf8.h"

namespace llama_tp {

namespace {

// Room for backtracking in machine-code matching, per thread: what the processor's stack offers by default is 32 KiB.
constexpr size_t jit_stack_begin = 32 << 10;
constexpr size_t jit_stack_most = 16 << 20;

std::string pcre_message(int code) {
  unsigned char buffer[256];
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

PCRE2_SPTR bytes_of(std::string_view text) {
  // PCRE2 wants an address even for nothing.
  return reinterpret_cast<PCRE2_SPTR>(text.data() ? text.data() : "");
}

}  // namespace

struct Regex::Code {
  explicit Code(pcre2_code* code) : compiled(code) {}
  ~Code() { pcre2_code_free(compiled); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;

  pcre2_code* compiled;
  bool machine_code = false;
};

struct Regex::Workspace::Data {
  Data()
      : match(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(jit_stack_begin, jit_stack_most, nullptr)) {
    require(match && context, "not enough memory for a regular expression");
    // A run of a million spaces takes a million steps back: that is long, not wrong.
    pcre2_set_match_limit(context, UINT32_MAX);
    if (stack) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Data() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(match);
  }
  Data(const Data&) = delete;
  Data& operator=(const Data&) = delete;

  pcre2_match_data* match;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;  // none where PCRE2 has no JIT
};

Regex::Workspace::Workspace() : data_(std::make_unique<Data>()) {}
Regex::Workspace::~Workspace() = default;

Regex::Regex(std::string_view oniguruma_pattern, std::string_view where)
    : Regex(FromPcre(), pcre_from_oniguruma(oniguruma_pattern, where), oniguruma_pattern, where) {}

Regex Regex::literal(std::string_view text) {
  std::string pattern;
  for (char c : text) {
    if (std::string_view("\\^$.[]|()?*+{}").find(c) != std::string_view::npos) pattern.push_back('\\');
    pattern.push_back(c);
  }
  return Regex(FromPcre(), pattern, text, "literal");
}

Regex::Regex(FromPcre, const std::string& pattern, std::string_view original, std::string_view where) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Ruby's ^ and $ stand at every line; UCP gives \d, \b and letters in (?i) their Unicode meaning.
  constexpr uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  auto code =
      std::make_shared<Code>(pcre2_compile(bytes_of(pattern), pattern.size(), options, &error, &offset, nullptr));
  require(code->compiled != nullptr, where, ": the regular expression ", original,
          " does not compile: ", pcre_message(error), "; PCRE2 reads it as ", pattern, " and stops at offset ", offset);
  code->machine_code = pcre2_jit_compile(code->compiled, PCRE2_JIT_COMPLETE) == 0;
  code_ = std::move(code);
}

std::optional<Regex::Match> Regex::find(std::string_view text, size_t from, Workspace& workspace) const {
  const Workspace::Data& data = *workspace.data_;
  const auto run = code_->machine_code ? pcre2_jit_match : pcre2_match;
  const int result =
      run(code_->compiled, bytes_of(text), text.size(), from, PCRE2_NO_UTF_CHECK, data.match, data.context);
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  require(result >= 0, "the tokenizer's regular expression gives up at byte ", from, " of a text of ", text.size(),
          " bytes: ", pcre_message(result), "; cut the text into shorter ones");
  const PCRE2_SIZE* const range = pcre2_get_ovector_pointer(data.match);
  return Match{range[0], range[1]};
}

bool is_script(std::string_view name) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  const std::string pattern = text("\\p{sc:", name, "}");
  pcre2_code* const code = pcre2_compile(bytes_of(pattern), pattern.size(), PCRE2_UTF, &error, &offset, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

size_t behind_character(std::string_view text, size_t position) {
  return position < text.size() ? position + utf8::length_from_lead(text[position]) : position + 1;
}

}  // namespace llama_tp
