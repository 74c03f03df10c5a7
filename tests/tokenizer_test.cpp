// The tokenizers against what Hugging Face's `tokenizers` and `sentencepiece` said (tests/goldens/tokenizers, made by
// scripts/goldens/tokenizer_goldens.py): ids, texts, and texts as they come token by token.
#include "io/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "io/tokenizer/utf8.h"
#include "scratch_folder.h"
#include "support/error_of.h"
#include "support/small_model.h"
#include "support/tokenizer_goldens.h"

namespace llama_tp {
namespace {

namespace fs = std::filesystem;

const fs::path shared_vectors = "../shared/tokenizers";  // real vocabularies, where they are at hand

std::vector<std::string> parts_of(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end; (end = text.find(separator, begin)) != std::string::npos; begin = end + separator.size()) {
    parts.push_back(text.substr(begin, end - begin));
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::vector<json> cases_of(const fs::path& folder) {
  std::vector<json> cases;
  for (const std::string& line : parts_of(whole_file(folder / "cases.jsonl"), "\n")) {
    if (!line.empty()) cases.push_back(json::parse(line));
  }
  return cases;
}

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(goldens)) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  return names;
}

// The text of the ids as it comes one by one; every piece must be valid by itself.
std::string streamed(const Tokenizer& tokenizer, const Ids& ids, DecodeOptions options) {
  const auto stream = tokenizer.stream_decoder(options);
  std::string text;
  const auto take = [&](const std::string& piece) {
    EXPECT_EQ(utf8::first_invalid(piece), piece.size()) << "a character is cut";
    text += piece;
  };
  for (int32_t id : ids) take(stream->push(id));
  take(stream->finish());
  return text;
}

class Golden : public testing::TestWithParam<std::string> {
 protected:
  fs::path folder() const { return goldens / GetParam(); }
  bool is_model() const { return fs::exists(folder() / "tokenizer.model"); }
};

TEST_P(Golden, EncodesAndDecodesAsThePeerDoes) {
  const auto tokenizer = load_tokenizer(folder());
  for (const json& golden : cases_of(folder())) {
    SCOPED_TRACE(golden.dump());
    Ids ids = golden["ids"];
    if (golden.contains("text")) {
      const std::string text = golden["text"];
      // The library of tokenizer.model takes every text as text.
      EXPECT_EQ(tokenizer->encode(text, {false, !is_model()}), ids);
      EXPECT_EQ(tokenizer->encode(text, {false, false}), golden.value("as_text", ids));
      const Ids framed = golden.value("framed", ids);
      EXPECT_EQ(tokenizer->encode(text, {true, !is_model()}), framed);
      ids = framed;
    }
    const std::string decoded = golden["decoded"];
    if (!is_model()) {
      EXPECT_EQ(tokenizer->decode(ids, {false}), golden.value("decoded_all", decoded));
    }
    // The library writes " ⁇ " for the unknown token, which is skipped here as in tokenizer.json.
    if (decoded.find("\u2047") == std::string::npos) {
      EXPECT_EQ(tokenizer->decode(ids, {true}), decoded);
    }
  }
}

TEST_P(Golden, StreamsWhatItDecodesAndNeverCutsACharacter) {
  const auto tokenizer = load_tokenizer(folder());
  for (const json& golden : cases_of(folder())) {
    SCOPED_TRACE(golden.dump());
    for (const bool skip : {false, true}) {
      const Ids ids = golden.value("framed", golden["ids"]);
      EXPECT_EQ(streamed(*tokenizer, ids, {skip}), tokenizer->decode(ids, {skip}));
    }
  }
}

TEST_P(Golden, ThePromptsTextEndsWithThePrompt) {
  const auto tokenizer = load_tokenizer(folder());
  for (const json& golden : cases_of(folder())) {
    SCOPED_TRACE(golden.dump());
    const Ids ids = golden.value("framed", golden["ids"]);
    const auto stream = tokenizer->stream_decoder();
    EXPECT_EQ(stream->push_prompt(ids), tokenizer->decode(ids));
    EXPECT_EQ(stream->held(), 0u);
    EXPECT_EQ(stream->finish(), "");
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizer, Golden, testing::ValuesIn(golden_names()),
                         [](const auto& instance) { return instance.param; });

TEST(Tokenizer, HasGoldensOfEveryKind) { EXPECT_EQ(golden_names().size(), 32u); }

// llama.cpp's test texts for Llama 2 and 3, with the ids that it gives without special tokens.
TEST(Tokenizer, ReproducesTheVectorsOfLlama2And3) {
  if (!fs::exists(shared_vectors)) {
    // Without the real vocabularies: small ones with the same parts, and Hugging Face's ids.
    for (const char* name : {"llama2", "llama3"}) {
      const auto tokenizer = load_tokenizer(goldens / name);
      for (const json& golden : cases_of(goldens / name)) {
        if (!golden.contains("text")) continue;
        EXPECT_EQ(tokenizer->encode(golden["text"].get<std::string>(), {false}), golden["ids"].get<Ids>());
      }
    }
    return;
  }
  const std::pair<const char*, const char*> vectors[] = {{"llama-bpe", "llama3/tokenizer.json"},
                                                         {"llama-spm", "llama2/tokenizer.json"},
                                                         {"llama-spm", "llama2/tokenizer.model"}};
  for (const auto& [vector, file] : vectors) {
    const auto tokenizer = load_tokenizer(shared_vectors / file);
    const auto texts = parts_of(whole_file(shared_vectors / (std::string(vector) + ".inp")), "\n__ggml_vocab_test__\n");
    const auto lines = parts_of(whole_file(shared_vectors / (std::string(vector) + ".out")), "\n");
    ASSERT_EQ(texts.size(), lines.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      std::istringstream line(lines[i]);
      const Ids ids{std::istream_iterator<int32_t>(line), {}};
      EXPECT_EQ(tokenizer->encode(texts[i], {false}), ids) << file << ": " << texts[i];
    }
  }
}

TEST(Tokenizer, IdsWithoutATokenGiveNoText) {
  for (const char* name : {"llama3", "model_llama2", "gaps"}) {
    const auto tokenizer = load_tokenizer(goldens / name);
    const auto beyond = static_cast<int32_t>(tokenizer->vocabulary_size());
    EXPECT_FALSE(tokenizer->token_of(beyond).has_value());
    EXPECT_TRUE(tokenizer->token_of(beyond - 1).has_value());
    EXPECT_EQ(tokenizer->decode(Ids{beyond, 2000000000}), "");
    EXPECT_NE(error_of([&] { tokenizer->decode(Ids{-1}); }).find("negative"), std::string::npos);
  }
}

// Text that nothing later can change comes at once, not at the end.
TEST(StreamDecoder, GivesWholeWordsAsTheyCome) {
  for (const char* name : {"llama3", "llama2", "model_llama2"}) {
    const auto tokenizer = load_tokenizer(goldens / name);
    const auto stream = tokenizer->stream_decoder();
    std::string sofar;
    Ids ids;
    for (int32_t id : tokenizer->encode("kunda stilane bovo")) {
      ids.push_back(id);
      sofar += stream->push(id);
      EXPECT_EQ(sofar, tokenizer->decode(ids)) << name;
    }
    EXPECT_EQ(stream->finish(), "");
  }
}

// What comes out from the last id on.
std::string ended_by(StreamDecoder& stream, int32_t id) {
  const std::string piece = stream.push(id);
  return piece + stream.finish();
}

// Byte tokens behind a prompt that ends in byte tokens are a run of their own: they do not break the prompt's characters.
TEST(StreamDecoder, WhatFollowsAPromptLeavesItsTextAlone) {
  const auto tokenizer = load_tokenizer(goldens / "llama2");
  const int32_t byte = *tokenizer->id_of("<0xF0>"), line_end = *tokenizer->id_of("<0x0A>"),
                space = *tokenizer->id_of("▁");
  for (const char* prompt : {"Hello 🦙", "Hello 🦙🦙"}) {
    for (const auto& [id, text] : {std::pair{byte, "�"}, {line_end, "\n"}, {space, " "}}) {
      const auto stream = tokenizer->stream_decoder();
      EXPECT_EQ(stream->push_prompt(tokenizer->encode(prompt)), prompt);
      EXPECT_EQ(ended_by(*stream, id), text);
    }
  }
}

// What a later stage needs whole, or may yet strip, comes out behind the prompt, too.
TEST(StreamDecoder, APromptIsHeldBackByNoStage) {
  const json fuse = {{"type", "Fuse"}}, strip = {{"type", "Strip"}, {"content", "-"}, {"start", 0}, {"stop", 1}};
  const json replace = {{"type", "Replace"}, {"pattern", {{"String", "ab"}}}, {"content", "c"}};
  for (const json& decoders : {json{fuse, strip}, json{fuse, replace}}) {
    const ScratchFolder scratch;
    write_file(
        scratch / "tokenizer.json",
        json({{"decoder", {{"type", "Sequence"}, {"decoders", decoders}}},
              {"model", {{"type", "BPE"}, {"vocab", {{"-", 0}, {"a", 1}, {"b", 2}}}, {"merges", json::array()}}}})
            .dump());
    const auto tokenizer = load_tokenizer(scratch.path());
    const auto stream = tokenizer->stream_decoder();
    EXPECT_EQ(stream->push_prompt(Ids{1, 0}), "a-");
    EXPECT_EQ(ended_by(*stream, 1), "a");
  }
}

// At most two signs go from the start and one from the end, wherever the tokens are cut; until the end is known the
// last sign is held back.
TEST(StreamDecoder, StripsTheWholeTextAtBothEnds) {
  const ScratchFolder scratch;
  const json decoder = {
      {"type", "Sequence"},
      {"decoders", {{{"type", "Fuse"}}, {{"type", "Strip"}, {"content", "-"}, {"start", 2}, {"stop", 1}}}}};
  const json model = {
      {"type", "BPE"}, {"vocab", {{"-", 0}, {"a", 1}, {"--", 2}, {"-a-", 3}}}, {"merges", json::array()}};
  write_file(scratch / "tokenizer.json", json({{"decoder", decoder}, {"model", model}}).dump());
  const auto tokenizer = load_tokenizer(scratch.path());
  const std::pair<Ids, const char*> table[] = {{{0, 2, 1, 0, 0}, "-a-"}, {{2, 3}, "-a"}, {{3, 2}, "a--"},
                                               {{1, 0, 1}, "a-a"},       {{2, 1}, "a"},  {{0, 0, 0, 0}, "-"}};
  for (const auto& [ids, text] : table) {
    EXPECT_EQ(tokenizer->decode(ids), text);
    EXPECT_EQ(streamed(*tokenizer, ids, {}), text);
  }
  const auto stream = tokenizer->stream_decoder();
  const std::pair<int32_t, const char*> steps[] = {{1, "a"}, {0, ""}, {0, "-"}, {1, "-a"}, {2, "-"}};
  for (const auto& [id, text] : steps) EXPECT_EQ(stream->push(id), text);
}

TEST(Tokenizer, ManyThreadsEncodeWithOne) {
  const auto tokenizer = load_tokenizer(goldens / "llama3");
  std::vector<std::string> texts;
  for (const json& golden : cases_of(goldens / "llama3")) {
    if (golden.contains("text")) texts.push_back(golden["text"]);
  }
  std::vector<Ids> alone;
  for (const std::string& text : texts) alone.push_back(tokenizer->encode(text));
  std::vector<std::thread> threads;
  std::array<int, 4> wrong{};
  for (int& mistakes : wrong) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        for (size_t i = 0; i < texts.size(); ++i) mistakes += tokenizer->encode(texts[i]) != alone[i];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, (std::array<int, 4>{}));
}

}  // namespace
}  // namespace llama_tp
