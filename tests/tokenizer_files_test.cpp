// What the files beside a tokenizer.json or tokenizer.model say of special tokens, of added ones and of spaces, as
// AutoTokenizer of transformers reads them.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "io/tokenizer/tokenizer.h"
#include "scratch_folder.h"
#include "support/small_model.h"
#include "support/tokenizer_goldens.h"

namespace llama_tp {
namespace {

namespace fs = std::filesystem;

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
  write_file(scratch / "special_tokens_map.json",
             R"({"bos_token": "<|eot_id|>", "eos_token": {"content": "<|eot_id|>"}})");
  write_file(scratch / "tokenizer_config.json", R"({"bos_token": {"content": "<|end_of_text|>"}, "eos_token": null})");
  const auto named = load_tokenizer(scratch.path());
  EXPECT_EQ(named->bos(), named->id_of("<|eot_id|>"));
  EXPECT_EQ(named->eos(), named->id_of("<|eot_id|>"));

  // As AutoTokenizer has it: beside a config with added_tokens_decoder the other file is not read.
  write_file(scratch / "tokenizer_config.json",
             R"({"bos_token": {"content": "<|end_of_text|>"}, "eos_token": null, "added_tokens_decoder": {}})");
  const auto newer = load_tokenizer(scratch.path());
  EXPECT_EQ(newer->bos(), newer->id_of("<|end_of_text|>"));
  EXPECT_EQ(newer->eos(), std::nullopt);
}

TEST(Tokenizer, ModelFindsItsControlSymbolsAndTokensAddedBesideIt) {
  const ScratchFolder scratch;
  fs::copy(goldens / "model_llama2" / "tokenizer.model", scratch.path());
  write_file(scratch / "tokenizer_config.json",
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
    write_file(scratch / "tokenizer_config.json", config);
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
    write_file(scratch / "tokenizer_config.json", text("{", legacy, R"("add_prefix_space": false})"));
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
  write_file(scratch / "added_tokens.json", R"({"<|im_end|>": 460, "<pad>": 461, "<x>": 462})");
  write_file(scratch / "special_tokens_map.json", R"({"eos_token": "<|im_end|>", "pad_token": {"content": "<pad>"}})");
  const std::string config = scratch / "tokenizer_config.json";
  for (const char* key : {"extra_special_tokens", "additional_special_tokens"}) {
    write_file(config, text(R"({")", key, R"(": ["<x>"]})"));
    EXPECT_TRUE(load_tokenizer(scratch.path())->is_special(462));
  }
  write_file(config, R"({"image_token": "<x>"})");
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

  write_file(config, R"({"pad_token": "<pad>", "additional_special_tokens": ["<q>", "<|eot_id|>", "<new>"]})");
  write_file(ids, R"({"<new>": 489})");
  EXPECT_EQ(encode("<new><pad><q>"), (Ids{489, 490, 491}));
  const auto added = load_tokenizer(scratch.path());
  EXPECT_EQ(added->vocabulary_size(), 492);
  EXPECT_EQ(added->decode(Ids{489, 490, 491}, {true}), "");

  // Of a config with added_tokens_decoder the other file is no longer read.
  write_file(config, R"({"eos_token": "<|eot_id|>", "added_tokens_decoder": {
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
    write_file(scratch / "tokenizer_config.json", config);
    write_file(scratch / "special_tokens_map.json", map);
    write_file(scratch / "added_tokens.json", ids);
    const auto tokenizer = load_tokenizer(scratch.path());
    std::string found;
    for (auto id = 489; id < tokenizer->vocabulary_size(); ++id) {
      found += (id > 489 ? " " : "") + *tokenizer->token_of(id) + (tokenizer->is_special(id) ? "*" : "");
    }
    EXPECT_EQ(found, added) << config << map << ids;
  }
}

}  // namespace
}  // namespace llama_tp
