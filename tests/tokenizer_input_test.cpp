// Input that a tokenizer must refuse, with one line that says where, what and how to mend it.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/tokenizer/tokenizer.h"
#include "scratch_folder.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

void write(const std::string& path, std::string_view bytes) { std::ofstream(path, std::ios::binary) << bytes; }

json small_tokenizer() {
  return {{"version", "1.0"},
          {"added_tokens", {{{"id", 4}, {"content", "<s>"}, {"special", true}}}},
          {"model",
           {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}, {"aab", 3}}}, {"merges", {"a b", "a ab"}}}}};
}

// What loading these bytes as tokenizer.json says.
std::string complaint(std::string_view bytes) {
  const ScratchFolder scratch;
  const std::string path = scratch / "tokenizer.json";
  write(path, bytes);
  const std::string message = error_of([&] { load_tokenizer(path); });
  EXPECT_TRUE(message.starts_with(path + ": ")) << message;
  return message.substr(std::min(message.size(), path.size()));
}

std::string complaint(std::string_view pointer, const json& value) {
  json tokenizer = small_tokenizer();
  tokenizer[json::json_pointer(std::string(pointer))] = value;
  return complaint(tokenizer.dump());
}

void expect_says(const std::string& message, std::string_view part) {
  EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks: " << part;
}

TEST(TokenizerFile, SmallOneLoads) {
  const ScratchFolder scratch;
  write(scratch / "tokenizer.json", small_tokenizer().dump());
  const auto tokenizer = load_tokenizer(scratch.path());
  EXPECT_EQ(tokenizer->encode("aab<s>b"), (std::vector<int32_t>{3, 4, 1}));
  EXPECT_EQ(tokenizer->vocabulary_size(), 5);
}

// As Hugging Face's library does it, where it does not panic: it would be given a stretch that ends before it begins.
TEST(TokenizerFile, SpaceThatATokenTookAlongIsNotGivenAgain) {
  const ScratchFolder scratch;
  json tokenizer = small_tokenizer();
  tokenizer["added_tokens"].push_back({{"id", 5}, {"content", "foo"}, {"rstrip", true}});
  tokenizer["added_tokens"].push_back({{"id", 6}, {"content", "\n"}, {"lstrip", true}});
  write(scratch / "tokenizer.json", tokenizer.dump());
  const auto loaded = load_tokenizer(scratch.path());
  EXPECT_EQ(loaded->encode("a\r\na"), (std::vector<int32_t>{0, 6, 0}));
  EXPECT_EQ(loaded->encode("foo\r\n"), (std::vector<int32_t>{5}));
  EXPECT_EQ(loaded->encode("foo\r\na"), (std::vector<int32_t>{5, 0}));
  EXPECT_EQ(loaded->encode("foo\n\r\na\n"), (std::vector<int32_t>{5, 0, 6}));
}

TEST(TokenizerFile, TheFirstOfTwoAddedTokensWithOneNormalizedNameIsFound) {
  const ScratchFolder scratch;
  json tokenizer = small_tokenizer();
  tokenizer["normalizer"] = {{"type", "NFC"}};
  tokenizer["added_tokens"].push_back({{"id", 5}, {"content", "caf\u00e9"}, {"normalized", true}});
  tokenizer["added_tokens"].push_back({{"id", 6}, {"content", "cafe\u0301"}, {"normalized", true}});
  write(scratch / "tokenizer.json", tokenizer.dump());
  const auto loaded = load_tokenizer(scratch.path());
  EXPECT_EQ(loaded->encode("a caf\u00e9"), (std::vector<int32_t>{0, 5}));
  EXPECT_EQ(loaded->encode("a cafe\u0301"), (std::vector<int32_t>{0, 5}));
}

