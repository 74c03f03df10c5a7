// The tokenizers against what Hugging Face's `tokenizers` and `sentencepiece` said (tests/goldens/tokenizers, made by
// scripts/goldens/tokenizer_goldens.py), and against plain slow versions of themselves.
#include "io/tokenizer/tokenizer.h"

#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "io/tokenizer/utf8.h"
#include "scratch_folder.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Ids = std::vector<int32_t>;

const fs::path goldens = "tests/goldens/tokenizers";
const fs::path shared_vectors = "../shared/tokenizers";  // real vocabularies, where they are at hand

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::string& path, std::string_view bytes) { std::ofstream(path, std::ios::binary) << bytes; }

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
  for (const std::string& line : parts_of(content_of(folder / "cases.jsonl"), "\n")) {
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
    const auto texts = parts_of(content_of(shared_vectors / (std::string(vector) + ".inp")), "\n__ggml_vocab_test__\n");
    const auto lines = parts_of(content_of(shared_vectors / (std::string(vector) + ".out")), "\n");
    ASSERT_EQ(texts.size(), lines.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      std::istringstream line(lines[i]);
      const Ids ids{std::istream_iterator<int32_t>(line), {}};
      EXPECT_EQ(tokenizer->encode(texts[i], {false}), ids) << file << ": " << texts[i];
    }
  }
}

TEST(Tokenizer, EndsOfTextComeFromTheFilesBesideItElseFromItself) {
  const auto llama3 = load_tokenizer(goldens / "llama3");
  EXPECT_EQ(llama3->bos(), llama3->id_of("<|begin_of_text|>"));  // the post-processor puts it in front
  EXPECT_EQ(llama3->eos(), std::nullopt);
  const auto gpt2 = load_tokenizer(goldens / "gpt2" / "tokenizer.json");
  EXPECT_EQ(gpt2->eos(), gpt2->id_of("<sep>"));
  const auto model = load_tokenizer(goldens / "model_llama2");
  EXPECT_EQ(model->bos(), 1);
  EXPECT_EQ(model->eos(), 2);

  const ScratchFolder scratch;
  fs::copy(goldens / "llama3" / "tokenizer.json", scratch.path());
  write(scratch / "special_tokens_map.json", R"({"bos_token": "<|eot_id|>", "eos_token": {"content": "<|eot_id|>"}})");
  write(scratch / "tokenizer_config.json", R"({"bos_token": {"content": "<|end_of_text|>"}, "eos_token": null})");
  const auto named = load_tokenizer(scratch.path());
  EXPECT_EQ(named->bos(), named->id_of("<|eot_id|>"));
  EXPECT_EQ(named->eos(), named->id_of("<|eot_id|>"));

  // As AutoTokenizer has it: beside a config with added_tokens_decoder the other file is not read.
  write(scratch / "tokenizer_config.json",
        R"({"bos_token": {"content": "<|end_of_text|>"}, "eos_token": null, "added_tokens_decoder": {}})");
  const auto newer = load_tokenizer(scratch.path());
  EXPECT_EQ(newer->bos(), newer->id_of("<|end_of_text|>"));
  EXPECT_EQ(newer->eos(), std::nullopt);
}

TEST(Tokenizer, ModelFindsItsControlSymbolsAndTokensAddedBesideIt) {
  const ScratchFolder scratch;
  fs::copy(goldens / "model_llama2" / "tokenizer.model", scratch.path());
  write(scratch / "tokenizer_config.json",
        R"({"add_eos_token": true, "added_tokens_decoder": {"461": {"content": "<|user|>", "rstrip": true},
                                                            "460": {"content": "<pad>"}}})");
  const auto model = load_tokenizer(scratch.path());
  EXPECT_EQ(model->vocabulary_size(), 462);
  const auto join = [](std::initializer_list<Ids> parts) {
    Ids all;
    for (const Ids& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
  };
  const Ids one = model->encode("bovo", {false}), two = model->encode(" dima", {false});
  EXPECT_EQ(model->encode("bovo</s> dima", {false}), join({one, {2}, two}));
  EXPECT_EQ(model->encode("bovo<|user|>  bovo<pad>"), join({{1}, one, {461}, one, {460}, {2}}));
  EXPECT_EQ(model->decode(join({{1}, one, {2}, one}), {false}), "<s> bovo</s> bovo");
  EXPECT_EQ(model->decode(join({{1}, one, {2}, one}), {true}), "bovo bovo");
}

