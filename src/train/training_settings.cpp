#include "train/training_settings.h"

#include <algorithm>

#include "base/error.h"
#include "base/parts.h"
#include "io/checkpoint_files.h"
#include "io/files.h"
#include "io/tokenizer/tokenizer.h"

namespace llama_tp {

TrainingSource find_source(const TrainingSettings& settings) {
  require(settings.model.empty() != settings.config.empty(),
          "train needs either --model DIR (to go on from its weights) or --config FILE (to start from random weights)");
  TrainingSource source;
  if (!settings.model.empty()) source.folder = resolve_model_folder(settings.model);
  source.config_file = source.folder.empty() ? settings.config : source.folder + "/config.json";
  source.tokenizer = !settings.tokenizer.empty()      ? settings.tokenizer
                     : holds_tokenizer(source.folder) ? source.folder
                                                      : "";
  return source;
}

void check_settings(const TrainingSettings& settings) {
  require(settings.evaluation_steps == 0 || !settings.validation_file.empty(), "--eval-steps ",
          settings.evaluation_steps, " has nothing to evaluate; give a --validation-file");
  const std::string& dump = settings.dump_gradients;
  require(dump.empty() || !folder_exists(dump), "--dump-gradients ", dump, " is a folder; give a file");
  require(dump.empty() || folder_exists(folder_of_file(dump)), "--dump-gradients ", dump,
          ": its folder does not exist; make it first");
}

int64_t accumulation_steps(const TrainingSettings& settings, int64_t data_ranks) {
  const int64_t wanted = settings.global_batch, steps = settings.accumulation, each = settings.micro_batch * data_ranks;
  if (wanted == 0) return std::max<int64_t>(1, steps);
  require(steps == 0 || steps * each == wanted, "--global-batch-size ", wanted,
          " is not --per-device-train-batch-size ", settings.micro_batch, " × ", data_ranks,
          " ranks with data of their own × --gradient-accumulation-steps ", steps, "; leave one of them out");
  return accumulation_for(wanted, settings.micro_batch, data_ranks);
}

BatchShape batch_shape(const TrainingSettings& settings, const MeshShape& mesh, const Dataset& data,
                       const Dataset& validation) {
  const int64_t data_ranks = mesh.data_ranks();
  // No sample is longer than the longest: a forward need not be either.
  const int64_t longest = std::max(data.longest_sample(), validation.samples() > 0 ? validation.longest_sample() : 0);
  BatchShape shape{settings.micro_batch,
                   accumulation_steps(settings, data_ranks),
                   data_ranks,
                   std::min(settings.block_size, longest),
                   settings.sequence_parallel ? mesh.tensor : 1,
                   std::max(data.most_sequences(), validation.most_sequences())};
  // A step that takes all samples takes no more of them in a larger batch.
  shape.micro_batch = std::min(shape.micro_batch, ceil_div(data.samples(), data_ranks));
  shape.accumulation = std::min(shape.accumulation, ceil_div(data.samples(), shape.micro_batch * data_ranks));
  return shape;
}

}  // namespace llama_tp
