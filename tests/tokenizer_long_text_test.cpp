// Texts that a tokenizer encodes by pieces, or by a faster algorithm, have the ids that the plain slow one and the library
// give the whole.
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "io/tokenizer/tokenizer.h"
#include "scratch_folder.h"
#include "support/small_model.h"
#include "support/tokenizer_goldens.h"

namespace llama_tp {
namespace {

namespace fs = std::filesystem;

// ------------------------------------------------------------------------------------------------------- BPE, slowly

// The algorithm as one tells it: the lowest rank anywhere merges, the leftmost first, until none is left.
Ids merged_slowly(const json& model, Ids symbols) {
  std::map<std::pair<int32_t, int32_t>, std::pair<size_t, int32_t>> merges;
  for (size_t rank = 0; rank < model["merges"].size(); ++rank) {
    const std::string left = model["merges"][rank][0], right = model["merges"][rank][1];
    merges[{model["vocab"][left], model["vocab"][right]}] = {rank, model["vocab"][left + right]};
  }
  while (true) {
    auto best = merges.end();
    size_t place = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = merges.find({symbols[i], symbols[i + 1]});
      if (found != merges.end() && (best == merges.end() || found->second.first < best->second.first)) {
        best = found;
        place = i;
      }
    }
    if (best == merges.end()) return symbols;
    symbols[place] = best->second.second;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

std::string syllables(size_t count) {
  std::string word;
  uint32_t state = 1;
  for (size_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    word += "bdklmnrtv"[state >> 16 & 7];
    word += "aeioun"[(state >> 24) % 6];
  }
  return word;
}

TEST(Bpe, WordsOfAnyLengthMergeAsThePlainAlgorithmMerges) {
  const auto tokenizer = load_tokenizer(goldens / "llama2");
  const json model = json::parse(whole_file(goldens / "llama2" / "tokenizer.json"))["model"];
  for (const size_t count : {1u, 5u, 22u, 23u, 24u, 25u, 40u, 700u}) {
    const std::string word = syllables(count);
    Ids characters = {model["vocab"]["▁"]};
    for (char c : word) characters.push_back(model["vocab"][std::string(1, c)]);
    EXPECT_EQ(tokenizer->encode(word, {false}), merged_slowly(model, characters)) << count;
  }
}

// A million characters without a space take seconds where time grows as n log n, and hours where it grows as n².
TEST(Bpe, AMillionCharactersWithoutASpaceEncode) {
  for (const char* name : {"llama2", "llama3"}) {
    const auto tokenizer = load_tokenizer(goldens / name);
    const std::string word = syllables(500000);
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(word)), word);
    const std::string spaces = std::string(1000000, ' ') + "x";
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(spaces)), spaces);
  }
}

// Ids are those that Hugging Face's `tokenizers` 0.23.3 gives.
TEST(Bpe, TextThatIsCutBeforeSpacesEncodesAsTheWholePieceDoes) {
  json model = {{"type", "BPE"},
                {"unk_token", "<unk>"},
                {"ignore_merges", true},
                {"vocab", {{"<unk>", 0}, {"▁", 1}, {"a", 2}, {"b", 3}, {"▁ab", 4}}},
                {"merges", json::array()}};
  const auto encode = [&model](std::string_view text) {
    const ScratchFolder scratch;
    const json normalizer = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}};
    write_file(scratch / "tokenizer.json", json({{"normalizer", normalizer}, {"model", model}}).dump());
    return load_tokenizer(scratch.path())->encode(text);
  };
  EXPECT_EQ(encode("b ab"), (Ids{3, 1, 2, 3}));  // "▁ab" is a token, but no piece
  EXPECT_EQ(encode(" ab"), (Ids{4}));

  // Characters that give nothing: the signs around them merge.
  model.update({{"unk_token", nullptr}, {"ignore_merges", false}, {"merges", {"▁ ▁"}}});
  model["vocab"] = {{"▁", 0}, {"a", 1}, {"▁▁", 2}, {"<0x0A>", 3}};
  EXPECT_EQ(encode("a \n a"), (Ids{1, 2, 1}));
  model["byte_fallback"] = true;
  EXPECT_EQ(encode("a é a"), (Ids{1, 2, 1}));
  EXPECT_EQ(encode("a \n a"), (Ids{1, 0, 3, 0, 1}));
}

