// What must agree over the ranks, and that a disagreement is found and named: each test alters one rank's side.
#include <gtest/gtest.h>

#include "model/checkpoint.h"
#include "scratch_folder.h"
#include "support/error_of.h"
#include "support/golden_model.h"
#include "train/replica_check.h"

namespace llama_tp {
namespace {

constexpr int altered_rank = 1;  // the rank that is altered

TEST(Shapes, OfTheMeshMustBeTheSame) {
  const auto backend = make_backend("cpu", ranks().place());
  const int size = ranks().size();
  const auto mesh_of = [&](bool other) { Mesh(ranks(), other ? MeshShape{size} : MeshShape{1, 1, size}, 1, *backend); };
  mesh_of(false);
  if (size == 1) return;
  EXPECT_EQ(
      error_of([&] { mesh_of(ranks().rank() == altered_rank); }),
      text("rank 1 on ", ranks().host(), " has a mesh of ", size, " × 1 × 1 (data × fsdp × tensor), but rank 0 on ",
           ranks().host(), " one of 1 × 1 × ", size, "; give all ranks the same options and the same model"));
}

// A step's batches of a run on this mesh: three samples a forward, two forwards, of a dataset in which some samples are
// alike and one has no target.
struct Step {
  explicit Step(const GoldenModel& model) : mesh(*model.mesh) {
    for (int32_t sample = 0; sample < 40; sample++) {
      for (int32_t i = 0; i < 5 + sample % 3; i++) {
        data.tokens.own().push_back(sample < 36 ? 7 * sample + i : i);
        data.labels.own().push_back(sample == 3 ? ignored_label : data.tokens.own().back());
      }
      data.starts.own().push_back(static_cast<int64_t>(data.tokens.size()));
    }
    shape = {3, 2, mesh.shape().data_ranks(), 7, mesh.shape().tensor};
    batches = std::make_unique<EpochBatches>(data, shape, 1);
    samples = batches->global(1);
    for (int64_t micro = 0; micro < shape.accumulation; micro++)
      given.push_back(batches->local(samples, micro, mesh.data_rank()));
  }

  void check(const std::function<void(HostBatch&)>& alter = [](HostBatch&) {}) const {
    SeenBatches seen;
    for (const std::vector<int64_t>& some : given) {
      HostBatch batch;
      fill_batch(data, some, shape, batch);
      alter(batch);
      seen.add(batch);
    }
    check_batches(5, seen, data, samples, mesh);
  }

