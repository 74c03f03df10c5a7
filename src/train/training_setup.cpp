#include "train/training_setup.h"

#include <algorithm>
#include <cmath>

#include "backend/device.h"
#include "io/chat/chat_template.h"
#include "model/placement.h"
#include "model/same_model.h"
#include "parallel/mpi_host_group.h"
#include "parallel/rank_names.h"
#include "train/shared_folder.h"

namespace llama_tp {

namespace {

// Only rank 0 looks into the output folder, which it may have to clean first, for as long as files are large.
std::unique_ptr<OutputFolder> open_output(const std::string& path, const Launch& launch) {
  launch.begin(Activity::reading_data);
  return launch.rank() == 0 ? std::make_unique<OutputFolder>(path) : nullptr;
}

// Rank 0's: the one that a run keeps is in its output folder, which other hosts may not see.
FamilyPointer family_of_all(const TrainingSettings& settings, const Launch& launch) {
  FamilyPointer found = launch.rank() == 0 ? find_family(settings) : nullptr;
  if (launch.size() == 1) return found;
  const std::string text = make_host_group(launch)->broadcast(found == nullptr ? "" : found->text, 0);
  return text.empty() ? nullptr : parse_family(text, "the family that rank 0 found");
}

std::string checkpoint_to_resume(const TrainingSettings& settings, const OutputFolder* output, HostGroup& world,
                                 const Launch& launch) {
  std::string found = world.broadcast(output != nullptr ? find_checkpoint_to_resume(settings, *output) : "", 0);
  require(
      found.empty() || folder_exists(found), found, ": is not there, but rank 0 on ", launch.host_of(0),
      " goes on from it; copy the whole folder to this place on every host, or take an --output-dir on a file system "
      "that all hosts share");
  return found;
}

// Of a run that goes on the date is that of its beginning: with another one its conversations would have other tokens.
// Checkpoints of earlier versions do not know it.
std::string date_of_run(const std::string& checkpoint) {
  const std::string saved = checkpoint.empty() ? "" : saved_date(checkpoint);
  return saved.empty() ? today() : saved;
}

// Sets the date and the chat template among the settings: the one asked for, else that of the run that goes on, else
// that of the model's own training.
TrainingData read_data(TrainingSettings& settings, const std::string& checkpoint, const ModelConfig& config,
                       const TrainingSource& source, const Mesh& mesh) {
  settings.data.date = mesh.world().broadcast(date_of_run(checkpoint), 0);
  const ChatTemplateChoice of_run =
      checkpoint.empty() ? ChatTemplateChoice() : kept_chat_template(checkpoint + "/config.json");
  settings.data.chat_template = settings.data.chat_template.or_else(of_run).or_else(config.chat_template);
  return {settings, config, source.tokenizer, mesh.world()};
}

// Where config_text keeps the names of classes for transformers, their code comes along.
std::vector<CarriedFile> files_of_checkpoints(const TrainingSource& source, const ModelConfig& config,
                                              const std::string& config_text) {
  std::vector<CarriedFile> files = read_carried_files(source.tokenizer, source.folder);
  if (config.names_code && !config.family->text.empty())
    for (CarriedFile& file : read_code_files(config.source)) files.push_back(std::move(file));
  files.push_back({"config.json", config_text});
  return files;
}

// "" where all share the folder.
std::string name_others(const std::vector<int>& sharing, const Launch& launch) {
  std::vector<int> others;
  for (int rank = 0; rank < launch.size(); rank++)
    if (!std::ranges::binary_search(sharing, rank)) others.push_back(rank);
  return others.empty() ? "" : name_ranks(others, launch.hosts());
}

// Of those that share the folder, the ranks that hold the first copy of the weights.
std::vector<int> writers(const std::vector<int>& sharing, const MeshShape& mesh) {
  std::vector<int> ranks = sharing;
  std::erase_if(ranks, [&](int rank) { return rank >= mesh.fsdp * mesh.tensor; });
  return ranks;
}

int64_t steps_of(const TrainingSettings& settings, int64_t steps_per_epoch) {
  if (settings.max_steps > 0) return settings.max_steps;
  const double steps = settings.epochs * static_cast<double>(steps_per_epoch);
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(steps - 1e-9)));
}

}  // namespace

TrainingSetup::TrainingSetup(TrainingSettings asked_for, const Launch& launch)
    : settings(std::move(asked_for)),
      source(find_source(settings)),
      config(read_model_config(source.config_file, family_of_all(settings, launch))),
      backend(make_backend(settings.backend, launch.place())),
      mesh(make_mesh(launch, config, settings.mesh, *backend)),
      output(open_output(settings.output_dir, launch)),
      sharing(ranks_that_see(output.get(), mesh->world())),
      unseen_by(name_others(sharing, launch)),
      checkpoint(checkpoint_to_resume(settings, output.get(), mesh->world(), launch)),
      data(read_data(settings, checkpoint, config, source, *mesh)),
      config_text(saved_config_text(config, settings.stored_dtype(), settings.data.chat_template.name)),
      contents{settings.save_only_model,
               output ? files_of_checkpoints(source, config, config_text) : std::vector<CarriedFile>(),
               writers(sharing, mesh->shape())},
      shape(batch_shape(settings, mesh->shape(), data.training, data.validation)),
      batches(data.training, shape, settings.seed) {
  check_same_checkpoint(launch, mesh->world(), settings.model, source.folder);
  settings.schedule.steps = steps_of(settings, batches.steps_per_epoch());
  state = describe_run(settings, data, shape);
  if (checkpoint.empty()) return;
  const Parameters table(config, mesh->tensor_rank(), mesh->shape().tensor);
  saved = std::make_unique<SavedTraining>(checkpoint, config, config_text, table, state, data);
  state.step = saved->step();
  state.tokens = saved->tokens();
}

}  // namespace llama_tp
