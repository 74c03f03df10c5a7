// The whole program's path on a device whose memory the host cannot touch: training on every kind of mesh, evaluation
// and generation with the CUDA backend's kernels, emulated (emulation/device_memory.h). Code between a command and the
// kernels that reads or writes a tensor from the host ends here in a segmentation fault, and what reads a step's memory
// before it was written in NaN; collectives are as late as they may be (late_communicator.h). The results must be those of
// transformers, within the same tolerances as on the CPU.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "emulation/device_memory.h"
#include "emulation/emulated_backend.h"
#include "generate/generator.h"
#include "io/files.h"
#include "late_communicator.h"
#include "model/checkpoint.h"
#include "model/placement.h"
#include "model/plan.h"
#include "parallel/local_communicator.h"
#include "scratch_folder.h"
#include "support/error_of.h"
#include "support/golden_model.h"
#include "train/training_plan.h"

namespace llama_tp {
namespace {

// What a step finds in its memory is whatever was there before: here NaN in every type, and −1 in i32.
void poison(Runtime& runtime) {
  for (Arena* arena : {&runtime.step, &runtime.cache}) {
    if (arena->reserved() == 0) continue;
    Frame frame(*arena);
    const std::vector<uint8_t> bytes(static_cast<size_t>(arena->reserved()), 0xff);
    runtime.backend.upload(bytes.data(), frame.take(Category::data, {arena->reserved()}, DType::u8));
  }
}

struct DeviceModel : GoldenModel {
  DeviceModel(const std::string& name, DType dtype, const MeshOptions& mesh_options)
      : GoldenModel(name, dtype, "config.json", mesh_options),
        tensor(mesh->groups().tensor, backend),
        kv_replicas(mesh->groups().kv_replicas, backend),
        fsdp(mesh->groups().fsdp, backend),
        replicas(mesh->groups().replicas, backend) {
    runtime.reset();
    backend = std::make_unique<EmulatedBackend>();
    runtime = std::make_unique<Runtime>(*backend, MeshGroups{tensor, kv_replicas, fsdp, replicas}, dtype);
  }
  ~DeviceModel() override { runtime.reset(); }

  void reserve(const MemoryPlan& memory) override {
    GoldenModel::reserve(memory);
    poison(*runtime);
  }

