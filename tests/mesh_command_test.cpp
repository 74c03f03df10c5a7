// `llama_tp train` on every mesh of up to eight ranks, with its tokens divided or not and recomputed or not: the losses
// and gradient norms of one rank, the same bits whenever it is run, and the memory and collectives of the plan. A choice in which each two settings meet, with
// LLAMA_TP_TEST_ALL=1 all of them.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "scratch_folder.h"
#include "support/command.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

// Ranks of data, fsdp and tensor; whether sequence parallelism and recompute are on.
using Setting = std::array<int, 5>;

int ranks_of(const Setting& setting) { return setting[0] * setting[1] * setting[2]; }

std::string options_of(const Setting& setting) {
  return text("--data-parallel ", setting[0], " --fsdp ", setting[1], " --tensor-parallel ", setting[2],
              setting[2] > 1 ? (setting[3] == 1 ? " --sequence-parallel on" : " --sequence-parallel off") : "",
              setting[4] == 1 ? " --gradient-checkpointing" : "");
}

std::vector<Setting> all_settings() {
  std::vector<Setting> all;
  for (const int data : {1, 2, 4})
    for (const int fsdp : {1, 2, 4})
      for (const int tensor : {1, 2, 4})
        for (const int sequence : {0, 1})
          for (const int recompute : {0, 1})
            if (data * fsdp * tensor <= 8 && (tensor > 1 || sequence == 0))
              all.push_back({data, fsdp, tensor, sequence, recompute});
  return all;
}

// {place, value, place, value} of each two of a setting's values.
using Pairs = std::set<std::array<int, 4>>;
Pairs pairs_of(const Setting& setting) {
  Pairs pairs;
  for (int a = 0; a < 5; a++)
    for (int b = a + 1; b < 5; b++)
      pairs.insert({a, setting[static_cast<size_t>(a)], b, setting[static_cast<size_t>(b)]});
  return pairs;
}

// Few of the settings in which every pair of values occurs that occurs at all: always the one with most new pairs.
std::vector<Setting> pairwise(const std::vector<Setting>& all) {
  std::vector<Setting> chosen;
  Pairs seen;
  for (;;) {
    const Setting* best = nullptr;
    size_t most = 0;
    for (const Setting& setting : all) {
      Pairs with = pairs_of(setting);
      with.merge(Pairs(seen));
      if (with.size() - seen.size() <= most) continue;
      best = &setting;
      most = with.size() - seen.size();
    }
    if (best == nullptr) return chosen;
    chosen.push_back(*best);
    seen.merge(pairs_of(*best));
  }
}

struct Trained {
  std::vector<Json> steps;
  Json memory;  // memory.json
  std::string weights;
};

class MeshCommand : public testing::Test {
 protected:
  // Two key/value heads, which four tensor-parallel ranks share; a vocabulary that no number of ranks divides.
  MeshCommand() {
    write_file(folder_ / "config.json", small_config({{"num_key_value_heads", 2}, {"vocab_size", 497}}).dump());
    write_file(folder_ / "text.jsonl", demo_lines(12));
  }

  // What train and plan share.
  std::string step_of(const Setting& setting, const std::string& dtype) const {
    return " --config " + (folder_ / "config.json") +
           " --block-size 64 --global-batch-size 8 --per-device-train-batch-size 1 --dtype " + dtype + " " +
           options_of(setting);
  }

  // Every comparison of ranks that there is goes with it.
  Trained train(const Setting& setting, const std::string& dtype = "float32", int steps = 20) const {
    const std::string output = folder_ / "out";
    std::filesystem::remove_all(output);
    const CommandResult result = run_command(
        llama_tp_with(ranks_of(setting) == 1 ? 0 : ranks_of(setting)) + " train --tokenizer " + small_tokenizer() +
        " --train-file " + (folder_ / "text.jsonl") + " --output-dir " + output +
        " --learning-rate 3e-3 --check-every 5 --seed 1" + text(" --max-steps ", steps) + step_of(setting, dtype));
    EXPECT_EQ(result.status, 0) << result.err;
    if (result.status != 0) return {};
    return {json_lines(whole_file(output + "/metrics.jsonl")), Json::parse(whole_file(output + "/memory.json")),
            whole_file(text(output, "/checkpoint-", steps, "/model.safetensors"))};
  }

