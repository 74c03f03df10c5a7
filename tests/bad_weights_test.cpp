// Damaged weights are refused in one line that names the file and the tensor, whatever the number of ranks.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>

#include "support/refusal.h"
#include "support/sound_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

class BadWeights : public SoundModel {};

struct Container {
  Json header;
  std::string data;
};

Container read_container(const std::string& file) {
  const std::string bytes = whole_file(file);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  return {Json::parse(bytes.substr(8, length)), bytes.substr(8 + length)};
}

void write_container(const std::string& file, const Container& container, std::optional<uint64_t> claimed = {}) {
  std::string header = container.header.dump();
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const uint64_t length = claimed.value_or(header.size());
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  write_file(file, bytes + header + container.data);
}

const std::string victim = "model.layers.1.mlp.up_proj.weight";

using Edit = std::function<void(Container&)>;

Change edited(const Edit& edit) {
  return [edit](const std::string& folder) {
    Container container = read_container(folder + "/model.safetensors");
    edit(container);
    write_container(folder + "/model.safetensors", container);
  };
}
Change with(const char* field, const Json& value) {
  return edited([=](Container& container) { container.header[victim][field] = value; });
}
Change claiming(uint64_t length) {
  return [=](const std::string& folder) {
    write_container(folder + "/model.safetensors", read_container(folder + "/model.safetensors"), length);
  };
}
Change cut_to(uintmax_t bytes) {
  return [=](const std::string& folder) { fs::resize_file(folder + "/model.safetensors", bytes); };
}
// Puts one value in the place of the first one of a tensor.
Change holding(const std::string& tensor, float value) {
  return edited([=](Container& container) {
    std::memcpy(container.data.data() + int64_t(container.header[tensor]["data_offsets"][0]), &value, sizeof value);
  });
}

struct Damage {
  Change damage;
  Words words;
};

TEST_F(BadWeights, DamagedSafetensorsAreNamedWithTheDamage) {
  const Json range = read_container(path("sound/model.safetensors")).header[victim]["data_offsets"];
  const int64_t begin = range[0], end = range[1];
  const uintmax_t size = fs::file_size(path("sound/model.safetensors"));
  const Damage damages[] = {
      {cut_to(0), {"has 0 bytes", "copy it again"}},
      {cut_to(7), {"has 7 bytes"}},
      {cut_to(100), {"claims a header of ", " and has 92 behind", "cut"}},
      {cut_to(size / 2), {"its range ends at ", "cut: copy it again"}},
      {cut_to(size - 1), {"its range ends at ", "cut: copy it again"}},
      {cut_to(size + 8), {"its tensors end at byte "}},
      {claiming(UINT64_MAX), {"claims a header of 18446744073709551615 bytes", "at most"}},
      {claiming(uint64_t{1} << 63), {"claims a header of 9223372036854775808 bytes"}},
      {claiming(90'000'000), {"claims a header of 90000000 bytes"}},
      {claiming(64), {"its header is not JSON"}},
      {claiming(0), {"its header"}},
      {[](const std::string& folder) { write_file(folder + "/model.safetensors", "a text, and no model"); },
       {"header"}},
      {with("data_offsets", {begin - 4, end - 4}), {victim, "inside of "}},
      {with("data_offsets", {begin + 4, end + 4}), {victim}},
      {with("data_offsets", {end, begin}), {victim, "before its begin"}},
      {with("data_offsets", {-4, end}), {victim, "negative"}},
      {with("data_offsets", {begin, UINT64_MAX}), {victim, "18446744073709551615"}},
      {with("data_offsets", {int64_t{1} << 62, (int64_t{1} << 62) + end - begin}), {"bytes "}},
      {with("shape", {32, 64}), {victim, "[32, 64]", "[64, 32]"}},
      {with("shape", {64, 33}), {victim, "takes 8448 bytes"}},
      {with("shape", {int64_t{1} << 62, 8}), {victim, "overflows"}},
      {with("shape", {-64, -32}), {victim, "negative"}},
      {with("shape", {64, 32, 1}), {victim, "[64, 32, 1]"}},
      {with("dtype", "BF16"), {victim, "takes 4096 bytes"}},
      {with("dtype", "I32"), {victim, "I32", "F32, BF16 or F16"}},
      {with("dtype", "Q4"), {victim, "Q4"}},
      {with("dtype", 3), {victim, "dtype"}},
  };
  for (size_t i = 0; i < std::size(damages); i++) {
    SCOPED_TRACE(i);
    const std::string model = damaged(damages[i].damage);
    Words words = damages[i].words;
    words.push_back(model + "/model.safetensors");
    // Where the ranks first differ is behind these checks: on one rank all of them, on several a choice.
    expect_refused(0, eval(model), words);
    if (i % 9 == 3) expect_refused(i % 2 == 0 ? 2 : 4, eval(model), words);
  }
}