// Ids by AutoTokenizer of transformers 4.46 and, where legacy is false, 5.24 as well.
TEST(Tokenizer, WithoutLegacyOnlyTheTextsFirstWordOfAModelGetsASpace) {
  const struct {
    const char* text;
    Ids legacy, modern;
  } table[] = {
      {"bovo", {376, 290}, {376, 290}},
      {"bovo</s>dima</s> dima", {376, 290, 2, 391, 292, 2, 417, 391, 292}, {376, 290, 2, 431, 422, 292, 2, 391, 292}},
      {"<s>[dima] bovo</s>", {1, 417, 94, 431, 422, 292, 96, 376, 290, 2}, {1, 94, 431, 422, 292, 96, 376, 290, 2}},
      {"  bovo", {417, 417, 376, 290}, {417, 376, 290}},
      {" bovo", {417, 376, 290}, {376, 290}},
      {"▁bovo", {417, 376, 290}, {376, 290}},
      {"x</s>▁dima", {417, 123, 2, 417, 391, 292}, {417, 123, 2, 391, 292}},
      {"bovo </s> dima", {376, 290, 417, 2, 417, 391, 292}, {376, 290, 417, 2, 391, 292}},
      {"a\nb</s>\nc", {417, 421, 435, 427, 2, 417, 435, 102}, {417, 421, 435, 427, 2, 435, 102}},
  };
  for (const char* config : {"{}", R"({"legacy": null})", R"({"legacy": true})", R"({"legacy": false})"}) {
    const ScratchFolder scratch;
    fs::copy(goldens / "model_llama2" / "tokenizer.model", scratch.path());
    write(scratch / "tokenizer_config.json", config);
    const auto model = load_tokenizer(scratch.path());
    const bool modern = std::string_view(config).find("false") != std::string_view::npos;
    for (const auto& each : table)
      EXPECT_EQ(model->encode(each.text, {false}), modern ? each.modern : each.legacy) << each.text << config;
  }
}

// Ids and texts by AutoTokenizer of transformers 5.24.
TEST(Tokenizer, WithoutAPrefixNoTextOfAModelGetsASpace) {
  const std::vector<std::pair<std::string, Ids>> table{
      {"bovo", {272, 290}},
      {"bovo</s>dima</s> dima", {272, 290, 2, 431, 422, 292, 2, 391, 292}},
      {"<s>[dima] bovo</s>", {1, 94, 431, 422, 292, 96, 376, 290, 2}},
      {"  bovo", {417, 376, 290}},
      {"▁bovo", {376, 290}},
      {"x</s>▁dima", {123, 2, 391, 292}},
      {"a\nb</s>\nc", {421, 435, 427, 2, 435, 102}},
  };
  for (const char* legacy : {"", R"("legacy": true, )", R"("legacy": false, )"}) {
    const ScratchFolder scratch;
    fs::copy(goldens / "model_llama2" / "tokenizer.model", scratch.path());
    write(scratch / "tokenizer_config.json", text("{", legacy, R"("add_prefix_space": false})"));
    const auto model = load_tokenizer(scratch.path());
    for (const auto& [each, ids] : table) EXPECT_EQ(model->encode(each, {false}), ids) << each << legacy;
    EXPECT_EQ(model->decode(Ids{376, 290}), " bovo");
    EXPECT_EQ(model->decode(Ids{272, 290}), "bovo");
  }
}

