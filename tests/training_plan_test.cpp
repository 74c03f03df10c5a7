// The plan of a whole mesh rehearses one rank of those that are alike: every rank's own rehearsal must say the same.
#include "train/training_plan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "backend/device.h"
#include "scratch_folder.h"
#include "support/small_model.h"
#include "train/model_flops.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

ModelConfig config_of(const Json& changes) {
  const ScratchFolder scratch;
  write_file(scratch / "config.json", small_config(changes).dump());
  return read_model_config(scratch / "config.json");
}

void expect_same(const RankPlan& entry, const RankPlan& own) {
  EXPECT_EQ(entry.memory.state, own.memory.state);
  EXPECT_EQ(entry.memory.step, own.memory.step);
  EXPECT_EQ(entry.ledger.at_peak(), own.ledger.at_peak());
  for (int i = 0; i < phase_count; i++)
    EXPECT_EQ(entry.ledger.peak_of(static_cast<Phase>(i)), own.ledger.peak_of(static_cast<Phase>(i)))
        << name_of(static_cast<Phase>(i));
  for (size_t group = 0; group < own.traffic.size(); group++)
    for (size_t i = 0; i < own.traffic[group].of.size(); i++) {
      const Traffic &a = entry.traffic[group].of[i], &b = own.traffic[group].of[i];
      EXPECT_EQ(a.calls, b.calls) << own.traffic[group].group << " " << name_of(static_cast<Collective>(i));
      EXPECT_EQ(a.bytes, b.bytes) << own.traffic[group].group << " " << name_of(static_cast<Collective>(i));
      Traffic sum;
      for (const Traffics& phase : entry.traffic[group].of_phase) {
        sum.calls += phase[i].calls;
        sum.bytes += phase[i].bytes;
      }
      EXPECT_EQ(sum.calls, a.calls);
      EXPECT_EQ(sum.bytes, a.bytes);
    }
  for (size_t i = 0; i < own.work.size(); i++) {
    EXPECT_EQ(entry.work[i].flops, own.work[i].flops) << name_of(static_cast<Operation>(i));
    EXPECT_EQ(entry.work[i].bytes, own.work[i].bytes) << name_of(static_cast<Operation>(i));
  }
}

void expect_every_rank_planned(const Json& changes, const MeshShape& mesh, int64_t sequence_ranks) {
  const ModelConfig config = config_of(changes);
  const auto backend = make_backend("cpu", {.threads = 1});
  TrainerOptions options;
  options.batch = {1, 1, mesh.data_ranks(), 32, sequence_ranks};
  const std::vector<RankPlan> plans = plan_ranks(config, options, mesh, DType::bf16, *backend);
  std::vector<int64_t> ranks;
  for (const RankPlan& entry : plans)
    for (const int64_t rank : entry.ranks) {
      SCOPED_TRACE(testing::Message() << "rank " << rank << " of " << mesh.data << " × " << mesh.fsdp << " × "
                                      << mesh.tensor << " " << changes);
      ranks.push_back(rank);
      expect_same(entry, plan_rank(config, options, mesh, static_cast<int>(rank), DType::bf16, *backend));
    }
  std::sort(ranks.begin(), ranks.end());
  EXPECT_EQ(ranks.size(), static_cast<size_t>(mesh.ranks()));
  for (size_t i = 0; i < ranks.size(); i++) EXPECT_EQ(ranks[i], static_cast<int64_t>(i));
}

// Norms and biases that one of the shards has and another has not; norms and weights that some shards share, so that
// one has as many elements in more pieces, or in larger ones, whose norm takes more scratch memory; two key/value heads
// that four tensor ranks share; heads with norms of their own, whose gradients are summed; a tied head.
const std::vector<Json> models{Json::object(),
                               {{"hidden_size", 384}, {"head_dim", 48}, {"intermediate_size", 6144}},
                               {{"model_type", "qwen2"}, {"num_key_value_heads", 2}},
                               {{"model_type", "qwen3"}, {"head_dim", 8}, {"tie_word_embeddings", true}}};

TEST(TrainingPlan, EveryRankIsPlannedAsInItsOwnPlace) {
  for (const Json& changes : models)
    for (const MeshShape& mesh :
         {MeshShape{1, 1, 4}, MeshShape{1, 2, 1}, MeshShape{1, 4, 1}, MeshShape{2, 2, 2}, MeshShape{1, 3, 1},
          MeshShape{1, 3, 2}, MeshShape{1, 4, 2}, MeshShape{1, 2, 4}, MeshShape{1, 8, 4}})
      for (const int64_t sequence_ranks : {1, mesh.tensor}) expect_every_rank_planned(changes, mesh, sequence_ranks);
}