  const Mesh& mesh;
  Dataset data;
  BatchShape shape;
  std::unique_ptr<EpochBatches> batches;
  std::vector<int64_t> samples;
  std::vector<std::vector<int64_t>> given;  // of each forward
};

TEST(Batches, OfEveryMeshAgree) {
  for (const MeshOptions& mesh : all_meshes()) Step(GoldenModel("gqa", DType::f32, "config.json", mesh)).check();
}

TEST(Batches, OfTensorParallelRanksMustBeTheSame) {
  if (ranks().size() == 1) return;  // nobody to differ from
  const GoldenModel model("gqa", DType::f32);
  const auto altered = [&](std::vector<int32_t> HostBatch::*list) {
    return error_of([&] {
      Step(model).check([&](HostBatch& batch) {
        if (ranks().rank() == altered_rank) (batch.*list)[1]++;
      });
    });
  };
  const std::string begin = "step 5: ranks 0 and 1 are tensor-parallel ranks of one batch, but the ";
  EXPECT_TRUE(altered(&HostBatch::ids).starts_with(begin + "ids of"));
  EXPECT_TRUE(altered(&HostBatch::targets).starts_with(begin + "targets of"));
  EXPECT_TRUE(altered(&HostBatch::positions).starts_with(begin + "positions of"));
}

TEST(Batches, OfDataRanksMustBeDifferentSamplesOfTheGlobalBatch) {
  if (ranks().size() == 1) return;
  for (const MeshOptions& mesh : {MeshOptions{ranks().size(), 1, 1}, MeshOptions{1, ranks().size(), 1}}) {
    const GoldenModel model("gqa", DType::f32, "config.json", mesh);
    Step same(model);  // the samples of rank 0, in place of its own
    const int64_t lost = same.batches->local(same.samples, 0, altered_rank).front();
    for (size_t micro = 0; ranks().rank() == altered_rank && micro < same.given.size(); micro++)
      same.given[micro] = same.batches->local(same.samples, static_cast<int64_t>(micro), 0);
    EXPECT_TRUE(holds(error_of([&] { same.check(); }), text("step 5: sample ", lost, " of the global batch is in no")));
    Step more(model);  // a sample of the next step besides
    if (ranks().rank() == altered_rank) more.given[1] = {more.batches->global(2).front()};
    if (ranks().rank() == altered_rank) more.given[0].push_back(more.given[1].front());
    EXPECT_TRUE(holds(error_of([&] { more.check(); }), "step 5: ", " of the global batch is in no rank's batch"));
  }
}

// A few steps, after which rank `altered_rank` adds one bit to an element of its own.
std::string error_after_tampering(const MeshOptions& mesh, const std::string& name, Tensor Unit::*part) {
  GoldenModel model("kv_replicated", DType::bf16, "config.json", mesh);
  const auto trainer = model.trainer();
  for (int64_t step = 1; step <= 2; step++) {
    trainer->begin();
    trainer->accumulate(model.batch_of_round(0), model.targets);
    trainer->finish(model.targets);
    trainer->update({.learning_rate = 1e-2, .step = step});
  }
  const Parameters& parameters = trainer->parameters();
  check_replicas(8, parameters, *model.backend, *model.mesh);
  for (const Parameter& row : parameters.rows())
    if (row.name == name && ranks().rank() == altered_rank && parameters.piece(row).count > 0)
      *parameters.piece(row).of(parameters.unit_of(row).*part).as<uint8_t>() ^= 1;
  return error_of([&] { check_replicas(9, parameters, *model.backend, *model.mesh); });
}

TEST(Replicas, AreTheSameBitsOnEveryMesh) {
  for (const MeshOptions& mesh : all_meshes()) {
    GoldenModel model("kv_replicated", DType::bf16, "config.json", mesh);
    model.shape.sequence_ranks = model.mesh->shape().tensor;
    const auto trainer = model.trainer();
    for (int64_t step = 1; step <= 3; step++) {
      trainer->begin();
      trainer->accumulate(model.batch_of_round(0), model.targets);
      trainer->finish(model.targets);
      trainer->update({.learning_rate = 1e-2, .step = step});
      check_replicas(step, trainer->parameters(), *model.backend, *model.mesh);
    }
  }
}

TEST(Replicas, ThatDifferInOneBitAreNamed) {
  if (ranks().size() == 1) return;
  const int all = ranks().size();
  const std::string ends = ": ranks 0 and 1 hold the same elements of its ";
  const std::string norm = "model.norm.weight", key = "model.layers.1.self_attn.k_proj.weight",
                    down = "model.layers.0.mlp.down_proj.weight";
  EXPECT_TRUE(holds(error_after_tampering({1, 1, all}, norm, &Unit::value), "step 9: " + norm + ends + "weight,"));
  EXPECT_TRUE(holds(error_after_tampering({1, 1, all}, norm, &Unit::m), norm + ends + "first moment,"));
  EXPECT_TRUE(holds(error_after_tampering({all, 1, 1}, down, &Unit::v), down + ends + "second moment,"));
  if (all % 4 == 0) {  // key/value heads that two ranks share
    EXPECT_TRUE(holds(error_after_tampering({1, 1, all}, key, &Unit::rest), key + ends + "rest of the master weight,"));
    EXPECT_TRUE(holds(error_after_tampering({2, all / 4, 2}, norm, &Unit::value), norm + ends + "weight,"));
  }
}

}  // namespace
}  // namespace llama_tp