// Hugging Face's library gives an added token that the vocabulary lacks the next id, whatever its file says.
TEST(TokenizerFile, AddedTokenWithAnotherIdThanTheNextIsRefused) {
  expect_says(complaint("/added_tokens/0/id", 5),
              "\"<s>\" has id 5, but is not in model.vocab, and Hugging Face's "
              "library gives it the next free id, 4");
  json tokenizer = small_tokenizer();
  tokenizer["added_tokens"].push_back({{"id", 0}, {"content", "a"}});
  tokenizer["added_tokens"].push_back({{"id", 4}, {"content", "<s>"}, {"rstrip", true}});
  tokenizer["added_tokens"].push_back({{"id", 6}, {"content", "<t>"}});
  expect_says(complaint(tokenizer.dump()), "gives it the next free id, 5");

  const ScratchFolder scratch;
  write(scratch / "tokenizer.json", small_tokenizer().dump());
  write(scratch / "added_tokens.json", R"({"<pad>": 7, "<s>": 4})");
  expect_says(error_of([&] { load_tokenizer(scratch.path()); }), "added_tokens.json: \"<pad>\" has id 7");
}

// As in transformers 5.24: a special token is looked for in the text as it is, one that has only a name of the model's
// own in the normalized text, as tokens that are not special are.
TEST(TokenizerFile, SpecialTokensWithAnIdBesideItAreLookedForInTheTextAsItIs) {
  const ScratchFolder scratch;
  json tokenizer = small_tokenizer();
  tokenizer["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", "x"}}}, {"content", "y"}};
  write(scratch / "tokenizer.json", tokenizer.dump());
  write(scratch / "added_tokens.json", R"({"<x>": 5})");
  const auto ids_of_other_spelling = [&](const char* config) {
    write(scratch / "tokenizer_config.json", config);
    const auto loaded = load_tokenizer(scratch.path());
    EXPECT_EQ(loaded->encode("a<x>"), (std::vector<int32_t>{0, 5}));
    return loaded->encode("a<y>");
  };
  const std::vector<int32_t> as_text{0}, as_token{0, 5};  // "<y>" has no tokens
  EXPECT_EQ(ids_of_other_spelling(R"({"pad_token": "<x>"})"), as_text);
  EXPECT_EQ(ids_of_other_spelling(R"({"additional_special_tokens": ["<x>"]})"), as_text);
  EXPECT_EQ(ids_of_other_spelling(R"({"image_token": "<x>"})"), as_token);
  EXPECT_EQ(ids_of_other_spelling("{}"), as_token);
}

TEST(TokenizerFile, SpecialTokensBesideItThatAreNoListOrNoTokensAreRefused) {
  const ScratchFolder scratch;
  write(scratch / "tokenizer.json", small_tokenizer().dump());
  const auto complaint_about = [&](const char* config) {
    write(scratch / "tokenizer_config.json", config);
    return error_of([&] { load_tokenizer(scratch.path()); });
  };
  expect_says(complaint_about(R"({"extra_special_tokens": 3})"),
              "tokenizer_config.json: extra_special_tokens: is 3; it must be a list");
  expect_says(complaint_about(R"({"additional_special_tokens": ["<x>", 3]})"),
              "tokenizer_config.json: additional_special_tokens[1]: is 3; it must be an object");
  expect_says(complaint_about(R"({"extra_special_tokens": {"image_token": 3}})"),
              "tokenizer_config.json: extra_special_tokens.image_token: is 3; it must be an object");
}

TEST(TokenizerFile, ThatIsCutOrNoJsonIsRefused) {
  const std::string whole = small_tokenizer().dump();
  for (const size_t length : {size_t{0}, size_t{1}, whole.size() / 2, whole.size() - 1}) {
    expect_says(complaint(whole.substr(0, length)), "not valid JSON at byte");
  }
  expect_says(complaint(whole + std::string(1, '\0') + "x"), text("not valid JSON at byte ", whole.size() + 1));
  expect_says(complaint("{\"x\": " + std::string(80000, '[') + std::string(80000, ']') + "}"),
              "not valid JSON at byte 518");
  expect_says(complaint("[1, 2]"), "type array");
  expect_says(complaint("{}"), "\"model\" is missing");
  expect_says(complaint(R"({"version": "2.0", "model": {}})"), "version \"2.0\"");
}