// A user's message must not hold a control token, whichever of the files says that it is one.
TEST(Tokenizer, TokensWithARoleAreSpecialInAModelToo) {
  const ScratchFolder scratch;
  fs::copy(goldens / "model_llama2" / "tokenizer.model", scratch.path());
  write(scratch / "added_tokens.json", R"({"<|im_end|>": 460, "<pad>": 461, "<x>": 462})");
  write(scratch / "special_tokens_map.json", R"({"eos_token": "<|im_end|>", "pad_token": {"content": "<pad>"}})");
  const std::string config = scratch / "tokenizer_config.json";
  for (const char* key : {"extra_special_tokens", "additional_special_tokens"}) {
    write(config, text(R"({")", key, R"(": ["<x>"]})"));
    EXPECT_TRUE(load_tokenizer(scratch.path())->is_special(462));
  }
  write(config, R"({"image_token": "<x>"})");
  EXPECT_TRUE(load_tokenizer(scratch.path())->is_special(462));
  fs::remove(config);
  const auto model = load_tokenizer(scratch.path());
  EXPECT_EQ(model->eos(), 460);
  for (int32_t id : {460, 461}) EXPECT_TRUE(model->is_special(id));
  EXPECT_FALSE(model->is_special(462));
  EXPECT_EQ(model->decode(Ids{460, 461, 462}, {true}), "<x>");
  const Ids as_text = model->encode("<|im_end|><pad><x>", {false, false});
  EXPECT_EQ(std::ranges::count_if(as_text, [](int32_t id) { return id >= 460; }), 1);
  EXPECT_EQ(model->encode("<|im_end|><pad><x>", {false, true}), (Ids{460, 461, 462}));
}

// As AutoTokenizer of transformers 5.24 adds them to what tokenizer.json holds.
TEST(Tokenizer, TokensBesideAJsonAreAddedAndTheirFlagsOverrule) {
  const ScratchFolder scratch;
  fs::copy(goldens / "llama3" / "tokenizer.json", scratch.path());
  const std::string config = scratch / "tokenizer_config.json", ids = scratch / "added_tokens.json";
  const auto encode = [&](const char* text) { return load_tokenizer(scratch.path())->encode(text, {false, true}); };
  const Ids a = encode("a"), space = encode(" \n a");

  write(config, R"({"pad_token": "<pad>", "additional_special_tokens": ["<q>", "<|eot_id|>", "<new>"]})");
  write(ids, R"({"<new>": 489})");
  EXPECT_EQ(encode("<new><pad><q>"), (Ids{489, 490, 491}));
  const auto added = load_tokenizer(scratch.path());
  EXPECT_EQ(added->vocabulary_size(), 492);
  EXPECT_EQ(added->decode(Ids{489, 490, 491}, {true}), "");

  // Of a config with added_tokens_decoder the other file is no longer read.
  write(config, R"({"eos_token": "<|eot_id|>", "added_tokens_decoder": {
      "487": {"content": "<|eot_id|>", "rstrip": true, "special": false}, "489": {"content": "a", "special": true},
      "488": {"content": "<|eot_id|>x", "special": false, "normalized": true}}})");
  const auto overruled = load_tokenizer(scratch.path());
  EXPECT_EQ(overruled->encode("<|eot_id|> \n a", {false, true}), (Ids{487, a[0]}));
  EXPECT_TRUE(overruled->is_special(a[0]));
  EXPECT_TRUE(overruled->is_special(487));
  EXPECT_FALSE(overruled->is_special(488));
  EXPECT_EQ(overruled->vocabulary_size(), 489);
}

// What the files beside a tokenizer.json add to it: "<x> <y>*" in the order of their ids, special ones with a star.
struct FilesBeside {
  const char *config, *map, *ids, *added;
};