TEST_F(BadWeights, MissingAndUnknownTensorsAreNamed) {
  const auto rename = edited([](Container& container) {
    container.header["model.layers.7.mlp.up_proj.weight"] = container.header[victim];
    container.header.erase(victim);
  });
  for (const int ranks : {0, 2, 4}) expect_refused(ranks, eval(damaged(rename)), {path("model"), victim, "is missing"});
  const auto add = edited([](Container& container) {
    const size_t end = container.data.size();
    container.header["lm_head.bias"] = {{"dtype", "F32"}, {"shape", {2}}, {"data_offsets", {end, end + 8}}};
    container.data += std::string(8, '\0');
  });
  expect_refused(0, eval(damaged(add)), {path("model"), "lm_head.bias", "has no place"});
}

const std::string embedding = "model.embed_tokens.weight", head = "lm_head.weight";

// Takes a tensor and its bytes out.
void remove(Container& container, const std::string& name) {
  const int64_t begin = container.header[name]["data_offsets"][0], end = container.header[name]["data_offsets"][1];
  container.data.erase(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  container.header.erase(name);
  for (auto& [other, entry] : container.header.items())
    if (entry.contains("data_offsets") && entry["data_offsets"][0] >= end)
      for (Json& offset : entry["data_offsets"]) offset = offset.get<int64_t>() - (end - begin);
}

// A model whose config.json ties what the files hold twice, the same; then changed.
Change tied(const Edit& edit) {
  return [edit](const std::string& folder) {
    Json config = Json::parse(whole_file(folder + "/config.json"));
    config["tie_word_embeddings"] = true;
    write_file(folder + "/config.json", config.dump());
    edited([&](Container& container) {
      const int64_t from = container.header[embedding]["data_offsets"][0],
                    to = container.header[head]["data_offsets"][0], end = container.header[head]["data_offsets"][1];
      std::memcpy(container.data.data() + to, container.data.data() + from, static_cast<size_t>(end - to));
      edit(container);
    })(folder);
  };
}

TEST_F(BadWeights, ATiedHeadThatIsNotTheEmbeddingIsRefused) {
  const Edit last_byte = [](Container& container) {  // of the last row, which the last rank holds
    container.data[container.header[head]["data_offsets"][1].get<size_t>() - 1] ^= 1;
  };
  const Edit other_type = [](Container& container) {  // the rest of its bytes belongs to a tensor that is idle
    const Json offsets = container.header[head]["data_offsets"];
    const int64_t middle = (offsets[0].get<int64_t>() + offsets[1].get<int64_t>()) / 2;
    container.header[head]["dtype"] = "F16";
    container.header[head]["data_offsets"][1] = middle;
    container.header["rotary_emb.inv_freq"] = {
        {"dtype", "U8"}, {"shape", {offsets[1].get<int64_t>() - middle}}, {"data_offsets", {middle, offsets[1]}}};
  };
  const Words words{path("model"), "tie_word_embeddings is true, but lm_head.weight differs from " + embedding,
                    "make it false in " + path("model/config.json")};
  for (const int ranks : {0, 2, 4}) expect_refused(ranks, eval(damaged(tied(last_byte))), words);
  expect_refused(0, eval(damaged(tied(other_type))), words);
}

TEST_F(BadWeights, OfATiedPairTheFilesMayHoldEither) {
  const auto loss = [](int ranks, const Edit& edit) {
    const CommandResult result = run_command(llama_tp_with(ranks) + " " + eval(damaged(tied(edit))));
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  for (const int ranks : {0, 2, 4}) {
    const std::string without_head = loss(ranks, [](Container& container) { remove(container, head); });
    EXPECT_EQ(loss(ranks, [](Container&) {}), without_head);
    EXPECT_EQ(loss(ranks, [](Container& container) { remove(container, embedding); }), without_head);
  }
}

// Without what eval says of samples that it can take.
TEST_F(BadWeights, TheirErrorStandsAlone) {
  const auto err = [&](const Change& change) {
    const std::string model = damaged([&](const std::string& folder) {
      write_file(folder + "/config.json", small_config({{"max_position_embeddings", 16}}).dump());
      change(folder);
    });
    return run_command(llama_tp_with(0) + " " + eval(model)).err;
  };
  EXPECT_EQ(err([](const std::string&) {}), "samples of 20 tokens are longer than the model's 16 positions\n");
  for (const Change& change :
       {Change([](const std::string& folder) { fs::remove(folder + "/model.safetensors"); }), with("shape", {1, 1})}) {
    const std::string error = err(change);
    EXPECT_TRUE(error.starts_with("llama_tp: ")) << error;
    EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 1) << error;
  }
}

TEST_F(BadWeights, FoldersWithoutSafetensorsAreRefused) {
  const auto remove = [](const std::string& folder) { fs::remove(folder + "/model.safetensors"); };
  expect_refused(0, eval(damaged(remove)), {path("model"), "holds no *.safetensors"});
  const auto pickle = [](const std::string& folder) {
    fs::rename(folder + "/model.safetensors", folder + "/pytorch_model.bin");
  };
  expect_refused(2, eval(damaged(pickle)), {path("model"), "pytorch_model.bin", "pickles", "save_pretrained"});
  const auto index = [](const std::string& map) {
    return [map](const std::string& folder) {
      fs::rename(folder + "/model.safetensors", folder + "/model-00001-of-00001.safetensors");
      write_file(folder + "/model.safetensors.index.json", map);
    };
  };
  const std::string name = "model.safetensors.index.json";
  expect_refused(0, eval(damaged(index("no json"))), {name, "is not an index"});
  expect_refused(0, eval(damaged(index(R"({"weight_map": {}})"))), {name, "empty"});
  expect_refused(0, eval(damaged(index(R"({"weight_map": {"a": "b.safetensors"}})"))),
                 {name, "b.safetensors", "not there"});
  expect_refused(0, eval(damaged(index(R"({"weight_map": {"a": "../b.safetensors"}})"))), {name, "../b.safetensors"});
  expect_refused(0, eval(path("nowhere")), {path("nowhere"), "no such folder"});
  expect_refused(0, eval(path("ids.jsonl")), {path("ids.jsonl"), "is a file"});
  expect_refused(4, eval(path("nowhere")), {path("nowhere"), "no such folder"});
}

TEST_F(BadWeights, NumbersThatAreNotFiniteAreTracedToTheirLayer) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  const auto train = [](const std::string& model) {
    fs::remove_all(path("trained"));
    return "train --dtype float32 --max-steps 2 --model " + model + " --train-file " + path("ids.jsonl") +
           " --output-dir " + path("trained");
  };
  const std::string in_attention = "model.layers.0.self_attn.o_proj.weight";
  for (const int ranks : {0, 2, 4}) {
    const std::string mlp = damaged(holding(victim, nan));
    expect_refused(ranks, train(mlp), {"step 1: the loss is not finite", "the mlp of block 1", mlp});
    expect_refused(ranks, eval(mlp), {mlp, "the loss is not finite", victim});
    expect_refused(ranks, "generate -n 3 -p Hello -m " + mlp, {mlp, "the logits are not finite", victim});
    const std::string attention = damaged(holding(in_attention, infinity));
    expect_refused(ranks, train(attention), {"step 1: the loss is not finite", "the attention of block 0", attention});
    EXPECT_TRUE(checkpoint_steps(path("trained")).empty());
  }
  // A row of the embedding that one data rank alone looks at.
  const int token = Json::parse(random_id_lines(1, 1, small_vocabulary))["input_ids"][0];
  const Change in_row = edited([&](Container& container) {
    const int64_t begin = container.header["model.embed_tokens.weight"]["data_offsets"][0];
    std::memcpy(container.data.data() + begin + int64_t{token} * 32 * 4, &nan, sizeof nan);
  });
  const std::string row = damaged(in_row);
  expect_refused(4, train(row) + " --tensor-parallel 2", {"step 1: the loss is not finite", "the embedding"});
  // One forward of a step looks at it, and not the last.
  const auto ids = [](int id) { return Json{{"input_ids", {id, id, id}}}.dump() + "\n"; };
  write_file(path("one.jsonl"), ids(token + 1) + ids(token) + ids(token + 1) + ids(token + 1));
  for (const auto& [ranks, mesh] : {std::pair(0, " "), std::pair(2, " --fsdp 2 --fsdp-reshard-after-forward off")})
    for (const int seed : {1, 2, 3})
      expect_refused(
          ranks,
          train(row) + " --train-file " + path("one.jsonl") +
              text(" --per-device-train-batch-size 1 --global-batch-size 4 --data-parallel 1 --seed ", seed, mesh),
          {"step 1: the loss is not finite; it begins in the embedding"});
  // Validation data alone looks at it, and not in its last batch.
  write_file(path("others.jsonl"), ids(token + 1) + ids(token + 1));
  write_file(path("validation.jsonl"), ids(token) + ids(token + 1) + ids(token + 1));
  expect_refused(2,
                 "train --dtype float32 --max-steps 2 --eval-steps 1 --per-device-train-batch-size 1 --model " + row +
                     " --train-file " + path("others.jsonl") + " --validation-file " + path("validation.jsonl") +
                     " --output-dir " + path("validated"),
                 {"validation.jsonl: the loss of this data is not finite; it begins in the embedding"});
  // Of two ranks that divide the tokens the second has it, and the first a damage behind the embedding alone.
  write_file(path("last.jsonl"), Json{{"input_ids", {token + 1, token + 1, token + 1, token}}}.dump() + "\n");
  const std::string twice = damaged([&](const std::string& folder) {
    in_row(folder);
    holding(victim, nan)(folder);
  });
  expect_refused(2,
                 train(twice) + " --train-file " + path("last.jsonl") +
                     " --block-size 4 --per-device-train-batch-size 1 --tensor-parallel 2",
                 {"step 1: the loss is not finite; it begins in the embedding"});
  expect_refused(0,
                 "train --dtype float32 --config " + path("config.json") + " --train-file " + path("ids.jsonl") +
                     " --max-steps 60 --learning-rate 10 --weight-decay 10 --lr-scheduler-type constant --output-dir " +
                     path("diverged"),
                 {"step ", " is not finite; it begins in the ", "lower --learning-rate"});
  write_file(path("wide.json"), small_config({{"initializer_range", 1e15}}).dump());
  expect_refused(
      2, "train --config " + path("wide.json") + " --train-file " + path("ids.jsonl") + " --output-dir " + path("wide"),
      {"step 1: the loss is not finite", "the attention of block 0", "initializer_range (1e+15)"});
}

