// What `llama_tp plan` foresees for Llama 3.1 8B is what the mathematics says; docs/memory.md derives the formulas.
#include <gtest/gtest.h>

#include <map>

#include "base/error.h"
#include "support/planned.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

constexpr int64_t tokens = 16384, hidden = 4096, layers = 32, heads = 32, kv_heads = 8, head_dim = 128, ffn = 14336,
                  vocabulary = 128256;
constexpr int64_t block_matrices = hidden * (2 * heads + 2 * kv_heads) * head_dim + 3 * hidden * ffn;
constexpr int64_t norms = (2 * layers + 1) * hidden;
constexpr int64_t parameters = layers * block_matrices + norms + 2 * vocabulary * hidden;
static_assert(parameters == 8'030'261'248);

Json plan_8b(int tensor_parallel, const std::string& options = "") {
  return planned("--config llama-3.1-8b --block-size 16384 --per-device-train-batch-size 1 --tensor-parallel " +
                 std::to_string(tensor_parallel) + " " + options);
}

int64_t bytes(const Json& rank, const char* category) { return rank["categories"].value(category, int64_t{0}); }

TEST(PlanFormulas, StateIsSixteenBytesAParameterOfTheRank) {
  for (const int64_t tp : {1, 2, 8}) {
    const Json plan = plan_8b(static_cast<int>(tp));
    EXPECT_EQ(plan["parameters"], parameters);
    const int64_t own = (parameters - norms) / tp + norms;  // norms are whole on every rank
    for (const Json& rank : plan["ranks"]) {
      EXPECT_EQ(bytes(rank, "parameters"), 2 * own);
      EXPECT_EQ(bytes(rank, "master_weights"), 2 * own);
      EXPECT_EQ(bytes(rank, "gradients"), 4 * own);
      EXPECT_EQ(bytes(rank, "moments"), 8 * own);
    }
  }
}

// The table of docs/memory.md: bf16 elements of 2 bytes, statistics of 4. Besides the blocks there are the stream
// behind the last one and the rotary table, which all blocks share.
TEST(PlanFormulas, KeptActivationsAreThoseOfTheFormula) {
  const int64_t stream = tokens * (2 * hidden + 4), rope = tokens * head_dim * 4;
  for (const int64_t tp : {1, 2, 8}) {
    const int64_t a = heads / tp, g = kv_heads / tp, f = ffn / tp;
    const int64_t split = tokens * (2 * ((a + 2 * g) * head_dim + a * head_dim + 2 * f) + 4 * a);
    const Json plan = plan_8b(static_cast<int>(tp), "--sequence-parallel off");
    ASSERT_EQ(plan["ranks"].size(), 1u);
    for (const Json& rank : plan["ranks"]) {
      EXPECT_EQ(bytes(rank, "saved_split"), layers * split);
      EXPECT_EQ(bytes(rank, "saved_whole"), layers * 2 * stream + stream + rope);
    }
    const Json again = plan_8b(static_cast<int>(tp), "--sequence-parallel off --gradient-checkpointing");
    ASSERT_EQ(again["ranks"].size(), 1u);
    for (const Json& rank : again["ranks"]) {
      EXPECT_EQ(bytes(rank, "saved_split"), split);  // of the one block that is computed again
      EXPECT_EQ(bytes(rank, "saved_whole"), (layers + 1) * stream + stream + rope);
    }
  }
}

// Sequence parallelism divides the stream, too: all but the rotary table is 1/tp.
TEST(PlanFormulas, SequenceParallelismKeepsAPartOfEveryActivation) {
  for (const int64_t tp : {2, 8}) {
    const int64_t stream = tokens * (2 * hidden + 4) / tp;
    const int64_t split = tokens * (2 * (2 * heads + 2 * kv_heads) * head_dim + 2 * 2 * ffn + 4 * heads) / tp;
    const Json plan = plan_8b(static_cast<int>(tp));
    ASSERT_EQ(plan["ranks"].size(), 1u);
    EXPECT_EQ(bytes(plan["ranks"][0], "saved_split"), layers * (split + 2 * stream) + stream);
    EXPECT_EQ(bytes(plan["ranks"][0], "saved_whole"), tokens * head_dim * 4);
  }
}

// Of [T, H] a block: two reduce-scatters in each direction; one for the embedding, one for the head.
TEST(PlanFormulas, SequenceParallelismScattersFourTimesABlock) {
  int seen = 0;
  const Json plan = plan_8b(8);
  for (const Json& entry : plan["communication"])
    if (entry["group"] == "tensor" && entry["collective"] == "reduce_scatter") {
      seen++;
      EXPECT_EQ(entry["calls"], 4 * layers + 2);
      EXPECT_EQ(entry["bytes"], (4 * layers + 2) * tokens * hidden * 2);
      EXPECT_EQ(entry["ranks"].size(), 8);
    }
  EXPECT_EQ(seen, 1);
}

// A block's forward runs again up to its last product: attention's sum is sent once more, and with sequence parallelism
// either region's input is gathered once more.
TEST(PlanFormulas, RecomputeSendsAllOfABlocksForwardButItsLastSum) {
  const auto sent = [](const std::string& options) {
    std::map<std::string, std::pair<int64_t, int64_t>> calls_and_bytes;
    const Json plan = plan_8b(8, options);
    for (const Json& entry : plan["communication"])
      calls_and_bytes[entry["collective"]] = {entry["calls"], entry["bytes"]};
    return calls_and_bytes;
  };
  for (const auto& [sequence_parallel, collective] :
       {std::pair{"off", "all_reduce"}, {"on", "all_gather"}, {"on", "reduce_scatter"}}) {
    const std::string options = text("--sequence-parallel ", sequence_parallel);
    const auto [calls, bytes] = sent(options)[collective];
    const auto [calls_again, bytes_again] = sent(options + " --gradient-checkpointing")[collective];
    const int64_t more = (collective == std::string("all_gather") ? 2 : 1) * layers;
    EXPECT_EQ(calls_again - calls, more) << options << " " << collective;
    EXPECT_EQ(bytes_again - bytes, more * tokens * hidden * 2) << options << " " << collective;
  }
}

// Element-wise operations, a ten-thousandth of it, are in no formula.
TEST(PlanFormulas, RecomputeIsABlocksForwardWithoutItsLastProduct) {
  const double products = 2.0 * double(tokens) * double(block_matrices - hidden * ffn),
               attention = 4.0 * double(heads * head_dim) * double(tokens) * double(tokens + 1) / 2;
  const double again =
      double(plan_8b(1, "--gradient-checkpointing")["flops"]["performed"]) - double(plan_8b(1)["flops"]["performed"]);
  EXPECT_NEAR(again / (double(layers) * (products + attention)), 1, 1e-3);
}

// With sequence parallelism two gathers and two scatters a block forward, four and two backward, which gathers the saved
// inputs again; beside them the embedding's scatter, the head's gather, their conjugates, and the statistics of the loss
// of one chunk of tokens. FSDP gathers the norms, embedding, blocks and head, and in backward the blocks again. The
// first of two shards has 33 of the 65 norms, half of the last one, whose gradients its tensor ranks sum. Replicas sum
// the head's gradient, each block's and the embedding's where backward has them, the norms' and the loss at the end.
TEST(PlanFormulas, EveryPhaseHasItsOwnCollectives) {
  std::map<std::string, int64_t> calls;
  const Json plan = planned(
      "--config llama-3.1-8b --block-size 128 --data-parallel 2 --fsdp 2 --tensor-parallel 2 "
      "--per-device-train-batch-size 1");
  for (const Json& entry : plan["communication"])
    if (entry["ranks"][0] == 0)
      for (const auto& [phase, traffic] : entry["phases"].items())
        calls[text(entry["group"].get<std::string>(), " ", entry["collective"].get<std::string>(), " ", phase)] =
            traffic["calls"];
  const std::map<std::string, int64_t> expected{{"tensor all_gather forward", 2 * layers},
                                                {"tensor reduce_scatter forward", 2 * layers + 1},
                                                {"tensor all_gather loss", 2},
                                                {"tensor reduce_scatter loss", 1},
                                                {"tensor all_gather backward", 4 * layers + 1},
                                                {"tensor reduce_scatter backward", 2 * layers},
                                                {"tensor all_reduce gradient_sync", 33},
                                                {"tensor all_reduce optimizer", 1},
                                                {"fsdp all_gather forward", layers + 2},
                                                {"fsdp all_gather loss", 1},
                                                {"fsdp reduce_scatter loss", 1},
                                                {"fsdp all_gather backward", layers},
                                                {"fsdp reduce_scatter backward", layers + 1},
                                                {"fsdp reduce_scatter gradient_sync", 1},
                                                {"fsdp all_reduce gradient_sync", 1},
                                                {"fsdp all_reduce optimizer", 1},
                                                {"data all_reduce loss", 1},
                                                {"data all_reduce backward", layers + 1},
                                                {"data all_reduce gradient_sync", 2}};
  EXPECT_EQ(calls, expected);
}

// Of a rank's gradients, a unit at a time: embedding, blocks, head and norms; and the loss, an f64.
TEST(PlanFormulas, ReplicasSumFourBytesAParameterOnceAStep) {
  for (const char* batch : {"", "--global-batch-size 12"}) {
    const Json plan = plan_8b(1, text("--data-parallel 4 ", batch));
    ASSERT_EQ(plan["communication"].size(), 1u);
    EXPECT_EQ(plan["communication"][0]["group"], "data");
    EXPECT_EQ(plan["communication"][0]["calls"], layers + 3 + 1);
    EXPECT_EQ(plan["communication"][0]["bytes"], 4 * parameters + 8);
    EXPECT_EQ(plan["ranks"][0]["peak_bytes"], plan_8b(1)["ranks"][0]["peak_bytes"]);
  }
}

// Megatron's two all-reduces of [T, H] a block in each direction, one for the embedding, one for the head.
TEST(PlanFormulas, TensorParallelSumsFourTimesABlock) {
  int seen = 0;
  const Json plan = plan_8b(8, "--sequence-parallel off");
  for (const Json& entry : plan["communication"])
    if (entry["group"] == "tensor" && entry["collective"] == "all_reduce") {
      seen++;
      EXPECT_EQ(entry["calls"], 4 * layers + 2 + 1);  // and one of the gradients' norm, an f64
      EXPECT_EQ(entry["bytes"], (4 * layers + 2) * tokens * hidden * 2 + 8);
      EXPECT_EQ(entry["ranks"].size(), 8);
    }
  EXPECT_EQ(seen, 1);
}

TEST(PlanFormulas, ModelFlopsAreSixAParameterAndTokenWithCausalAttention) {
  const int64_t multiplying = parameters - vocabulary * hidden;
  const double expected = 6.0 * double(multiplying + layers * heads * head_dim * tokens) * double(tokens);
  EXPECT_DOUBLE_EQ(plan_8b(1)["flops"]["model"], expected);
  EXPECT_DOUBLE_EQ(plan_8b(1, "--gradient-checkpointing")["flops"]["model"], expected);
}

// ZeRO-3 of docs/memory.md: all state divided by the shards, a unit of 128-element multiples. With so many tokens the
// peak is in backward; with fewer it may be at the head, which is for the workspace of this CPU's products to decide.
TEST(PlanFormulas, FsdpDividesTheStateAndGathersABlock) {
  const Json plan = planned("--config llama-3.1-8b --fsdp 8 --block-size 65536 --per-device-train-batch-size 1");
  ASSERT_EQ(plan["ranks"].size(), 1u);
  const Json& held = plan["ranks"][0]["categories"];
  static_assert(parameters % (8 * 128) == 0 && norms % (8 * 128) == 0);
  EXPECT_EQ(held["parameters"], parameters / 8 * 2);
  EXPECT_EQ(held["master_weights"], parameters / 8 * 2);
  EXPECT_EQ(held["gradients"], parameters / 8 * 4);
  EXPECT_EQ(held["moments"], parameters / 8 * 8);
  // Two blocks gathered, two blocks' gradients whole, and the norms of both kinds.
  EXPECT_EQ(held["gathered_parameters"], (2 * block_matrices + norms) * 2);
  EXPECT_EQ(held["unsharded_gradients"], (2 * block_matrices + norms) * 4);
  EXPECT_EQ(held["communication"], block_matrices / 8 * 4);
}

// A step cannot beat its FLOPs at the datasheet's rate.
TEST(PlanFormulas, TheEstimateStaysBelowTheDatasheet) {
  for (const char* device : {"h100", "h200", "a100", "data/devices/h100.json"}) {
    const Json estimate = plan_8b(8, std::string("--device ") + device)["estimate"];
    EXPECT_GT(estimate["mfu"], 0.0);
    EXPECT_LT(estimate["mfu"], 1.0);
    EXPECT_NEAR(estimate["step_seconds"].get<double>() * estimate["tokens_per_second"].get<double>(), tokens, 1e-6);
  }
}

}  // namespace
}  // namespace llama_tp
