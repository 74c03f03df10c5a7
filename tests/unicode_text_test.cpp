// The parts of the tokenizers that have a definition of their own: UTF-8, normal forms, regular expressions.
#include <gtest/gtest.h>

#include "io/tokenizer/normalization_form.h"
#include "io/tokenizer/regex.h"
#include "io/tokenizer/utf8.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

// The Unicode Standard 15, table 3-8 and its neighbours: one U+FFFD for each longest start of a character.
TEST(Utf8, ReplacesEachLongestStartOfACharacterByOneSign) {
  const std::string sign(utf8::replacement);
  const std::pair<std::string, std::string> table[] = {
      {"\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64",
       "a" + sign + sign + sign + "b" + sign + "c" + sign + sign + "d"},
      {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", sign + sign + sign + sign + sign + sign + sign + sign + "A"},
      {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", sign + sign + sign + sign + sign + sign + sign + sign + "A"},
      {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", sign + sign + sign + sign + sign + "A" + sign + sign + "B"}};
  for (const auto& [bytes, text] : table) {
    std::string out;
    EXPECT_EQ(utf8::append_replacing(out, bytes), bytes.size());
    EXPECT_EQ(out, text);
  }
  std::string out;
  EXPECT_EQ(utf8::append_replacing(out, "a\xF0\x9F\x99"), 1u);  // may still become a character
  EXPECT_EQ(utf8::cut_length("a\xF0\x9F\x99"), 3u);
  EXPECT_EQ(utf8::cut_length("a\x9F\x99"), 0u);
}

bool matches(std::string_view pattern, std::string_view text) {
  Regex::Workspace workspace;
  const auto match = Regex(pattern, "test").find(text, 0, workspace);
  return match && match->begin == 0 && match->end == text.size();
}

// What Oniguruma's manual says of its Ruby syntax, where PCRE2 would do otherwise.
TEST(Regex, MeansWhatOnigurumaMeans) {
  EXPECT_TRUE(matches(R"(\s)", "\u0085"));
  EXPECT_FALSE(matches(R"(\s)", "\u180E"));  // a space in PCRE2
  EXPECT_TRUE(matches(R"([^\S]\S[\S])", "\u3000\u180Ex"));
  EXPECT_TRUE(matches(R"(\w+)", "aé\u0301_9\u0660ⓐ²"));  // PCRE2 leaves out marks and symbols
  EXPECT_FALSE(matches(R"(\w)", "\u200D"));
  EXPECT_TRUE(matches(R"(\W[^\w])", "-\u200D"));
  EXPECT_TRUE(matches(R"([^\w][\w\s][^\w\s])", "½é²"));  // raised digits are no words' in a set
  EXPECT_TRUE(matches(R"(\b\w\B\w\b)", "a\u0301"));
  EXPECT_FALSE(matches(R"(a\b.)", "a\u0301"));  // a mark is no letter of a word in PCRE2
  EXPECT_TRUE(matches(R"(a\b.\B.\b²\B½[\b])", "a-\u200D²½\b"));
  EXPECT_TRUE(matches(R"(\h+)", "09afAF"));  // horizontal space in PCRE2
  EXPECT_TRUE(matches(R"((?m:.))", "\n"));
  EXPECT_FALSE(matches(".", "\n"));
  EXPECT_TRUE(matches(R"(a\n^b)", "a\nb"));  // ^ stands at every line
  EXPECT_TRUE(matches(R"(\u00e9{,2})", "éé"));
  EXPECT_TRUE(matches(R"(\p{Han}[\p{^Han}])", "\u4E2Dx"));
  EXPECT_FALSE(matches(R"(\p{Han})", "\u3001"));  // shared with other scripts
  EXPECT_TRUE(matches("(?i:'s)", "'\u017F"));
  EXPECT_TRUE(matches(R"(\v[\v])", "\v\v"));
  EXPECT_FALSE(matches(R"(\v)", "\n"));  // any vertical space in PCRE2
  EXPECT_TRUE(matches("a{,}b{,1c{a}{,d", "a{,}b{,1c{a}{,d"));
  EXPECT_TRUE(matches("a{,2}b{1,2}?c{2}", "bcc"));
  EXPECT_TRUE(matches(R"((?i)x(?i:y)[\p{L}]((?i)z|(?-i)[\p{Lu}])|(?i)b|C)", "c"));
  EXPECT_FALSE(matches(R"((?i:x)|((?i)y)|[\p{Lu}])", "a"));
}

// Examples of Unicode's annex 15 and of its conformance test.
TEST(NormalizationForm, IsThatOfUnicode) {
  struct Example {
    std::string text, nfc, nfd, nfkc, nfkd;
  };
  for (const auto& [text, nfc, nfd, nfkc, nfkd] : {
           Example{"plain\n", "plain\n", "plain\n", "plain\n", "plain\n"},
           Example{"e\u0301 \u00e9", "\u00e9 \u00e9", "e\u0301 e\u0301", "\u00e9 \u00e9", "e\u0301 e\u0301"},
           Example{"\u1e9b\u0323", "\u1e9b\u0323", "\u017f\u0323\u0307", "\u1e69", "s\u0323\u0307"},
           Example{"\u212b", "\u00c5", "A\u030a", "\u00c5", "A\u030a"},
           Example{"\ufb01\u00b2", "\ufb01\u00b2", "\ufb01\u00b2", "fi2", "fi2"},
           Example{"\u1112\u1161\u11ab", "\ud55c", "\u1112\u1161\u11ab", "\ud55c", "\u1112\u1161\u11ab"},
           Example{"\ud558\u11ab", "\ud55c", "\u1112\u1161\u11ab", "\ud55c", "\u1112\u1161\u11ab"},
           Example{"\u0958", "\u0915\u093c", "\u0915\u093c", "\u0915\u093c", "\u0915\u093c"},  // never composed
           Example{std::string("\0\u0344", 3), std::string("\0\u0308\u0301", 5), std::string("\0\u0308\u0301", 5),
                   std::string("\0\u0308\u0301", 5), std::string("\0\u0308\u0301", 5)},
       }) {
    EXPECT_EQ(normalized(text, NormalizationForm::nfc), nfc) << text;
    EXPECT_EQ(normalized(text, NormalizationForm::nfd), nfd) << text;
    EXPECT_EQ(normalized(text, NormalizationForm::nfkc), nfkc) << text;
    EXPECT_EQ(normalized(text, NormalizationForm::nfkd), nfkd) << text;
  }
}

// The expressions of Llama 3 (and SmolLM 3, Qwen), o200k (with it Mistral's) and DeepSeek V3 that are published.
TEST(Regex, TakesThePublishedExpressions) {
  const std::string cased = R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)";
  const std::string rest = R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::string short_forms = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
  for (const std::string& pattern :
       {short_forms + R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})" + rest, cased + short_forms + R"(?|\p{N}{1,3})" + rest,
        cased + R"(|\p{N})" + rest, std::string(R"([!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)") + rest,
        std::string(R"(\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$)))"),
        std::string(R"([\p{Han}]+|[一-龥ࠀ-一가-퟿]+)")}) {
    EXPECT_NO_THROW(Regex(pattern, "here")) << pattern;
  }
}

TEST(Regex, RefusesByNameWhatPcreCannotSay) {
  for (const char* pattern : {R"([\w&&[^a]])", "[a[bc]]", R"([\W])", R"([\H])", "a{1,2}+", R"(\p{N}{3}?)", "a(?i)b|c",
                              "(a(?-i)b)", R"((?i)[\p{Lu}])", R"((?i:a|([\p{^ll}])))", R"((?i)[\p{Upper}])", R"(\pL)",
                              R"([\PL])", R"(\Q.\E)", R"(\E)", R"(\V)", R"(\x80)", R"([\xE9])"}) {
    EXPECT_TRUE(holds(error_of([&] { Regex(pattern, "here"); }), "has no equal in PCRE2"));
  }
}

}  // namespace
}  // namespace llama_tp
