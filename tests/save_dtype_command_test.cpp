// `llama_tp train --save-dtype`: the saved weights are the run's own, rounded once, and the run does not notice.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <regex>

#include "io/safetensors.h"
#include "scratch_folder.h"
#include "support/command.h"
#include "support/refusal.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

constexpr MeshOfRanks alone{0, ""};

struct Stored {
  const char* word;  // of the option and of config.json
  DType dtype;
  int significand;        // bits, with the hidden one
  int smallest_exponent;  // of a number with all of them: below, steps no longer shrink
};
constexpr Stored stored_types[] = {
    {"float32", DType::f32, 24, -126}, {"bfloat16", DType::bf16, 8, -126}, {"float16", DType::f16, 11, -14}};

// The nearest number of the type, of two the one with an even last digit: what std::nearbyint does with the value in
// units of the type's last digit.
float rounded(float value, const Stored& type) {
  if (value == 0) return value;
  const int unit = std::max(std::ilogb(value), type.smallest_exponent) - (type.significand - 1);
  return static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(static_cast<double>(value), -unit)), unit));
}

class SaveDtypeCommand : public testing::Test {
 protected:
  // Key/value heads on several ranks each, a vocabulary that no number of ranks divides, biases.
  SaveDtypeCommand() {
    write_file(
        path("config.json"),
        small_config({{"num_key_value_heads", 1}, {"vocab_size", 499}, {"attention_bias", true}, {"mlp_bias", true}})
            .dump());
    write_file(path("ids.jsonl"), random_id_lines(8, 20, small_vocabulary));
  }

  std::string path(const std::string& name) const { return folder_ / name; }
  std::string arguments(const MeshOfRanks& mesh, const std::string& output, const std::string& options) const {
    return "train --config " + path("config.json") + " --train-file " + path("ids.jsonl") + " --output-dir " +
           path(output) + " --global-batch-size 4 --per-device-train-batch-size 2 --learning-rate 2e-3 " +
           mesh.options + " " + options;
  }
  void train(const MeshOfRanks& mesh, const std::string& output, const std::string& options) const {
    const CommandResult result = run_command(llama_tp_with(mesh.ranks) + " " + arguments(mesh, output, options));
    ASSERT_EQ(result.status, 0) << result.err << result.out;
  }
  std::string bytes(const std::string& file) const { return whole_file(path(file)); }

  ScratchFolder folder_;
};

// Without the option an f32 run saves what it computes with.
TEST_F(SaveDtypeCommand, WeightsAreTheRunsOwnRoundedToNearestAndConfigSaysTheType) {
  for (const MeshOfRanks& mesh : {alone, MeshOfRanks{4, "--fsdp 2 --tensor-parallel 2"}}) {
    std::filesystem::remove_all(path("plain"));
    train(mesh, "plain", "--max-steps 2 --dtype float32");
    const auto exact = read_tensors(path("plain/checkpoint-2/model.safetensors"));
    for (const Stored& type : stored_types) {
      SCOPED_TRACE(text(type.word, " of ", mesh.ranks, " ranks"));
      std::filesystem::remove_all(path("out"));
      train(mesh, "out", text("--max-steps 2 --dtype float32 --save-dtype ", type.word));
      const std::string model = path("out/checkpoint-2/model.safetensors");
      const SafetensorsFile file(model);
      for (const StoredTensor& tensor : file.tensors()) EXPECT_EQ(tensor.dtype(), type.dtype);
      const auto saved = read_tensors(model);
      ASSERT_EQ(saved.size(), exact.size());
      for (size_t t = 0; t < saved.size(); t++) {
        ASSERT_EQ(saved[t].first, exact[t].first);
        ASSERT_EQ(saved[t].second.shape, exact[t].second.shape);
        for (size_t i = 0; i < saved[t].second.values.size(); i++)
          ASSERT_EQ(saved[t].second.values[i], rounded(exact[t].second.values[i], type)) << saved[t].first << " " << i;
      }
      EXPECT_EQ(Json::parse(bytes("out/checkpoint-2/config.json"))["torch_dtype"], type.word);
    }
  }
}

