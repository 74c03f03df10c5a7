// `llama_tp train` on every mesh of up to eight ranks, with its tokens divided or not, recomputed or not, and FSDP's
// weights fetched ahead and kept or not: the losses and gradient norms of one rank, the same bits whenever it is run, and
// the memory and collectives of the plan. A choice in which each two settings meet, with LLAMA_TP_TEST_ALL=1 all of them.
#include <gtest/gtest.h>

#include <filesystem>

#include "scratch_folder.h"
#include "support/command.h"
#include "support/metrics_lines.h"
#include "support/planned.h"
#include "support/settings.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

struct Setting {
  int data = 1, fsdp = 1, tensor = 1;  // ranks
  bool sequence_parallel = false, recompute = false, prefetch = true, reshard = true;

  int ranks() const { return data * fsdp * tensor; }
  Values values() const { return {data, fsdp, tensor, sequence_parallel, recompute, prefetch, reshard}; }
  std::string options() const {
    const auto on = [](bool is) { return is ? " on" : " off"; };
    std::string all = text("--data-parallel ", data, " --fsdp ", fsdp, " --tensor-parallel ", tensor);
    if (tensor > 1) all += text(" --sequence-parallel", on(sequence_parallel));
    if (fsdp > 1) all += text(" --fsdp-prefetch", on(prefetch), " --fsdp-reshard-after-forward", on(reshard));
    return all + (recompute ? " --gradient-checkpointing" : "");
  }
};

// What means nothing on a mesh has its default there.
std::vector<Setting> all_settings() {
  std::vector<Setting> all;
  for (const int data : {1, 2, 4})
    for (const int fsdp : {1, 2, 4})
      for (const int tensor : {1, 2, 4})
        for (const bool sequence_parallel : {false, true})
          for (const bool recompute : {false, true})
            for (const bool prefetch : {true, false})
              for (const bool reshard : {true, false})
                if (data * fsdp * tensor <= 8 && (tensor > 1 || !sequence_parallel) &&
                    (fsdp > 1 || (prefetch && reshard)))
                  all.push_back({data, fsdp, tensor, sequence_parallel, recompute, prefetch, reshard});
  return all;
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
           setting.options();
  }

  // Every comparison of ranks that there is goes with it.
  Trained train(const Setting& setting, const std::string& dtype = "float32", int steps = 20) const {
    const std::string output = folder_ / "out";
    std::filesystem::remove_all(output);
    const CommandResult result = run_command(
        llama_tp_with(setting.ranks() == 1 ? 0 : setting.ranks()) + " train --tokenizer " + small_tokenizer() +
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
    const Json plan = planned(step_of(setting, dtype)), &measured = trained.memory["ranks"];
    EXPECT_EQ(measured, plan["ranks"]);
    EXPECT_EQ(trained.memory["communication"], plan["communication"]);
    EXPECT_EQ(trained.memory["communication"].empty(), setting.ranks() == 1);
    for (const Json& rank : measured) {
      EXPECT_EQ(rank["planned_bytes"], rank["peak_bytes"]);
      int64_t sum = 0;
      for (const auto& [name, bytes] : rank["categories"].items()) sum += bytes.get<int64_t>();
      EXPECT_EQ(sum, rank["peak_bytes"]);
    }
    expect_resident(trained.memory["resident"], measured);
  }

  // Of each rank: what the arenas do not hold is named, and all together is what the process has.
  static void expect_resident(const Json& resident, const Json& measured) {
    size_t ranks = 0;
    for (const Json& entry : measured)
      for (const Json& rank : entry["ranks"]) {
        const Json& one = resident.at(rank.get<size_t>());
        int64_t sum = entry["peak_bytes"].get<int64_t>();
        for (const auto& [name, bytes] : one["remainder"].items()) sum += bytes.get<int64_t>();
        EXPECT_EQ(sum, one["resident_bytes"]);
        EXPECT_EQ(one["remainder_bytes"], one["resident_bytes"].get<int64_t>() - entry["peak_bytes"].get<int64_t>());
        ranks++;
      }
    EXPECT_EQ(ranks, resident.size());
  }

  ScratchFolder folder_;
};

// Sums of the same numbers in another order round differently by f32's 2^-24, some 1e-7 of a loss; each of twenty
// updates of 3e-3 hands that on to the next step, and AdamW makes a full step of the smallest gradient, whatever its
// rounding.
constexpr StepTolerance tolerance{.loss = 1e-5, .norm = 1e-4};

void expect_same_bits(const Trained& a, const Trained& b) {
  expect_equal_bits(a.steps, b.steps);
  EXPECT_TRUE(a.weights == b.weights) << "the checkpoints differ";
}

TEST_F(MeshCommand, EveryMeshFollowsOneRankAndItselfToTheBit) {
  const Trained one = train({});
  ASSERT_EQ(one.steps.size(), 20u);
  for (const Setting& setting : settings_under_test(all_settings())) {
    SCOPED_TRACE(setting.options());
    const Trained first = train(setting);
    expect_close(first.steps, one.steps, tolerance);
    expect_same_bits(train(setting), first);
    expect_as_planned(first, setting, "float32");
    expect_as_planned(train(setting, "bfloat16", 2), setting, "bfloat16");
  }
}

TEST(MeshSettings, AreAllThatAMeshCanHave) {
  // 3 meshes of data ranks alone, 5 more with tensor ranks; 5 with fsdp ranks, 4 more with tensor ranks as well.
  EXPECT_EQ(all_settings().size(), 3u * 2 + 5 * 4 + 5 * 8 + 4 * 16);
}

}  // namespace
}  // namespace llama_tp