TEST(TrainingPlan, AStepOfManyForwardsIsRehearsedByTwo) {
  const auto step_of = [&](int64_t accumulation) {
    const ModelConfig config = config_of(Json::object());
    const auto backend = make_backend("cpu", {.threads = 1});
    TrainerOptions options;
    options.batch = {1, accumulation, 2, 32, 2};
    return plan_rank(config, options, {1, 2, 2}, 3, DType::bf16, *backend);
  };
  const RankPlan one = step_of(1), two = step_of(2), five = step_of(5);
  for (size_t group = 0; group < one.traffic.size(); group++)
    for (size_t i = 0; i < one.traffic[group].of.size(); i++) {
      const auto calls = [&](const RankPlan& plan) { return plan.traffic[group].of[i].calls; };
      EXPECT_EQ(calls(five) - calls(two), 3 * (calls(two) - calls(one)));
    }
  for (size_t i = 0; i < one.work.size(); i++)
    EXPECT_EQ(five.work[i].flops - two.work[i].flops, 3 * (two.work[i].flops - one.work[i].flops));
  EXPECT_EQ(five.ledger.peak(), one.ledger.peak());
}

// The five norms of the small model begin 128 elements apart, and a piece of the eight holds as many: five ranks have
// one norm each, whose gradient they sum beside the total norm, three have none.
TEST(TrainingPlan, ARankWithoutAPieceOfANormDoesNotSumIt) {
  const ModelConfig config = config_of(Json::object());
  const auto backend = make_backend("cpu", {.threads = 1});
  TrainerOptions options;
  options.batch = {1, 1, 8, 32, 2};
  const auto plans = plan_ranks(config, options, {1, 8, 2}, DType::bf16, *backend);
  int seen = 0;
  for (const RankPlan& entry : plans)
    for (const int64_t rank : entry.ranks) {
      EXPECT_EQ(entry.traffic[0].of[static_cast<size_t>(Collective::all_reduce)].calls, rank / 2 < 5 ? 2 : 1) << rank;
      seen++;
    }
  EXPECT_EQ(seen, 16);
}

// Qwen2's layers from max_window_layers on have the window. A query counts from the middle of its token, so that the
// causal half is exactly a half.
TEST(TrainingPlan, FlopsOfASlidingWindowAreThoseOfTheKeysInIt) {
  constexpr int64_t block = 32, samples = 3, heads_times_dim = 32;
  for (const int64_t window : {1, 10, 31, 32, 500}) {
    const ModelConfig whole = config_of({{"model_type", "qwen2"}}), windowed = config_of({{"model_type", "qwen2"},
                                                                                          {"use_sliding_window", true},
                                                                                          {"sliding_window", window},
                                                                                          {"max_window_layers", 1}});
    ASSERT_EQ(windowed.windows, (std::vector<int64_t>{0, window}));
    TrainerOptions options;
    options.batch = {samples, 1, 1, block, 1};
    double half = 0, all = 0, seen = 0;
    for (int64_t query = 0; query < block; query++) {
      half += std::min(double(query) + 0.5, double(window));
      for (int64_t key = 0; key <= query; key++) {
        all += 1;
        seen += query - key < window ? 1 : 0;
      }
    }
    EXPECT_DOUBLE_EQ(model_flops(whole, options.batch) - model_flops(windowed, options.batch),
                     12.0 * heads_times_dim * samples * (block * block / 2 - half));
    const auto backend = make_backend("cpu", {.threads = 1});
    const RankPlan plan = plan_rank(windowed, options, {}, 0, DType::bf16, *backend);
    const auto flops = [&](Operation operation) { return plan.work[static_cast<size_t>(operation)].flops; };
    EXPECT_EQ(flops(Operation::attention_forward), 4.0 * heads_times_dim * samples * (all + seen));
    EXPECT_EQ(flops(Operation::attention_backward), 10.0 * heads_times_dim * samples * (all + seen));
  }
}

// Two sequences of 3 and 5 tokens in one sample, one of 7 in the other; the second layer sees 4 tokens.
TEST(TrainingPlan, FlopsOfSamplesAreThoseOfTheirSequences) {
  Dataset data;
  data.starts = {0, 3, 8, 15};
  data.blocks = {0, 2, 3};
  data.tokens.own().resize(15);
  const ModelConfig config = config_of({{"model_type", "qwen2"},
                                        {"use_sliding_window", true},
                                        {"sliding_window", 4},
                                        {"max_window_layers", 1},
                                        {"tie_word_embeddings", false}});
  const double multiplied = double(parameter_count(config) - config.vocabulary * config.hidden);
  // Half a key for a token itself: 3²/2 and 5²/2 of the whole layer, and of the other one less behind the window.
  const double keys = 9 / 2.0 + 25 / 2.0 + 9 / 2.0 + (25 - 1) / 2.0;
  const double first = 6 * multiplied * 8 + 12 * double(config.heads * config.head_dim) * keys;
  const StepFlops flops(config);
  EXPECT_DOUBLE_EQ(flops.of(data, std::vector<int64_t>{0}), first);
  TrainerOptions options;
  options.batch = {1, 1, 1, 7, 1};
  EXPECT_DOUBLE_EQ(flops.of(data, std::vector<int64_t>{1, 0, 1}), first + 2 * model_flops(config, options.batch));
}

}  // namespace
}  // namespace llama_tp