// bf16 weights and their rests make the f32 masters: read here by their definition, (bits << 16) + rest.
TEST_F(SaveDtypeCommand, ABf16RunSavesItsMasterWeights) {
  train(alone, "plain", "--max-steps 2");
  train({4, "--fsdp 2 --tensor-parallel 2"}, "plain4", "--max-steps 2");
  for (const std::string plain : {"plain", "plain4"}) {
    const bool on_ranks = plain == "plain4";
    const std::string out = plain + "-f32";
    train(on_ranks ? MeshOfRanks{4, "--fsdp 2 --tensor-parallel 2"} : alone, out, "--max-steps 2 --save-dtype float32");
    const SafetensorsFile high(path(plain + "/checkpoint-2/model.safetensors")),
        low(path(plain + "/checkpoint-2/training_state/rest/model.safetensors"));
    for (const auto& [name, saved] : read_tensors(path(out + "/checkpoint-2/model.safetensors"))) {
      const StoredTensor& tensor = *high.find(name);
      std::vector<uint16_t> bits(saved.values.size());
      std::vector<int16_t> rest(saved.values.size());
      high.read(tensor, whole(tensor), DType::bf16, bits.data());
      low.read(*low.find(name), whole(tensor), DType::i16, rest.data());
      for (size_t i = 0; i < bits.size(); i++)
        ASSERT_EQ(std::bit_cast<uint32_t>(saved.values[i]),
                  (uint32_t{bits[i]} << 16) + static_cast<uint32_t>(int32_t{rest[i]}))
            << name << " " << i;
    }
  }
}

TEST_F(SaveDtypeCommand, ARunGoesOnToTheBitWhateverTypeItsWeightsWereSavedIn) {
  const MeshOfRanks mesh{2, "--fsdp 2"};
  for (const std::string dtype : {"float32", "bfloat16"}) {
    const std::string options = "--lr-scheduler-type constant --dtype " + dtype, whole = "whole-" + dtype;
    train(mesh, whole, options + " --max-steps 6");
    for (const Stored& type : stored_types) {
      SCOPED_TRACE(text(dtype, " saved as ", type.word));
      std::filesystem::remove_all(path("out"));
      train(mesh, "out", text(options, " --max-steps 3 --save-dtype ", type.word));
      train(mesh, "out", options + " --max-steps 6 --resume-from-checkpoint");
      for (const std::string file : {"model.safetensors", "config.json", "training_state/m/model.safetensors",
                                     "training_state/v/model.safetensors"})
        EXPECT_EQ(bytes("out/checkpoint-6/" + file), bytes(whole + "/checkpoint-6/" + file)) << file;
    }
  }
}

TEST_F(SaveDtypeCommand, EvalReadsWhatWasSaved) {
  train(alone, "out", "--max-steps 1 --save-dtype float16");
  const CommandResult result =
      run_command(llama_tp_with(0) + " eval -m " + path("out") + " --file " + path("ids.jsonl") + " --dtype float32");
  EXPECT_EQ(result.status, 0) << result.err;
}

// The embedding of a token that the data has not: no other number of the run notices it.
TEST_F(SaveDtypeCommand, AWeightThatAnF16CannotHoldIsRefused) {
  const std::string options = "--dtype float32 --learning-rate 0 --max-steps 1", weights = "model/model.safetensors";
  train(alone, "out", options);
  std::filesystem::rename(path("out/checkpoint-1"), path("model"));
  const SafetensorsFile file(path(weights));
  const StoredTensor& embedding = *file.find("model.embed_tokens.weight");
  const int64_t last = embedding.offset + (embedding.rows() * embedding.columns() - 1) * size_of(DType::f32);
  const auto train_with = [&](float value, const MeshOfRanks& mesh) {
    std::string contents = bytes(weights);
    std::memcpy(contents.data() + last, &value, sizeof value);
    write_file(path(weights), contents);
    std::filesystem::remove_all(path("out"));
    const std::string line = arguments(mesh, "out", options + " --save-dtype float16");
    return std::regex_replace(line, std::regex("--config [^ ]*"), "--model " + path("model"));
  };
  for (const MeshOfRanks& mesh : {alone, MeshOfRanks{2, ""}, MeshOfRanks{2, "--fsdp 2"}}) {
    const CommandResult held = run_command(llama_tp_with(mesh.ranks) + " " + train_with(-65504, mesh));
    EXPECT_EQ(held.status, 0) << held.err;
    expect_refused(mesh.ranks, train_with(-65510, mesh),
                   {"model.embed_tokens.weight: a weight is -65510", "float16 ends at 65504", "--save-dtype bfloat16"});
    EXPECT_TRUE(checkpoint_steps(path("out")).empty());
  }
}

TEST_F(SaveDtypeCommand, AnotherWordIsRefused) {
  expect_refused(0, arguments(alone, "out", "--save-dtype fp8"), {"--save-dtype fp8", "float32, bfloat16 or float16"});
}

}  // namespace
}  // namespace llama_tp