TEST(TokenizerFile, VocabularyThatLiesIsRefused) {
  expect_says(complaint("/model/vocab/b", 0), "id 0 belongs to \"a\" and to \"b\"");
  expect_says(complaint("/model/vocab/b", -1), "the id of \"b\" is -1");
  expect_says(complaint("/model/vocab/b", 4000000000), "the id of \"b\" is 4000000000");
  expect_says(complaint("/model/vocab/b", 1.5), "the id of \"b\" is 1.5");
  expect_says(complaint("/model/vocab/b", "1"), "the id of \"b\" is a string");
  expect_says(complaint("/model/vocab/b", nullptr), "the id of \"b\" is null");
  expect_says(complaint("/model/vocab/b", json::array()), "the id of \"b\" is a list");
  expect_says(complaint(R"({"model": {"vocab": {"a": 0, "a": 1}, "merges": []}})"), "\"a\" comes twice");
  expect_says(complaint("/model/vocab", json::array({json::array({"a", -1.5})})), "\"vocab\", an object");
}

TEST(TokenizerFile, MergesThatLieAreRefused) {
  expect_says(complaint("/model/merges/1", "a c"), "model.merges[1]: the right part \"c\" is not in model.vocab");
  expect_says(complaint("/model/merges/1", "b a"), "model.merges[1]: the result \"ba\" is not in model.vocab");
  for (const json& wrong : {json("ab"), json("a b c"), json(1), json::array({"a"}), json::array({"a", "b", "c"}),
                            json::array({"a", json::array()}), json::object()}) {
    expect_says(complaint("/model/merges/1", wrong), "model.merges[1]: must be \"left right\"");
  }
  expect_says(complaint("/model/merges", nullptr), "\"merges\", a list; one of them is missing");
}

TEST(TokenizerFile, PartsThatAreNotSupportedAreRefusedByName) {
  expect_says(complaint("/model/type", "Unigram"), "type \"Unigram\" is not supported");
  expect_says(complaint("/normalizer", {{"type", "Nmt"}}), "normalizer: type \"Nmt\" is not supported");
  expect_says(complaint("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {{{"type", "Other"}}}}}),
              "pre_tokenizer.pretokenizers[0]: type \"Other\"");
  expect_says(complaint("/post_processor", {{"type", "BertProcessing"}}), "post_processor: type \"BertProcessing\"");
  expect_says(complaint("/decoder", {{"type", "WordPiece"}}), "decoder: type \"WordPiece\"");
  expect_says(complaint("/model/dropout", 0.1), "dropout");
  expect_says(complaint("/model/end_of_word_suffix", "</w>"), "end_of_word_suffix is not supported");
  expect_says(complaint("/model/unk_token", "<unk>"), "unk_token \"<unk>\" is not in the vocabulary");
}

// Hugging Face's library asks whether a piece stood first in the original text, which a normalizer may have changed.
TEST(TokenizerFile, PrefixOfTheFirstPieceBehindANormalizerThatMovesItIsRefused) {
  const json first = {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "first"}};
  const json digits = {{"type", "Digits"}};
  const json behind_split = {{"type", "Sequence"}, {"pretokenizers", {digits, first}}};
  const auto replace = [](const char* kind, const char* pattern, const char* content) {
    return json({{"type", "Replace"}, {"pattern", {{kind, pattern}}}, {"content", content}});
  };
  const auto refuses = [](const json& normalizer, const json& pre_tokenizer) {
    json tokenizer = small_tokenizer();
    tokenizer["normalizer"] = normalizer;
    tokenizer["pre_tokenizer"] = pre_tokenizer;
    const ScratchFolder scratch;
    write(scratch / "tokenizer.json", tokenizer.dump());
    try {
      load_tokenizer(scratch.path());
    } catch (const Error& error) {
      expect_says(error.what(), "pre_tokenizer: Metaspace with prepend_scheme \"first\" is not supported behind");
      return true;
    }
    return false;
  };
  const json prepend = {{"type", "Prepend"}, {"prepend", "_"}}, form = {{"type", "NFC"}};
  const json sequence = {{"type", "Sequence"}, {"normalizers", {form, replace("String", "x", "")}}};
  for (const json& moves :
       {replace("String", "x", ""), replace("String", "xx", "y"), replace("Regex", "^x", "y"), sequence}) {
    EXPECT_TRUE(refuses(moves, first)) << moves;
    EXPECT_FALSE(refuses(moves, digits)) << moves;
  }
  for (const json& grows : {prepend, form, replace("String", "x", "y-z")}) {
    EXPECT_TRUE(refuses(grows, behind_split)) << grows;
    EXPECT_FALSE(refuses(grows, first)) << grows;
  }
  for (const json& keeps : {json(nullptr), replace("String", " ", "▁")}) EXPECT_FALSE(refuses(keeps, behind_split));
}