  LateCommunicator tensor, kv_replicas, fsdp, replicas;
};

// Every mesh of the ranks that the model's sizes allow.
std::vector<MeshOptions> meshes(const std::string& name) {
  const ModelConfig config = read_model_config("tests/goldens/models/" + name + "/config.json");
  std::vector<MeshOptions> all = all_meshes();
  std::erase_if(all, [&](const MeshOptions& mesh) {
    const int tensor = static_cast<int>(*mesh.tensor);
    return largest_tensor_parallel(config, tensor) != tensor;
  });
  return all;
}

// A Llama with grouped queries that the ranks divide.
std::string a_model() { return divided({"gqa", "gqa_3", "gqa_8"}).front(); }

TEST(DeviceMemory, TheHostCannotUseIt) {
  const auto touch = [] {
    EmulatedBackend backend;
    *static_cast<volatile char*>(backend.reserve(1)) = 1;
  };
  if (ranks().size() > 1) return;  // a process of MPI must not be copied
  EXPECT_DEATH(touch(), "");
}

class DeviceMemoryGolden : public testing::TestWithParam<const char*> {};

TEST_P(DeviceMemoryGolden, LossAndEveryGradientAreThoseOfTransformersOnEveryMesh) {
  for (const MeshOptions& mesh : meshes(GetParam()))
    for (const bool recompute : {false, true}) {
      DeviceModel model(GetParam(), DType::f32, mesh);
      model.shape.sequence_ranks = recompute ? model.mesh->shape().tensor : 1;
      expect_golden_gradients(model, recompute, {});
    }
}

TEST(DeviceMemory, ARegionThatIsNotSplitKeepsItsOwnTokensOfEachPart) {
  DeviceModel model(a_model(), DType::f32, {1, 1, ranks().size()});
  model.config.plan.layers[0].attention = model.config.plan.layers[1].mlp = false;
  model.config.plan.embedding = model.config.plan.head = false;
  model.shape.sequence_ranks = ranks().size();
  expect_golden_gradients(model, false, {});
}

void take_a_step(DeviceModel& model, bool recompute) {
  const auto trainer = model.trainer(recompute);
  trainer->begin(model.rounds());
  for (int64_t round = 0; round < model.rounds(); round++)
    trainer->accumulate(model.batch_of_round(round), model.targets);
  trainer->finish(model.targets);
}

// A block enters and leaves its regions twice, in parts of the tokens: all but one of them are gathered beside the product
// of the part before, or summed beside that of the one behind; in backward likewise where the regions' outputs had left. Of
// both column-parallel products in backward all of what they multiplied is gathered while one product goes on, and all of
// its gradient summed while the other does. So do FSDP's blocks come and their gradients leave, but for the first
// that comes in either direction and the last that leaves. In the last micro-batch replicas sum the head's gradient and
// each block's beside the products of the blocks below.
TEST(DeviceMemory, CollectivesRunBesideProducts) {
  const int size = ranks().size();
  if (size == 1) return;  // it sends nothing
  for (const bool sequence : {false, true}) {
    DeviceModel model(a_model(), DType::f32, {1, 1, size});
    model.shape.sequence_ranks = sequence ? size : 1;
    take_a_step(model, false);
    const int64_t twice_a_block = 2 * model.config.layers * model.rounds();
    constexpr int64_t all = EmulatedBackend::token_parts_here, all_but_one_part = all - 1;
    EXPECT_EQ(model.tensor.beside_products(Collective::all_gather),
              sequence ? twice_a_block * (all + 2 * all_but_one_part) : 0);
    EXPECT_EQ(model.tensor.beside_products(Collective::reduce_scatter),
              sequence ? twice_a_block * (all + all_but_one_part) : 0);
    EXPECT_EQ(model.tensor.beside_products(Collective::all_reduce),
              sequence ? 0 : twice_a_block * (1 + all_but_one_part));
  }
  DeviceModel model(a_model(), DType::f32, {1, size, 1});
  take_a_step(model, false);
  const int64_t all_but_one = (model.config.layers - 1) * model.rounds();
  EXPECT_EQ(model.fsdp.beside_products(Collective::all_gather), 2 * all_but_one);
  EXPECT_EQ(model.fsdp.beside_products(Collective::reduce_scatter), all_but_one);
  DeviceModel copies(a_model(), DType::f32, {size, 1, 1});
  take_a_step(copies, false);
  EXPECT_EQ(copies.replicas.beside_products(Collective::all_reduce), copies.config.layers);
}

// In f32 within the tolerance of the CPU; in bf16 no worse than 1.5 times transformers' own bf16 run (tests of the
// model say why).
double logits_error(DeviceModel& model) {
  const auto evaluator = model.evaluator();
  std::vector<float> logits;
  evaluator->logits(model.batch(0), static_cast<int64_t>(model.data.sample(0).tokens.size()),
                    [&](int64_t, std::span<const float> row) { logits.insert(logits.end(), row.begin(), row.end()); });
  EXPECT_GT(evaluator->loss(model.batch(0)), 0);
  const Difference off = difference(logits, model.golden("logits.0"));
  return off.error / off.magnitude;
}

TEST_P(DeviceMemoryGolden, LogitsAreThoseOfTransformersOnEveryMesh) {
  for (const MeshOptions& mesh : meshes(GetParam())) {
    DeviceModel model(GetParam(), DType::f32, mesh);
    EXPECT_LT(logits_error(model), logits_tolerance);
  }
}

TEST(DeviceMemory, LogitsInBf16ErrNoMoreThanTransformersInBf16) {
  for (const std::string& name : divided({"gqa_bf16", "qwen3_bf16"})) {
    DeviceModel model(name, DType::bf16, {1, {}, {}});
    const nlohmann::json about = nlohmann::json::parse(read_text(model.folder + "/about.json"));
    EXPECT_LT(logits_error(model), 1.5 * about["error_of_transformers"]["bfloat16"]["logits"].get<double>());
  }
}

// `bench --rehearse`: all that a collective of the mesh would write is written by its stand-in, or gradients were NaN.
TEST(DeviceMemory, ARankThatRehearsesAMeshAloneReadsNothingUnwritten) {
  if (ranks().size() > 1) return;  // it is one process
  const ModelConfig config = read_model_config("tests/goldens/models/gqa/config.json");
  for (const MeshShape& shape : {MeshShape{1, 1, 2}, MeshShape{1, 2, 1}, MeshShape{2, 2, 2}}) {
    EmulatedBackend backend;
    const Mesh mesh(shape, shape.ranks() - 1, static_cast<int>(kv_replicas(config, shape.tensor)), backend);
    Runtime runtime(backend, mesh.groups(), DType::bf16);
    const TrainerOptions options{{1, 1, shape.data_ranks(), 23, shape.tensor}, false, false, {}};
    const RankPlan own = plan_rank(config, options, shape, mesh.rank(), DType::bf16, backend);
    runtime.reserve(own.memory);
    poison(runtime);
    Trainer trainer(config, options, runtime);
    initialize_weights(config, 1, trainer.parameters(), backend);
    Dataset data;
    for (int32_t i = 0; i < 23; i++) data.tokens.own().push_back(i * 7 % static_cast<int32_t>(config.vocabulary));
    data.starts.own().push_back(23);
    HostBatch batch;
    fill_batch(data, {0}, options.batch, batch);
    for (int64_t step = 1; step <= 2; step++) {
      trainer.begin();
      trainer.accumulate(batch, 22);
      const StepResult result = trainer.finish(22);
      // A target in another rank's part of the vocabulary has a loss without bound here.
      EXPECT_FALSE(std::isnan(result.loss)) << "step " << step;
      EXPECT_TRUE(std::isfinite(result.gradient_norm) && result.gradient_norm > 0) << "step " << step;
      trainer.update({.learning_rate = 1e-3, .step = step, .max_grad_norm = 1});
    }
    EXPECT_EQ(runtime.ledger.peak(), own.ledger.peak());
  }
}

// The first of the fifty steps that the CPU's test follows torch through, with its tolerances.
TEST(DeviceMemory, StepsFollowTorch) {
  if (ranks().size() > 1) return;  // the golden's sizes are for few ranks, and one is enough for the optimizer
  DeviceModel model("training", DType::f32, {});
  const nlohmann::json golden = nlohmann::json::parse(read_text(model.folder + "/training.json")),
                       options = golden["options"];
  const auto trainer = model.trainer(false, options["per_device_train_batch_size"].get<int64_t>());
  for (int64_t step = 1; step <= 4; step++) {
    const auto at = static_cast<size_t>(step - 1);
    int64_t targets = 0;
    for (const nlohmann::json& micro : golden["micro_batches"][at])
      targets += count_targets(model.data, micro.get<std::vector<int64_t>>());
    trainer->begin(static_cast<int64_t>(golden["micro_batches"][at].size()));
    HostBatch batch;
    for (const nlohmann::json& micro : golden["micro_batches"][at]) {
      fill_batch(model.data, micro.get<std::vector<int64_t>>(), model.shape, batch);
      trainer->accumulate(batch, targets);
    }
    const StepResult result = trainer->finish(targets);
    const double loss = golden["loss"][at].get<double>(), norm = golden["grad_norm"][at].get<double>();
    EXPECT_NEAR(result.loss, loss, 1e-4 * loss) << "step " << step;
    EXPECT_NEAR(result.gradient_norm, norm, 1e-3 * norm) << "step " << step;
    EXPECT_EQ(trainer->blame_forward(batch) + trainer->blame_gradient(), "");  // all that they download is finite
    trainer->update({golden["learning_rate"][at].get<double>(), options["adam_beta1"], options["adam_beta2"],
                     options["adam_epsilon"], options["weight_decay"], step, options["max_grad_norm"]});
  }
}

// Both devices round the same values to bf16 in the same places, but sum in other orders, so some roundings fall the
// other way: a relative error of 2⁻⁸ in single values, and less in sums over many.
TEST(DeviceMemory, LossAndGradientNormInBf16AreThoseOfTheCpu) {
  const auto step = [](GoldenModel& model) {
    const auto trainer = model.trainer();
    trainer->begin(model.rounds());
    for (int64_t round = 0; round < model.rounds(); round++)
      trainer->accumulate(model.batch_of_round(round), model.targets);
    return trainer->finish(model.targets);
  };
  GoldenModel on_cpu(a_model(), DType::bf16);
  DeviceModel on_device(a_model(), DType::bf16, {1, 1, {}});
  const StepResult expected = step(on_cpu), got = step(on_device);
  EXPECT_NEAR(got.loss, expected.loss, 0x1p-8 * expected.loss);
  EXPECT_NEAR(got.gradient_norm, expected.gradient_norm, 0x1p-8 * expected.gradient_norm);
}

TEST(DeviceMemory, GreedyTokensAreThoseOfTransformers) {
  const nlohmann::json golden =
      nlohmann::json::parse(read_text("tests/goldens/models/" + a_model() + "/generation.json"));
  const auto prompt = golden[0]["prompt"].get<std::vector<int32_t>>(),
             expected = golden[0]["continuation"].get<std::vector<int32_t>>();
  DeviceModel model(a_model(), DType::f32, {1, 1, {}});
  EXPECT_EQ(model.greedy_tokens(prompt, expected.size()), expected);
}

// The scratch memory of attention grows with the past: that of the last token that fits is in the plan, too. And though
// there are more chunks of keys where these are 16 than a little later, where they are 32, the plan is enough for those.
TEST(DeviceMemory, APlanOfGenerationHasRoomForAnyPast) {
  if (ranks().size() > 1) return;
  const ScratchFolder folder;
  write_text(folder / "config.json", R"({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1,
      "num_attention_heads": 32, "head_dim": 16, "intermediate_size": 8, "vocab_size": 16})");
  const ModelConfig config = read_model_config(folder / "config.json");
  constexpr int64_t context = 1100;
  EmulatedBackend backend;
  LoneGroups lone;
  Runtime runtime(backend, lone, DType::f32);
  runtime.reserve(plan_generation(config, context, {{1}}, backend, runtime));
  Generator generator(config, context, runtime);
  const std::vector<int32_t> token{1};
  generator.feed(token);
  for (const int64_t length : {int64_t{1024}, context}) {
    generator.assume_length(0, length - 1);
    EXPECT_NO_THROW(generator.feed(token));
  }
}

// A device of this name among those of its host, of which it has two.
struct NamedBackend : EmulatedBackend {
  explicit NamedBackend(const std::string& identity) { handle.identity = identity, handle.devices = 2; }
  DeviceHandle* device() override { return handle.identity.empty() ? nullptr : &handle; }
  DeviceHandle handle;
};

std::string refusal_of_mesh(const std::string& identity) {
  NamedBackend backend(identity);
  return error_of([&] { const Mesh mesh(ranks(), {1, 1, ranks().size()}, 1, backend); });
}

TEST(Devices, EachRankOfAMeshHasOneOfItsOwnAndAllOfOneKind) {
  if (ranks().size() == 1) {
    NamedBackend backend("the only one");
    EXPECT_NO_THROW(const Mesh mesh(ranks(), {1, 1, 1}, 1, backend));
    return;
  }
  const std::string both_on_one = refusal_of_mesh("the only one");
  EXPECT_NE(both_on_one.find(ranks().host() + " has 2 CUDA devices for its " + std::to_string(ranks().size()) +
                             " ranks: ranks 0 and 1 meet on one"),
            std::string::npos)
      << both_on_one;
  const std::string mixed = refusal_of_mesh(ranks().rank() == 1 ? "one" : "");
  EXPECT_NE(mixed.find("rank 1 on " + ranks().host() + " computes on a CUDA device, but rank 0"), std::string::npos)
      << mixed;
}

// Several ranks add collectives to what one does: one model of few sizes shows them all.
std::vector<const char*> models() {
  if (ranks().size() > 1) return {"mqa_tied"};
  return {"gqa", "mqa_tied", "biases", "qwen3", "nemotron", "granite"};
}
INSTANTIATE_TEST_SUITE_P(Models, DeviceMemoryGolden, testing::ValuesIn(models()),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace llama_tp
