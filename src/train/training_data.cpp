#include "train/training_data.h"

#include "base/fingerprint.h"
#include "io/checkpoint_files.h"
#include "io/data_tokenizer.h"
#include "parallel/host_values.h"
#include "parallel/node_bytes.h"

namespace llama_tp {

namespace {

std::string describe_size(const Dataset& data) {
  return text(data.samples(), " samples, ", data.tokens.size(), " tokens");
}

template <class Value>
void share(SharedList<Value>& list, HostGroup& group) {
  NodeBytes shared = share_on_nodes(group, {reinterpret_cast<const char*>(list.data()), list.size() * sizeof(Value)});
  list.share(std::move(shared.memory),
             {reinterpret_cast<const Value*>(shared.bytes.data()), shared.bytes.size() / sizeof(Value)});
}

}  // namespace

void exchange(Dataset& data, HostGroup& group) {
  if (group.size() == 1) return;
  each_array(data, [&](const char*, auto& list) { share(list, group); });
  std::vector<int64_t> numbers = data.numbers();
  broadcast_values(group, numbers);
  data.set_numbers(numbers);
}

TrainingData::TrainingData(const TrainingSettings& settings, const ModelConfig& config, const std::string& tokenizer,
                           HostGroup& world)
    : training_cache_(tokenized_path(settings.output_dir)), validation_cache_(training_cache_) {
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
  description_ = world.broadcast(
      world.rank() == 0 ? text(describe_size(training), ", fingerprint v2 ", fingerprint_of(training)) : "", 0);
}

std::string TrainingData::earlier_description() const {
  const auto number = [](const auto& values) {
    return fingerprint({reinterpret_cast<const char*>(values.data()), values.size() * sizeof values[0]});
  };
  const uint64_t blocks = training.blocks.empty() ? 0 : number(training.blocks) << 3;
  return text(describe_size(training), ", fingerprint ",
              number(training.tokens) ^ (number(training.starts) << 1) ^ (number(training.labels) << 2) ^ blocks);
}

std::vector<std::string> TrainingData::keep() const {
  std::vector<std::string> troubles;
  for (std::string& trouble : std::vector{training_cache_.keep(training), validation_cache_.keep(validation)})
    if (!trouble.empty()) troubles.push_back(std::move(trouble));
  return troubles;
}

}  // namespace llama_tp
