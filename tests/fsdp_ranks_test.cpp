// Fully sharded data parallelism on every mesh of the ranks: against transformers, against itself, and in what it sends
// and holds; and what ranks with copies send.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "model/checkpoint.h"
#include "support/golden_model.h"

namespace llama_tp {
namespace {

// Those that share weights; a rank alone has nobody to share with and is the same program.
std::vector<MeshOptions> sharing_meshes() {
  std::vector<MeshOptions> all = all_meshes();
  if (ranks().size() > 1) std::erase_if(all, [](const MeshOptions& mesh) { return mesh.fsdp == 1; });
  return all;
}

constexpr FsdpOptions variants[] = {{true, true}, {false, true}, {true, false}, {false, false}};

class FsdpGolden : public testing::TestWithParam<const char*> {};

TEST_P(FsdpGolden, LossAndEveryGradientAreThoseOfTransformersOnEveryMesh) {
  for (const MeshOptions& mesh : sharing_meshes())
    for (const bool recompute : {false, true})
      for (const FsdpOptions& fsdp : variants) {
        GoldenModel model(GetParam(), DType::f32, "config.json", mesh);
        model.shape.sequence_ranks = recompute ? model.mesh->shape().tensor : 1;
        expect_golden_gradients(model, recompute, fsdp);
      }
}

INSTANTIATE_TEST_SUITE_P(Models, FsdpGolden, testing::Values("gqa", "kv_replicated", "mqa_tied", "biases"),
                         [](const auto& test) { return std::string(test.param); });

// Losses, norms and, in the end, this rank's weights.
std::vector<float> three_steps(const MeshOptions& mesh, bool recompute, const FsdpOptions& fsdp) {
  GoldenModel model("gqa", DType::bf16, "config.json", mesh);
  const auto trainer = model.trainer(recompute, 1, fsdp);
  std::vector<float> seen;
  for (int64_t step = 1; step <= 3; step++) {
    trainer->begin(model.rounds());
    for (int64_t round = 0; round < model.rounds(); round++)
      trainer->accumulate(model.batch_of_round(round), model.targets);
    const StepResult result = trainer->finish(model.targets);
    seen.push_back(static_cast<float>(result.loss));
    seen.push_back(static_cast<float>(result.gradient_norm));
    trainer->update({.learning_rate = 1e-3, .step = step});
    seen.push_back(static_cast<float>(trainer->evaluate(model.batch_of_round(0))));
  }
  return seen;
}

TEST(Fsdp, PrefetchReshardingAndRecomputeChangeNoBit) {
  for (const MeshOptions& mesh : sharing_meshes()) {
    const std::vector<float> first = three_steps(mesh, false, {});
    for (const bool recompute : {false, true})
      for (const FsdpOptions& fsdp : variants) EXPECT_EQ(three_steps(mesh, recompute, fsdp), first);
  }
}

// A micro-batch of L blocks: forward gathers embedding, blocks and head (tied: the embedding again), backward the
// blocks again where they were resharded; it scatters head, blocks, embedding. A step gathers and scatters the norms
// once, and sums the loss and the norm.
void expect_formula(const char* name, const FsdpOptions& fsdp) {
  GoldenModel model(name, DType::bf16, "config.json", {1, ranks().size(), 1});
  const auto trainer = model.trainer(false, 1, fsdp);
  trainer->begin(model.rounds());
  for (int64_t round = 0; round < model.rounds(); round++)
    trainer->accumulate(model.batch_of_round(round), model.targets);
  trainer->finish(model.targets);
  const Parameters& parameters = trainer->parameters();
  int64_t blocks = 0;
  for (int64_t layer = 0; layer < model.config.layers; layer++) blocks += parameters.block_unit(layer).elements;
  const int64_t ends = parameters.unit_of(trainer->parameters().embedding()).elements +
                       parameters.unit_of(trainer->parameters().head()).elements,
                norms = parameters.norm_unit().elements, again = fsdp.reshard_after_forward ? 2 : 1;
  const auto traffic = [&](Collective kind) { return model.mesh->groups().fsdp.traffic(kind); };
  const Traffic gathered = traffic(Collective::all_gather), scattered = traffic(Collective::reduce_scatter);
  EXPECT_EQ(gathered.calls, model.rounds() * (again * model.config.layers + 2) + 1);
  EXPECT_EQ(gathered.bytes, (model.rounds() * (again * blocks + ends) + norms) * size_of(DType::bf16));
  EXPECT_EQ(scattered.calls, model.rounds() * (model.config.layers + 2) + 1);
  EXPECT_EQ(scattered.bytes, (model.rounds() * (blocks + ends) + norms) * size_of(DType::f32));
  EXPECT_EQ(traffic(Collective::all_reduce).calls, 2);
}

TEST(Fsdp, SendsWhatTheFormulaSays) {
  if (ranks().size() == 1) return;  // a rank alone sends nothing: the communicator counts no calls of its own
  for (const char* name : {"gqa", "mqa_tied"})
    for (const FsdpOptions& fsdp : variants) expect_formula(name, fsdp);
}

// Of a step, once and in the last of its micro-batches: the head, unless it is tied, each block and the embedding in
// backward; then the norms and the loss.
void expect_sums_of_replicas(const char* name, const MeshOptions& mesh, const FsdpOptions& fsdp) {
  GoldenModel model(name, DType::bf16, "config.json", mesh);
  const auto trainer = model.trainer(false, 1, fsdp);
  const auto sums = [&] { return model.mesh->groups().replicas.traffic(Collective::all_reduce); };
  constexpr int64_t micro_batches = 3;
  trainer->begin(micro_batches);
  for (int64_t micro = 1; micro <= micro_batches; micro++) {
    EXPECT_EQ(sums().calls, 0);
    trainer->accumulate(model.batch_of_round(0), model.targets);
  }
  int64_t own = 0;
  for (const Unit& unit : trainer->parameters().units()) own += unit.shard_elements() * size_of(DType::f32);
  EXPECT_EQ(sums().calls, model.config.layers + (model.config.tied ? 1 : 2));
  EXPECT_EQ(sums().bytes, own - trainer->parameters().norm_unit().shard_elements() * size_of(DType::f32));
  trainer->finish(model.targets);
  EXPECT_EQ(sums().calls, model.config.layers + (model.config.tied ? 3 : 4));
  EXPECT_EQ(sums().bytes, own + size_of(DType::f64));
}

TEST(DataParallel, SumsEachUnitOnceAStepAsSoonAsBackwardHasIt) {
  const int size = ranks().size();
  if (size == 1) return;  // it sends nothing
  for (const char* name : {"gqa", "mqa_tied"}) {
    expect_sums_of_replicas(name, {size, 1, 1}, {});
    if (size > 2)
      for (const FsdpOptions& fsdp : variants) expect_sums_of_replicas(name, {size / 2, 2, 1}, fsdp);
  }
}

// The most that backward holds, in bytes.
int64_t most_in_backward(const FsdpOptions& fsdp) {
  GoldenModel model("gqa", DType::bf16, "config.json", {1, ranks().size(), 1});
  const auto trainer = model.trainer(false, 1, fsdp);
  trainer->begin();
  trainer->accumulate(model.batch_of_round(0), model.targets);
  return model.runtime->ledger.peak_of(Phase::backward);
}

// One gathered block and its gradients; a second one of both, and a part of gradients under way, with prefetch; all blocks
// where none is dropped.
TEST(Fsdp, HoldsAsManyBlocksAsTheOptionsSay) {
  if (ranks().size() == 1) return;
  GoldenModel model("gqa", DType::bf16, "config.json", {1, ranks().size(), 1});
  const int64_t block = model.trainer()->parameters().block_unit(0).elements, weights = block * size_of(DType::bf16),
                gradients = block * size_of(DType::f32);
  const int64_t one = most_in_backward({false, true}), under_way = gradients + gradients / ranks().size();
  EXPECT_EQ(most_in_backward({true, true}), one + weights + under_way);
  for (const bool prefetch : {false, true})
    EXPECT_EQ(most_in_backward({prefetch, false}),
              one + (model.config.layers - 1) * weights + (prefetch ? under_way : 0));
}

TEST(Fsdp, AnEvaluationTakesWeightsAndNoGradients) {
  if (ranks().size() == 1) return;
  GoldenModel model("gqa", DType::bf16, "config.json", {1, ranks().size(), 1});
  const auto trainer = model.trainer();
  std::vector<LedgerEntry> log;
  model.runtime->ledger.log_to(&log);
  trainer->evaluate(model.batch_of_round(0));
  model.runtime->ledger.log_to(nullptr);
  const auto takes = [&](Category category) {
    return std::ranges::any_of(log,
                               [&](const LedgerEntry& entry) { return entry.category == category && entry.bytes > 0; });
  };
  EXPECT_TRUE(takes(Category::gathered_parameters));
  EXPECT_FALSE(takes(Category::unsharded_gradients));
}

}  // namespace
}  // namespace llama_tp
