// `llama_tp train` as a user types it, on several meshes: the same losses, gradients and checkpoints
// (mesh_command_test.cpp has every mesh).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <sstream>

#include "scratch_folder.h"
#include "support/command.h"
#include "support/error_of.h"
#include "support/metrics_lines.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

constexpr MeshOfRanks alone{0, ""};
constexpr MeshOfRanks meshes[] = {{2, ""},
                                  {4, ""},
                                  {4, "--tensor-parallel 2"},
                                  {2, "--tensor-parallel 1"},
                                  {1, "--tensor-parallel auto"},
                                  {2, "--sequence-parallel off"},
                                  {2, "--fsdp 2"},
                                  {4, "--fsdp 2 --tensor-parallel 2"},
                                  {4, "--fsdp 2 --data-parallel 2 --fsdp-prefetch off"},
                                  {8, "--data-parallel 2 --fsdp 2 --tensor-parallel auto --gradient-checkpointing"},
                                  {4, "--fsdp auto --fsdp-reshard-after-forward off"}};

class TrainCommand : public testing::Test {
 protected:
  TrainCommand() {
    write_file(folder_ / "config.json", small_config().dump());
    write_file(folder_ / "text.jsonl", demo_lines(12));
  }

  std::string path(const std::string& name) const { return folder_ / name; }

  // Standard options; later ones win.
  std::string line(const MeshOfRanks& mesh, const std::string& output, const std::string& options) const {
    return llama_tp_with(mesh.ranks) + " train --output-dir " + path(output) + " --train-file " + path("text.jsonl") +
           " --block-size 64 --global-batch-size 8 --per-device-train-batch-size 2 --dtype float32 " + mesh.options +
           " " + options;
  }
  std::string from_config(const std::string& options) const {
    return "--config " + path("config.json") + " --tokenizer " + small_tokenizer() + " " + options;
  }

  // Trains, which must go well, and returns the lines of metrics.jsonl.
  std::vector<Json> train(const MeshOfRanks& mesh, const std::string& output, const std::string& options) const {
    const CommandResult result = run_command(line(mesh, output, options));
    EXPECT_EQ(result.status, 0) << result.err << result.out;
    return result.status == 0 ? json_lines(whole_file(path(output + "/metrics.jsonl"))) : std::vector<Json>{};
  }

  ScratchFolder folder_;
};

// Sums of the same numbers in another order: each of the few thousand additions of a loss or a norm rounds to f32's
// 2^-24; the steps between then amplify a little.
void expect_same_steps(const std::vector<Json>& a, const std::vector<Json>& b) {
  expect_close(a, b, {.loss = 1e-6, .norm = 2e-5});
}

const std::string long_enough = "--max-steps 6 --learning-rate 1e-3 --warmup-steps 2 --weight-decay 0.1";

