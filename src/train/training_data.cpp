#include "train/training_data.h"

#include "io/data_tokenizer.h"
#include "train/dataset_exchange.h"

namespace llama_tp {

TrainingData::TrainingData(const TrainingSettings& settings, const ModelConfig& config, const std::string& tokenizer,
                           HostGroup& world)
    : training_cache_(settings.output_dir + "/tokenized"), validation_cache_(training_cache_) {
  const bool validates = !settings.validation_file.empty();
  if (world.rank() == 0) {
    const DataTokenizer reader(tokenizer, settings.data);
    DatasetOptions options =
        reader.dataset_options(settings.block_size, config.vocabulary, config.eos_ids, config.source);
    options.truncation = settings.truncation;
    options.packing = settings.packing;
    training = training_cache_.read(settings.train_file, options, reader.fingerprint());
    if (validates) validation = validation_cache_.read(settings.validation_file, options, reader.fingerprint());
  }
  exchange(training, world);
  if (validates) exchange(validation, world);
}

std::vector<std::string> TrainingData::keep() {
  std::vector<std::string> troubles;
  for (std::string& trouble : std::vector{training_cache_.keep(training), validation_cache_.keep(validation)})
    if (!trouble.empty()) troubles.push_back(std::move(trouble));
  return troubles;
}

}  // namespace llama_tp