  // To the byte: of each rank all that the ledger counted, and what the arenas held; and each collective's calls and
  // bytes.
  void expect_as_planned(const Trained& trained, const Setting& setting, const std::string& dtype) const {
    const CommandResult result = run_command(llama_tp_with(0) + " plan --json" + step_of(setting, dtype));
    ASSERT_EQ(result.status, 0) << result.err;
    const Json plan = Json::parse(result.out);
    EXPECT_EQ(trained.memory["ranks"], plan["ranks"]);
    EXPECT_EQ(trained.memory["communication"], plan["communication"]);
    for (const Json& rank : plan["ranks"]) EXPECT_EQ(rank["planned_bytes"], rank["peak_bytes"]);
  }

  ScratchFolder folder_;
};

// Sums of the same numbers in another order round differently by f32's 2^-24, some 1e-7 of a loss; each of twenty
// updates of 3e-3 hands that on to the next step, and AdamW makes a full step of the smallest gradient, whatever its
// rounding.
constexpr double loss_tolerance = 1e-5, norm_tolerance = 1e-4;

void expect_same_steps(const Trained& a, const Trained& b) {
  ASSERT_EQ(a.steps.size(), 20u);
  ASSERT_EQ(b.steps.size(), 20u);
  for (size_t i = 0; i < 20; i++) {
    for (const char* exact : {"step", "epoch", "learning_rate", "tokens"})
      EXPECT_EQ(a.steps[i][exact], b.steps[i][exact]);
    EXPECT_NEAR(a.steps[i]["loss"], b.steps[i]["loss"], loss_tolerance * double(b.steps[i]["loss"])) << i + 1;
    EXPECT_NEAR(a.steps[i]["grad_norm"], b.steps[i]["grad_norm"], norm_tolerance * double(b.steps[i]["grad_norm"]))
        << i + 1;
  }
}

void expect_same_bits(const Trained& a, const Trained& b) {
  ASSERT_EQ(a.steps.size(), b.steps.size());
  for (size_t i = 0; i < a.steps.size(); i++)
    for (const char* key : {"loss", "grad_norm"}) EXPECT_EQ(a.steps[i][key], b.steps[i][key]) << key << " " << i + 1;
  EXPECT_TRUE(a.weights == b.weights) << "the checkpoints differ";
}

TEST_F(MeshCommand, EveryMeshFollowsOneRankAndItselfToTheBit) {
  const Trained one = train({1, 1, 1, 0, 0});
  const bool whole = std::getenv("LLAMA_TP_TEST_ALL") != nullptr;
  for (const Setting& setting : whole ? all_settings() : pairwise(all_settings())) {
    SCOPED_TRACE(options_of(setting));
    const Trained first = train(setting);
    expect_same_steps(first, one);
    expect_same_bits(train(setting), first);
    expect_as_planned(first, setting, "float32");
    expect_as_planned(train(setting, "bfloat16", 2), setting, "bfloat16");
  }
}

TEST(MeshSettings, OfTheChoiceHoldEveryPair) {
  Pairs all, chosen;
  for (const Setting& setting : all_settings()) all.merge(pairs_of(setting));
  for (const Setting& setting : pairwise(all_settings())) chosen.merge(pairs_of(setting));
  EXPECT_EQ(chosen, all);
  EXPECT_EQ(all_settings().size(), 17u * 2 + 9 * 2);  // 17 meshes, 9 of them with more than one tensor rank
}

}  // namespace
}  // namespace llama_tp