// Key/value heads on several ranks each, a vocabulary that no number of ranks divides, one tensor for both ends,
// biases.
TEST_F(TrainCommand, LossesDoNotDependOnTheMeshForAModelThatDividesBadly) {
  write_file(path("config.json"), small_config({{"num_key_value_heads", 1},
                                                {"vocab_size", 499},
                                                {"tie_word_embeddings", true},
                                                {"attention_bias", true},
                                                {"mlp_bias", true},
                                                {"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2.0}}}})
                                      .dump());
  const std::vector<Json> whole = train(alone, "alone", from_config(long_enough));
  expect_same_steps(train({2, ""}, "two", from_config(long_enough)), whole);
  expect_same_steps(train({4, ""}, "four", from_config(long_enough)), whole);
  expect_same_steps(train({4, "--fsdp 2 --tensor-parallel 2"}, "shared", from_config(long_enough)), whole);
  expect_same_steps(train({4, "--fsdp 4"}, "sharded", from_config(long_enough)), whole);
}

// --tensor-parallel auto is one size for all ranks, also where hosts have more of them than others.
TEST_F(TrainCommand, LossesDoNotDependOnWhichHostsHaveHowManyRanks) {
  if (mpirun_on_hosts("hosta:1").empty()) GTEST_SKIP() << "this user may not give the machine other names";
  const std::vector<Json> whole = train(alone, "alone", from_config(long_enough));
  for (const std::string hosts : {"hosta:2,hostb:1,hostc:1", "hosta:2,hostb:2"}) {
    std::filesystem::remove_all(path("out"));
    const CommandResult result = run_command(mpirun_on_hosts(hosts) + line(alone, "out", from_config(long_enough)));
    EXPECT_EQ(result.status, 0) << result.err << result.out;
    expect_same_steps(json_lines(whole_file(path("out/metrics.jsonl"))), whole);
  }
}

// Forwards of 61 and 122 tokens, which neither 2 nor 4 ranks divide without a remainder.
TEST_F(TrainCommand, SequenceParallelismFillsUpWhatTheRanksDoNotDivide) {
  for (const std::string recompute : {"", " --gradient-checkpointing"})
    for (const int samples : {1, 2}) {
      const std::string options = from_config(
          long_enough + recompute + " --block-size 61 --per-device-train-batch-size " + std::to_string(samples));
      for (const char* folder : {"alone", "on", "off"}) std::filesystem::remove_all(path(folder));
      const std::vector<Json> whole = train(alone, "alone", options);
      expect_same_steps(train({4, "--sequence-parallel on"}, "on", options), whole);
      expect_same_steps(train({2, "--sequence-parallel off"}, "off", options), whole);
    }
}

TEST_F(TrainCommand, SaysWhetherTheRanksDivideTheTokens) {
  const std::string with = "tensor-parallel 2, sequence-parallel\n";
  const auto said = [&](const MeshOfRanks& mesh) {
    std::filesystem::remove_all(path("out"));
    return run_command(line(mesh, "out", from_config("--max-steps 1"))).out;
  };
  EXPECT_TRUE(holds(said({2, ""}), with));
  EXPECT_TRUE(holds(said({2, "--sequence-parallel=on"}), with));
  EXPECT_EQ(said({2, "--sequence-parallel off"}).find("sequence-parallel\n"), std::string::npos);
  EXPECT_EQ(said({2, "--tensor-parallel 1"}).find("sequence-parallel\n"), std::string::npos);
}

TEST_F(TrainCommand, UnderscoresInOptionsAreHyphensAndThreadsChangeNoLoss) {
  const std::vector<Json> hyphens = train(alone, "one", from_config("--max-steps 2 --warmup-steps 1 --seed 7"));
  expect_equal_bits(train(alone, "two", from_config("--max_steps=2 --warmup_steps 1 --seed=7")), hyphens);
  EXPECT_NE(hyphens[0]["loss"], train(alone, "other", from_config("--max-steps 2 --seed 8"))[0]["loss"]);
  const CommandResult threads = run_command(
      "OMP_NUM_THREADS=2 " + line(alone, "threads", from_config("--max-steps 2 --warmup-steps 1 --seed 7")));
  ASSERT_EQ(threads.status, 0) << threads.err;
  expect_same_steps(json_lines(whole_file(path("threads/metrics.jsonl"))), hyphens);
}

TEST_F(TrainCommand, MetricsHaveEachRanksShareOfTheModelsFlops) {
  const auto flops = [&](const MeshOfRanks& mesh, const std::string& folder) {
    const Json step = train(mesh, folder, from_config("--max-steps 1"))[0];
    return double(step["model_flops_per_second"]) * double(step["seconds"]) * std::max(mesh.ranks, 1);
  };
  const double of_all = flops(alone, "one");
  EXPECT_GT(of_all, 0);
  EXPECT_NEAR(flops({2, ""}, "two") / of_all, 1, 1e-12);
  EXPECT_NEAR(flops({4, "--tensor-parallel 2 --fsdp 2"}, "four") / of_all, 1, 1e-12);
}

TEST_F(TrainCommand, AccumulatedForwardsAreOneLargerBatch) {
  const std::string steps = from_config("--max-steps 4 --learning-rate 1e-3 ");
  const std::vector<Json> large = train(alone, "large", steps + "--per-device-train-batch-size 8");
  expect_same_steps(train(alone, "accumulated", steps + "--gradient-accumulation-steps 4"), large);
  expect_same_steps(train(alone, "recomputed", steps + "--gradient-checkpointing"), large);
  const CommandResult derived = run_command(line({2, "--tensor-parallel 1"}, "derived", steps));
  EXPECT_TRUE(holds(derived.out, "data-parallel 2 × tensor-parallel 1", "a step takes 8 × up to 64 tokens"));
  expect_same_steps(json_lines(whole_file(path("derived/metrics.jsonl"))), large);
}

// 65,536 logits a token: pieces of 128 tokens and chunks of 256 (CpuBackend::loss_tokens), so two chunks of two pieces
// each, beside forwards of 64 tokens.
TEST_F(TrainCommand, TheLossOfALargeVocabularyIsTheSameInSeveralPieces) {
  constexpr int vocabulary = 65536;
  write_file(path("config.json"), small_config({{"vocab_size", vocabulary}}).dump());
  write_file(path("text.jsonl"), random_id_lines(8, 64, vocabulary));
  const std::string options = "--config " + path("config.json") + " --max-steps 2 --learning-rate 1e-3 ";
  expect_same_steps(train(alone, "pieces", options + "--per-device-train-batch-size 8"),
                    train(alone, "whole", options + "--per-device-train-batch-size 1"));
}

// A batch larger than the data, ranks without a sample, accumulation past the end: an epoch is one step.
TEST_F(TrainCommand, ABatchLargerThanTheDataTakesAllOfIt) {
  write_file(path("text.jsonl"), random_id_lines(3, 20, small_vocabulary));
  const std::string options =
      "--config " + path("config.json") + " --global-batch-size 4096 --per-device-train-batch-size 1024 --max-steps 2";
  const std::vector<Json> whole = train(alone, "alone", options);
  for (const Json& step : whole) EXPECT_EQ(step["tokens"], 60 * int(step["step"]));
  expect_same_steps(train({4, "--tensor-parallel 1"}, "four", options), whole);
}

TEST_F(TrainCommand, AnEpochUsesEveryTokenOnceInAnOrderOfItsOwn) {
  const std::vector<Json> steps = train(alone, "out", from_config("--num-train-epochs 2"));
  ASSERT_EQ(steps.size() % 2, 0u);
  const Json &half = steps[steps.size() / 2 - 1], &end = steps.back();
  EXPECT_EQ(half["epoch"], 1);
  EXPECT_EQ(end["epoch"], 2);
  EXPECT_EQ(2 * int(half["tokens"]), int(end["tokens"]));
  write_file(path("texts"), demo_texts(12));
  const CommandResult ids =
      run_command(llama_tp_with(0) + " tokenize --jsonl -m " + small_tokenizer() + " -f " + path("texts"));
  int tokens = 0;
  for (const Json& document : json_lines(ids.out)) tokens += static_cast<int>(document.size()) + 1;  // and its EOS
  EXPECT_EQ(half["tokens"], tokens);
}

// transformers' get_constant_schedule_with_warmup, get_linear_… and get_cosine_…, of step - 1.
double rate_by_transformers(const std::string& kind, int done, int warmup, int all) {
  if (done < warmup) return double(done) / warmup;
  const double progress = double(done - warmup) / (all - warmup);
  return kind == "constant" ? 1 : kind == "linear" ? 1 - progress : 0.5 * (1 + std::cos(M_PI * progress));
}

TEST_F(TrainCommand, APartOfAnEpochIsAtLeastAStep) {
  EXPECT_EQ(train(alone, "part", from_config("--num-train-epochs 1e-9 --global-batch-size 1024")).size(), 1u);
}

// What ends the machine behind a save finds the lines of its steps on the disk.
TEST_F(TrainCommand, MetricsAreOnTheDiskBeforeACheckpointIsPublished) {
  const std::string trace = "strace -f -y -e trace=fsync,rename -o " + path("calls") + " ";
  if (run_command(trace + "true").status != 0) GTEST_SKIP() << "no strace";
  const CommandResult result = run_command(trace + line(alone, "out", from_config("--max-steps 3 --save-steps 1")));
  ASSERT_EQ(result.status, 0) << result.err;
  std::istringstream calls(whole_file(path("calls")));
  int published = 0;
  bool on_disk = false;
  for (std::string call; std::getline(calls, call);) {
    if (call.find("fsync(") != std::string::npos && call.find("/metrics.jsonl>") != std::string::npos) on_disk = true;
    const std::string next = text(path("out/checkpoint-"), published + 1);
    if (call.find("rename(\"" + next + ".partial\", \"" + next + "\")") == std::string::npos) continue;
    EXPECT_TRUE(on_disk) << call;
    on_disk = false;
    published++;
  }
  EXPECT_EQ(published, 3);
}

TEST_F(TrainCommand, RatesFollowTransformersSchedules) {
  for (const std::string kind : {"constant", "linear", "cosine"}) {
    const std::vector<Json> steps = train(
        alone, kind, from_config("--max-steps 8 --warmup-steps 3 --learning-rate 0.5e-3 --lr-scheduler-type " + kind));
    ASSERT_EQ(steps.size(), 8u);
    for (int step = 1; step <= 8; step++)
      EXPECT_NEAR(steps[static_cast<size_t>(step - 1)]["learning_rate"],
                  0.5e-3 * rate_by_transformers(kind, step - 1, 3, 8), 1e-15);
  }
}

TEST_F(TrainCommand, GradientsOfTheFirstStepDoNotDependOnTheMesh) {
  const std::string options = from_config("--max-steps 1 --max-grad-norm 1e-3 --dump-gradients " + path("gradients."));
  train(alone, "alone", options + "alone");
  const auto whole = read_tensors(path("gradients.alone"));
  double squares = 0;
  for (const auto& [name, tensor] : whole)
    for (const float value : tensor.values) squares += double(value) * value;
  const Json metrics = json_lines(whole_file(path("alone/metrics.jsonl")))[0];
  EXPECT_NEAR(std::sqrt(squares), metrics["grad_norm"], 1e-5 * double(metrics["grad_norm"]));  // not clipped, each once
  for (const MeshOfRanks& mesh : meshes) {
    std::filesystem::remove_all(path("out"));
    train(mesh, "out", options + "out");
    const auto parts = read_tensors(path("gradients.out"));
    ASSERT_EQ(parts.size(), whole.size());
    for (size_t t = 0; t < whole.size(); t++) {
      EXPECT_EQ(parts[t].first, whole[t].first);
      ASSERT_EQ(parts[t].second.shape, whole[t].second.shape);
      float largest = 0, error = 0;
      for (size_t i = 0; i < whole[t].second.values.size(); i++) {
        largest = std::max(largest, std::fabs(whole[t].second.values[i]));
        error = std::max(error, std::fabs(whole[t].second.values[i] - parts[t].second.values[i]));
      }
      EXPECT_LE(error, 1e-5f * largest) << whole[t].first << " with " << mesh.ranks << " ranks " << mesh.options;
    }
  }
}

TEST_F(TrainCommand, ACheckpointHasTheSameBytesWhateverMeshWroteIt) {
  for (const std::string dtype : {"float32", "bfloat16"}) {
    write_file(path("config.json"), small_config({{"num_key_value_heads", 2}, {"vocab_size", 497}}).dump());
    const std::string options = from_config("--max-steps 1 --learning-rate 0 --dtype " + dtype);
    train(alone, "alone." + dtype, options);
    for (const MeshOfRanks& mesh :
         {MeshOfRanks{2, ""}, MeshOfRanks{4, ""}, MeshOfRanks{4, "--tensor-parallel 2"},
          MeshOfRanks{3, "--fsdp 3 --global-batch-size 6"}, MeshOfRanks{4, "--fsdp 2 --tensor-parallel 2"}}) {
      std::filesystem::remove_all(path("out"));
      train(mesh, "out", options);
      for (const char* file : {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"})
        EXPECT_EQ(whole_file(path("alone." + dtype + "/checkpoint-1/" + file)),
                  whole_file(path("out/checkpoint-1/") + file))
            << file << " of " << mesh.ranks << " ranks " << mesh.options;
    }
  }
  EXPECT_EQ(Json::parse(whole_file(path("out/checkpoint-1/config.json")))["torch_dtype"], "bfloat16");
}

// As torch's padding_idx: 0 at first, and never trained by what the embedding sees. The head is a tensor of its own.
TEST_F(TrainCommand, TheEmbeddingOfThePadIsZeroOnEveryMesh) {
  constexpr size_t pad = 300, hidden = 32;
  write_file(path("config.json"), small_config({{"pad_token_id", pad}}).dump());
  write_file(path("ids.jsonl"), random_id_lines(12, 60, small_vocabulary));
  ASSERT_TRUE(holds(whole_file(path("ids.jsonl")), std::to_string(pad)));
  for (const MeshOfRanks& mesh : {alone, MeshOfRanks{4, ""}, MeshOfRanks{4, "--tensor-parallel 2"},
                                  MeshOfRanks{4, "--fsdp 2 --tensor-parallel 2"}}) {
    std::filesystem::remove_all(path("out"));
    train(mesh, "out", from_config("--max-steps 2 --train-file " + path("ids.jsonl")));
    for (const auto& [name, tensor] : read_tensors(path("out/checkpoint-2/model.safetensors"))) {
      if (name != "model.embed_tokens.weight" && name != "lm_head.weight") continue;
      const std::vector<float> zeros(hidden);
      const auto row = [&values = tensor.values](size_t at) {
        const auto begin = values.begin() + static_cast<std::ptrdiff_t>(at * hidden);
        return std::vector<float>(begin, begin + hidden);
      };
      EXPECT_EQ(row(pad) == zeros, name == "model.embed_tokens.weight") << name << mesh.options;
      EXPECT_NE(row(pad + 1), zeros) << name << mesh.options;
    }
  }
}

TEST_F(TrainCommand, GoesOnFromACheckpointOfAnotherMesh) {
  train({2, ""}, "first", from_config("--max-steps 3 --save-steps 2 --learning-rate 1e-3"));
  EXPECT_EQ(checkpoint_steps(path("first")), (std::vector<int>{2, 3}));
  const std::string options = "--model " + path("first") + " --max-steps 3 --learning-rate 1e-3";
  const std::vector<Json> whole = train(alone, "alone", options);
  ASSERT_EQ(whole.size(), 3u);
  EXPECT_LT(double(whole[0]["loss"]), double(json_lines(whole_file(path("first/metrics.jsonl")))[0]["loss"]));
  expect_same_steps(train({4, ""}, "four", options), whole);
  expect_same_steps(train({4, "--tensor-parallel 2"}, "both", options), whole);
  EXPECT_EQ(whole_file(path("alone/checkpoint-3/tokenizer.json")), whole_file(small_tokenizer() + "/tokenizer.json"));
}

TEST_F(TrainCommand, ValidationIsWhatEvalSaysOfTheSameWeights) {
  write_file(path("held_out.jsonl"), random_id_lines(7, 30, small_vocabulary));
  const std::string options =
      from_config("--max-steps 3 --eval-steps 2 --save-steps 2 --validation-file " + path("held_out.jsonl"));
  const std::vector<Json> steps = train({4, "--tensor-parallel 2"}, "out", options);
  ASSERT_EQ(steps.size(), 3u);
  EXPECT_FALSE(steps[0].contains("eval_loss"));
  for (const int step : {2, 3}) {
    const CommandResult eval = run_command(llama_tp_with(0) + " eval --json --file " + path("held_out.jsonl") + " -m " +
                                           path("out/checkpoint-" + std::to_string(step)));
    EXPECT_NEAR(Json::parse(eval.out)["loss"], steps[static_cast<size_t>(step - 1)]["eval_loss"], 1e-5);
  }
}

TEST_F(TrainCommand, SaysWhatItCuts) {
  write_file(path("text.jsonl"), random_id_lines(3, 100, small_vocabulary));
  const CommandResult result = run_command(line({2, ""}, "out", from_config("--max-steps 1")));
  EXPECT_TRUE(holds(result.out, "longer than --block-size 64 and cut: 3 samples, which lost 108 tokens"));
}

TEST_F(TrainCommand, WritesPlainLinesIntoAFileAndAProgressLineOnATerminal) {
  for (const int ranks : {0, 2}) {
    const std::string command = line({ranks, ""}, "out", from_config("--max-steps 5 --logging-steps 2"));
    std::filesystem::remove_all(path("out"));
    const CommandResult into_file = run_command(command);
    EXPECT_EQ(into_file.out.find('\r'), std::string::npos) << into_file.out;
    EXPECT_EQ(into_file.out.find('\033'), std::string::npos) << into_file.out;
    EXPECT_TRUE(
        holds(into_file.out, "step 1/5  loss ", "\nstep 2/5", "\nstep 4/5", "\nstep 5/5", "tok/s\n", "\nsaved "));
    EXPECT_EQ(into_file.out.find("step 3/5"), std::string::npos);
    std::filesystem::remove_all(path("out"));
    const CommandResult on_terminal = run_command(command, 100, Output::on_terminal);
    EXPECT_TRUE(holds(on_terminal.out, "\r", "step 3/5", "ETA "));
  }
}

}  // namespace
}  // namespace llama_tp
