#include "support/golden_model.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "generate/generator.h"
#include "model/checkpoint.h"
#include "model/plan.h"
#include "model/write_parameters.h"

namespace llama_tp {

GoldenModel::GoldenModel(const std::string& name, DType dtype, const std::string& config_name)
    : GoldenModel(name, dtype, config_name, {1, 1, ranks().size()}) {}

GoldenModel::GoldenModel(const std::string& name, DType dtype, const std::string& config_name,
                         const MeshOptions& mesh_options)
    : folder("tests/goldens/models/" + name), config(read_model_config(folder + "/" + config_name)) {
  backend = make_backend("cpu", ranks().place());
  mesh = make_mesh(ranks(), config, mesh_options, *backend);
  runtime = std::make_unique<Runtime>(*backend, mesh->groups(), dtype);
  data = read_dataset(folder + "/input.jsonl", {1024, config.vocabulary, {}, {}});
  shape = {1, 1, mesh->shape().data_ranks(), data.longest_sample()};
  for (int64_t i = 0; i < data.samples(); i++) targets += count_targets(data.sample(i));
}

HostBatch GoldenModel::batch(int64_t sample) const {
  HostBatch out;
  fill_batch(data, {sample}, shape, out);
  return out;
}

int64_t GoldenModel::rounds() const { return (data.samples() + shape.data_ranks - 1) / shape.data_ranks; }

HostBatch GoldenModel::batch_of_round(int64_t round) const {
  const int64_t sample = round * shape.data_ranks + mesh->data_rank();
  HostBatch out;
  fill_batch(data, sample < data.samples() ? std::vector<int64_t>{sample} : std::vector<int64_t>{}, shape, out);
  return out;
}

std::vector<float> GoldenModel::golden(const std::string& tensor) const {
  const SafetensorsFile file(folder + "/golden.safetensors");
  const StoredTensor* stored = file.find(tensor);
  require(stored != nullptr, folder, ": no golden ", tensor);
  const Region all = whole(*stored);
  std::vector<float> values(static_cast<size_t>(all.rows() * all.columns()));
  file.read(*stored, all, DType::f32, values.data());
  return values;
}

std::unique_ptr<Trainer> GoldenModel::trainer(bool recompute, int64_t micro_batch, const FsdpOptions& fsdp) {
  shape.micro_batch = micro_batch;
  const TrainerOptions options{shape, recompute, true, fsdp};
  reserve(plan_training(config, options, *backend, *runtime));
  auto made = std::make_unique<Trainer>(config, options, *runtime);
  load_weights(ModelFiles(folder), config, made->parameters(), *backend);
  return made;
}

std::unique_ptr<Evaluator> GoldenModel::evaluator() {
  reserve(plan_evaluation(config, shape, true, *backend, *runtime));
  auto made = std::make_unique<Evaluator>(config, shape, *runtime);
  load_weights(ModelFiles(folder), config, made->parameters(), *backend);
  return made;
}

std::vector<int32_t> GoldenModel::greedy_tokens(const std::vector<int32_t>& prompt, size_t count) {
  const auto context = static_cast<int64_t>(prompt.size() + count);
  reserve(plan_generation(config, context, {{static_cast<int64_t>(prompt.size())}}, *backend, *runtime));
  Generator generator(config, context, *runtime, 1, {.options = {.temperature = 0}});
  load_weights(ModelFiles(folder), config, generator.parameters(), *backend);
  generator.feed(prompt);
  std::vector<int32_t> tokens;
  while (tokens.size() < count) {
    tokens.push_back(generator.choice().id);
    generator.feed({&tokens.back(), 1});
  }
  return tokens;
}

std::vector<std::pair<std::string, std::vector<float>>> GoldenModel::gradients(Trainer& trainer) {
  const std::string scratch = mesh->world().broadcast(
      (std::filesystem::temp_directory_path() / ("llama_tp_gradients." + std::to_string(getpid()))).string(), 0);
  std::filesystem::create_directories(scratch);
  SavePlan files;
  files.files.push_back(plan_file("gradients.safetensors", planned_tensors(trainer.parameters(), DType::f32)));
  if (mesh->copy_index() == 0)
    write_parameters(trainer.parameters(), &Unit::gradient, DType::f32, files, scratch, *backend, mesh->copy_host(),
                     {0});
  std::vector<std::pair<std::string, std::vector<float>>> all;
  mesh->world().barrier();
  if (ranks().rank() > 0) return all;
  const SafetensorsFile file(scratch + "/gradients.safetensors");
  for (const StoredTensor& tensor : file.tensors()) {
    const Region region = whole(tensor);
    std::vector<float> values(static_cast<size_t>(region.rows() * region.columns()));
    file.read(tensor, region, DType::f32, values.data());
    all.emplace_back(tensor.name, std::move(values));
  }
  std::filesystem::remove_all(scratch);
  return all;
}

std::vector<MeshOptions> all_meshes() {
  const int size = ranks().size();
  std::vector<MeshOptions> all;
  for (int fsdp = 1; fsdp <= size; fsdp++)
    for (int tensor = 1; tensor <= size / fsdp; tensor++)
      if (size % (fsdp * tensor) == 0) all.push_back({size / (fsdp * tensor), fsdp, tensor});
  return all;
}

std::vector<std::string> divided(const std::vector<std::string>& names) {
  std::vector<std::string> fitting;
  for (const std::string& name : names) {
    const ModelConfig config = read_model_config("tests/goldens/models/" + name + "/config.json");
    if (largest_tensor_parallel(config, ranks().size()) == ranks().size()) fitting.push_back(name);
  }
  return fitting;
}

Difference difference(const std::vector<float>& a, const std::vector<float>& b) {
  Difference worst;
  if (a.size() != b.size()) return {INFINITY, 0};
  for (size_t i = 0; i < a.size(); i++) {
    const double error = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    worst.error = std::isnan(error) ? INFINITY : std::max(worst.error, error);
    worst.magnitude = std::max(worst.magnitude, std::fabs(static_cast<double>(b[i])));
  }
  return worst;
}

void expect_golden_gradients(GoldenModel& model, bool recompute, const FsdpOptions& fsdp) {
  const MeshShape& mesh = model.mesh->shape();
  SCOPED_TRACE(text(model.folder, " on ", mesh.data, " × ", mesh.fsdp, " × ", mesh.tensor,
                    recompute ? " with recompute" : "", model.shape.sequence_ranks > 1 ? " by tokens" : "", ", ",
                    model.shape.tokens(), " tokens"));
  const auto trainer = model.trainer(recompute, 1, fsdp);
  trainer->begin(model.rounds());
  for (int64_t round = 0; round < model.rounds(); round++)
    trainer->accumulate(model.batch_of_round(round), model.targets);
  const StepResult result = trainer->finish(model.targets);
  const double golden_loss = static_cast<double>(model.golden("loss")[0]);
  EXPECT_NEAR(result.loss, golden_loss, logits_tolerance * golden_loss);
  double squares = 0;
  for (const auto& [name, values] : model.gradients(*trainer)) {
    const Difference off = difference(values, model.golden("grad." + name));
    EXPECT_LE(off.error, gradient_tolerance * off.magnitude) << name;
    for (const float value : values) squares += static_cast<double>(value) * static_cast<double>(value);
  }
  if (ranks().rank() == 0) {
    EXPECT_NEAR(result.gradient_norm, std::sqrt(squares), 1e-6 * std::sqrt(squares));
  }
}

}  // namespace llama_tp