TEST(TokenizerFile, ValuesOfTheWrongTypeAreRefused) {
  expect_says(complaint("/model/byte_fallback", 1), "model.byte_fallback: is 1; it must be true or false");
  expect_says(complaint("/added_tokens", "x"), "added_tokens: is \"x\"; it must be a list");
  expect_says(complaint("/added_tokens/0/id", 2), "id 2 is already that of \"ab\"");
  expect_says(complaint("/added_tokens/0/id", -2), "id: is -2; it must be an integer from 0 to 16777215");
  expect_says(complaint("/added_tokens/0/content", "a"), "\"a\" is already that of id 0");
  expect_says(
      complaint("/pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}}),
      "(a does not compile");
  expect_says(complaint("/pre_tokenizer", {{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Other"}}),
              "behavior \"Other\" is unknown");
  expect_says(complaint("/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "last"}}),
              "prepend_scheme \"last\" is unknown");
  expect_says(complaint("/post_processor", {{"type", "TemplateProcessing"}, {"single", json::array()}}),
              "holds the text 0 times");
  const json frame = {{"type", "TemplateProcessing"},
                      {"single", {{{"SpecialToken", {{"id", "<x>"}}}}, {{"Sequence", {{"id", "A"}}}}}},
                      {"special_tokens", {{"<x>", {{"ids", {7}}}}}}};
  expect_says(complaint("/post_processor", frame), "post_processor: adds id 7, which no token has");
}

TEST(Tokenizer, AFolderHoldsOneOfEitherKind) {
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    const ScratchFolder scratch;
    EXPECT_FALSE(holds_tokenizer(scratch.path()));
    EXPECT_FALSE(holds_tokenizer(scratch / name));
    write(scratch / name, "");
    EXPECT_TRUE(holds_tokenizer(scratch.path()));
    const std::filesystem::path before = std::filesystem::current_path();
    std::filesystem::current_path(scratch.path());
    EXPECT_FALSE(holds_tokenizer(""));  // not what lies here
    std::filesystem::current_path(before);
  }
}

TEST(Tokenizer, AFolderOrFileThatHoldsNoneIsRefused) {
  const ScratchFolder scratch;
  expect_says(error_of([&] { load_tokenizer(scratch.path()); }), "neither tokenizer.json nor tokenizer.model");
  expect_says(error_of([&] { load_tokenizer(scratch / "missing"); }), "no such file or folder");
  write(scratch / "vocab.txt", "a");
  expect_says(error_of([&] { load_tokenizer(scratch / "vocab.txt"); }), "must end in .json or .model");
  fs::create_directory(scratch / "tokenizer.model");
  expect_says(error_of([&] { load_tokenizer(scratch.path()); }), "neither tokenizer.json nor tokenizer.model");
  fs::remove(scratch / "tokenizer.model");
  write(scratch / "tokenizer.model", "this is no model");
  expect_says(error_of([&] { load_tokenizer(scratch.path()); }), "is not a SentencePiece model");
  write(scratch / "tokenizer.json", small_tokenizer().dump());
  write(scratch / "tokenizer_config.json", R"({"eos_token": "</s>"})");
  expect_says(error_of([&] { load_tokenizer(scratch.path()); }), "lacks the token \"</s>\"");
  write(scratch / "tokenizer_config.json", "{");
  expect_says(error_of([&] { load_tokenizer(scratch.path()); }), "tokenizer_config.json: is not JSON from byte");
}

// A normalizer_spec.precompiled_charsmap that replaces "A" by "b": a trie in units of Darts-clone (at 0 the root, whose
// child for a byte is at 0 ^ offset ^ byte; the child has the value at its own place ^ offset), and the replacements.
struct CharacterMap {
  uint32_t trie_bytes = 1024, root = 0, child = 'A' | (1 << 8) | (0x80 << 10), value = 1u << 31;
  std::string replacements = std::string("b\0", 2);

  // As a part of ModelProto: it overrules what stands before it.
  std::string bytes() const {
    std::vector<uint32_t> units(257);
    units[0] = trie_bytes, units[1] = root, units[1 + 'A'] = child, units[1 + ('A' ^ 0x80)] = value;
    std::string map(1028, '\0');
    std::memcpy(map.data(), units.data(), map.size());
    return field(3, field(2, map + replacements));
  }
  static std::string field(int number, const std::string& content) {
    const auto size = static_cast<int>(content.size());
    return std::string{static_cast<char>(number << 3 | 2), static_cast<char>((size & 0x7f) | 0x80),
                       static_cast<char>(size >> 7)} +
           content;
  }
};

TEST(TokenizerModel, CharacterMapThatPointsOutOfItselfIsRefused) {
  const ScratchFolder scratch;
  std::ifstream file("tests/goldens/tokenizers/model_llama2/tokenizer.model", std::ios::binary);
  const std::string model{std::istreambuf_iterator<char>(file), {}};
  const auto load = [&](const CharacterMap& map) {
    write(scratch / "tokenizer.model", model + map.bytes());
    return load_tokenizer(scratch.path());
  };
  const CharacterMap sound;
  EXPECT_EQ(load(sound)->encode("bAb"), load(sound)->encode("bbb"));
  const auto refused = [&](CharacterMap map, auto value, auto CharacterMap::*part) {
    map.*part = value;
    expect_says(error_of([&] { load(map); }), "is not a SentencePiece model (its precompiled_charsmap is damaged)");
  };
  refused(sound, 5000u, &CharacterMap::trie_bytes);
  refused(sound, 0u, &CharacterMap::trie_bytes);
  refused(sound, 0x100u << 10, &CharacterMap::root);
  refused(sound, 'A' | 1u << 18, &CharacterMap::child);
  refused(sound, 'A' | 1u << 9 | 1u << 15, &CharacterMap::child);  // an offset in blocks of 256
  refused(sound, 1u << 31 | 2u, &CharacterMap::value);
  refused(sound, std::string("b"), &CharacterMap::replacements);
}

TEST(Tokenizer, TextThatIsNotUtf8IsRefusedWithItsOffset) {
  for (const char* name : {"llama3", "model_llama2"}) {
    const auto tokenizer = load_tokenizer(fs::path("tests/goldens/tokenizers") / name);
    for (const auto& [text, offset] : std::initializer_list<std::pair<std::string, int>>{{"\xFF", 0},
                                                                                         {"ascii and more\xC3", 14},
                                                                                         {"é\xED\xA0\x80", 2},
                                                                                         {"a\xF4\x90\x80\x80", 1},
                                                                                         {"\xC0\x80", 0}}) {
      expect_says(error_of([&, bytes = text] { tokenizer->encode(bytes); }),
                  "not UTF-8 at byte " + std::to_string(offset) + ";");
    }
  }
}

}  // namespace
}  // namespace llama_tp