// Under FSDP each rank holds a piece of every gradient: here all but the last element of the final norm's are finite.
TEST_F(BadWeights, AGradientThatIsNotFiniteOnOneRankIsNamed) {
  constexpr int64_t hidden = 32;
  const auto fill = [](Container& container, const char* name, int64_t first, const std::function<float(int64_t)>& of) {
    const auto& place = container.header[name]["data_offsets"];
    const int64_t begin = place[0], elements = (place[1].get<int64_t>() - begin) / 4;
    for (int64_t i = first, row = 0; i < elements; i += first == 0 ? 1 : hidden, row++) {
      const float value = of(row);
      std::memcpy(container.data.data() + begin + i * 4, &value, sizeof value);
    }
  };
  // The last element is √hidden of each normed state. Half the rows of the head are large there and half are as much
  // below zero, so its gradient is up to 2 · 1.65e38, which f32 holds, and that of the norm's weight √hidden times that.
  const std::string model = damaged(edited([&](Container& container) {
    fill(container, "model.embed_tokens.weight", hidden - 1, [](int64_t) { return 100.0f; });
    fill(container, "model.norm.weight", 0, [](int64_t) { return 2e-38f; });
    fill(container, "lm_head.weight", hidden - 1, [](int64_t row) { return row % 2 == 0 ? 1.65e38f : -1.65e38f; });
  }));
  expect_refused(2,
                 "train --fsdp 2 --dtype float32 --max-steps 1 --model " + model + " --train-file " +
                     path("ids.jsonl") + " --output-dir " + path("overflowing"),
                 {"step 1: the gradient norm is not finite; it begins in the gradient of model.norm.weight", model});
}

}  // namespace
}  // namespace llama_tp