// Each as AutoTokenizer of transformers 5.24 adds them.
TEST(Tokenizer, SpecialTokensComeFromTheFilesThatAutoTokenizerAsks) {
  const char* const none = "{}";
  for (
      const auto& [config, map, ids, added] : std::initializer_list<FilesBeside>{
          // A config with added_tokens_decoder is the only file.
          {R"({"added_tokens_decoder": {"0": {"content": "!"}}})",
           R"({"pad_token": "[PAD]", "additional_special_tokens": ["<x>"]})", R"({"<z>": 489})", ""},
          // One list of the config.
          {R"({"extra_special_tokens": ["<x>"], "additional_special_tokens": ["<y>"]})", none, none, "<x>*"},
          {R"({"extra_special_tokens": [], "additional_special_tokens": ["<y>"]})", none, none, "<y>*"},
          // The map's extra list behind it, its older one only in its place.
          {R"({"extra_special_tokens": ["<x>"]})", R"({"extra_special_tokens": ["<y>"]})", none, "<x>* <y>*"},
          {R"({"extra_special_tokens": ["<x>"]})", R"({"additional_special_tokens": ["<y>"]})", none, "<x>*"},
          {R"({"additional_special_tokens": ["<x>"]})", R"({"additional_special_tokens": ["<y>"]})", none, "<x>*"},
          {R"({"extra_special_tokens": []})", R"({"additional_special_tokens": ["<y>"]})", none, ""},
          {R"({"additional_special_tokens": null})", R"({"additional_special_tokens": ["<y>"]})", none, ""},
          {none, R"({"extra_special_tokens": ["<x>"], "additional_special_tokens": ["<y>"]})", none, "<x>*"},
          {none, R"({"additional_special_tokens": ["<y>"]})", none, "<y>*"},
          // Names of the model's own come between roles and lists, as written; other values than tokens count for none.
          {R"({"image_token": "<i>", "extra_special_tokens": ["<x>"], "pad_token": "<p>", "eot_token": "<e>",
                "use_token": true, "b_token": {"c": 1}})",
           none, none, "<p>* <i>* <e>* <x>*"},
          {R"({"extra_special_tokens": {"f": "<f>", "a": "<a>"}, "additional_special_tokens": ["<z>"]})", none, none,
           "<f>* <a>* <z>*"},
          {R"({"extra_special_tokens": {"f": "<f>"}})", R"({"additional_special_tokens": ["<z>"]})", none, "<f>* <z>*"},
          {R"({"extra_special_tokens": {"f": "<f>"}, "additional_special_tokens": ["<x>"]})",
           R"({"additional_special_tokens": ["<z>"]})", none, "<f>* <z>*"},
          {R"({"image_token": "<j>"})", R"({"image_token": "<i>", "eot_token": "<e>"})", none, "<j>* <e>*"},
          // Their ids may come from elsewhere.
          {R"({"additional_special_tokens": ["<x>"]})", none, R"({"<x>": 489})", "<x>*"},
          {none, R"({"extra_special_tokens": ["<x>"]})", R"({"<x>": 489})", "<x>*"},
          {R"({"extra_special_tokens": []})", R"({"additional_special_tokens": ["<x>"]})", R"({"<x>": 489})", "<x>"},
          {R"({"image_token": "<x>"})", none, R"({"<x>": 489})", "<x>*"},
          {R"({"image_token": "<x>", "added_tokens_decoder": {"489": {"content": "<x>"}}})", none, none, "<x>*"},
          {R"({"extra_special_tokens": ["<x>"], "added_tokens_decoder": {"489": {"content": "<x>"}}})", none, none,
           "<x>"},
      }) {
    const ScratchFolder scratch;
    fs::copy(goldens / "llama3" / "tokenizer.json", scratch.path());
    write(scratch / "tokenizer_config.json", config);
    write(scratch / "special_tokens_map.json", map);
    write(scratch / "added_tokens.json", ids);
    const auto tokenizer = load_tokenizer(scratch.path());
    std::string found;
    for (auto id = 489; id < tokenizer->vocabulary_size(); ++id) {
      found += (id > 489 ? " " : "") + *tokenizer->token_of(id) + (tokenizer->is_special(id) ? "*" : "");
    }
    EXPECT_EQ(found, added) << config << map << ids;
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
    write(scratch / "tokenizer.json",
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
  write(scratch / "tokenizer.json", json({{"decoder", decoder}, {"model", model}}).dump());
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
  const json model = json::parse(content_of(goldens / "llama2" / "tokenizer.json"))["model"];
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
    write(scratch / "tokenizer.json", json({{"normalizer", normalizer}, {"model", model}}).dump());
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
    const std::string model = content_of(goldens / name / "tokenizer.model") + changes;
    write(scratch / "tokenizer.model", model);
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
  const std::string model = content_of(goldens / "model_llama2" / "tokenizer.model");
  write(scratch / "tokenizer.model", model);
  write(scratch / "tokenizer_config.json", R"({"legacy": false})");
  const auto tokenizer = load_tokenizer(scratch.path());
  for (const std::string begin : {"a", " a"}) {
    sentencepiece::SentencePieceProcessor library;
    const bool has_space = begin.starts_with(' ');
    ASSERT_TRUE(library.LoadFromSerializedProto(has_space ? model + bytes_field(3, number_field(3, 0)) : model).ok());
    const std::string text = begin + random_text(1, 400000);
    EXPECT_TRUE(tokenizer->encode(text, {false, false}) == library.EncodeAsIds(text)) << begin;
  }
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