// -------------------------------------------------------------------------------------------- SentencePiece, whole text

// Fields of a message of Protocol Buffers. Behind a model they change it: of a field that comes again the last counts.
std::string number_field(int field, int value) {
  std::string bytes;
  for (int key = field << 3; key > 0; key >>= 7) bytes += static_cast<char>((key & 127) | (key > 127 ? 128 : 0));
  return bytes + static_cast<char>(value);
}

std::string bytes_field(int field, const std::string& bytes) {
  return {static_cast<char>(field << 3 | 2) + std::string(1, static_cast<char>(bytes.size())) + bytes};
}

std::string piece(const std::string& name, int type) {
  return bytes_field(1, bytes_field(1, name) + number_field(3, type));
}

std::string random_text(uint32_t state, size_t size) {
  const char* const parts[] = {"a b ", "b a ", "a b ", "b a ", "a ", "b ",  "世 ",  "ab",
                               "  ",   "▁",    "\n",   "é ",   "9",  " 世", "dima", "e d"};
  std::string text;
  while (text.size() < size) {
    state = state * 1664525u + 1013904223u;
    text += parts[state >> 28];
  }
  return text;
}

// The library itself says what the whole has.
TEST(SentencePiece, LongTextHasTheIdsOfTheWhole) {
  constexpr int normal = 1, user_defined = 4;
  const std::string trainer_unigram = bytes_field(2, number_field(3, 1));
  const std::string suffix = bytes_field(2, number_field(24, 1));
  const auto normalizer = [](int field, int value) { return bytes_field(3, number_field(field, value)); };
  const std::string no_prefix = normalizer(3, 0), remove_extra = normalizer(4, 1);
  const std::pair<const char*, std::string> models[] = {
      {"model_llama2", ""},
      {"model_llama2", no_prefix},
      {"model_llama2", no_prefix + remove_extra},
      {"model_llama2", suffix},
      {"model_llama2", trainer_unigram},
      {"model_llama2", piece("a▁", normal) + piece("a▁b", normal)},
      {"model_llama2", piece("b▁a", user_defined)},
      {"model_rules", ""},
  };
  const ScratchFolder scratch;
  for (const auto& [name, changes] : models) {
    const std::string model = whole_file(goldens / name / "tokenizer.model") + changes;
    write_file(scratch / "tokenizer.model", model);
    const auto tokenizer = load_tokenizer(scratch / "tokenizer.model");
    sentencepiece::SentencePieceProcessor library;
    ASSERT_TRUE(library.LoadFromSerializedProto(model).ok());
    const std::string text = random_text(1, 400000);
    EXPECT_TRUE(tokenizer->encode(text, {false, false}) == library.EncodeAsIds(text))
        << testing::PrintToString(changes);
  }
}

// Of a text that begins with a space the library has the ids when it puts none in front.
TEST(SentencePiece, LongTextHasThemWithoutLegacy) {
  const ScratchFolder scratch;
  const std::string model = whole_file(goldens / "model_llama2" / "tokenizer.model");
  write_file(scratch / "tokenizer.model", model);
  write_file(scratch / "tokenizer_config.json", R"({"legacy": false})");
  const auto tokenizer = load_tokenizer(scratch.path());
  for (const std::string begin : {"a", " a"}) {
    sentencepiece::SentencePieceProcessor library;
    const bool has_space = begin.starts_with(' ');
    ASSERT_TRUE(library.LoadFromSerializedProto(has_space ? model + bytes_field(3, number_field(3, 0)) : model).ok());
    const std::string text = begin + random_text(1, 400000);
    EXPECT_TRUE(tokenizer->encode(text, {false, false}) == library.EncodeAsIds(text)) << begin;
  }
}

}  // namespace
}  // namespace llama_tp
