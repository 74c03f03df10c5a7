// Loss and perplexity of a model on a file, and its logits for whoever wants to compare.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "base/json.h"
#include "commands/commands.h"
#include "commands/data_options.h"
#include "commands/run_options.h"
#include "io/checkpoint_files.h"
#include "io/safetensors_writer.h"
#include "io/tokenizer/tokenizer.h"
#include "model/loaded.h"
#include "report/format.h"
#include "report/output.h"
#include "train/describe_samples.h"
#include "train/evaluator.h"
#include "train/training_data.h"
#include "train/training_state.h"

namespace llama_tp {

namespace {

// Tokens of a forward: enough for products at full speed.
constexpr int64_t forward_tokens = 2048;

class Evaluation {
 public:
  Evaluation(const Options& options, const Launch& launch)
      : options_(options),
        launch_(launch),
        model_(options.path("model"), options.given("dtype") ? std::optional(options.dtype("dtype")) : std::nullopt,
               mesh_from(options), options.word("backend"), launch, options.word("family")) {}

  int run() {
    launch_.begin(Activity::reading_data);
    read_data();
    if (dumps()) plan_dump();
    const int64_t block = data_.longest_sample();
    // Every rank sees every sample whose logits are dumped; else the ranks with data of their own divide them.
    const int64_t data_ranks = dumps() ? 1 : model_.mesh->shape().data_ranks();
    shape_ = {dumps() ? 1 : std::max<int64_t>(1, forward_tokens / block), 1, data_ranks, block};
    model_.runtime->reserve(plan_evaluation(model_.config, shape_, dumps(), *model_.backend, *model_.runtime),
                            MemoryUse::evaluation);
    evaluator_ = std::make_unique<Evaluator>(model_.config, shape_, *model_.runtime);
    launch_.begin(Activity::loading_weights);
    model_.load(launch_, evaluator_->parameters());
    if (dumps() && leads()) dump_ = std::make_unique<SafetensorsWriter>(folder_of_file(dump_path()), dump_plan_);
    if (leads()) introduce();
    launch_.begin(Activity::evaluating);
    evaluate();
    return 0;
  }

 private:
  bool leads() const { return launch_.rank() == 0; }
  int64_t block_size() const { return options_.integer("block-size", 2); }
  bool dumps() const { return options_.given("dump-logits"); }

  void read_data() {
    if (leads()) {
      DataTokenizerOptions reading = data_options(options_);
      reading.chat_template = reading.chat_template.or_else(model_.config.chat_template);
      reading.date = saved_date(model_.folder);  // as in the run's own evaluation
      const DataTokenizer tokenizer(holds_tokenizer(model_.folder) ? model_.folder : "", reading);
      const DatasetOptions options = tokenizer.dataset_options(block_size(), model_.config.vocabulary,
                                                               model_.config.eos_ids, model_.config.source);
      data_ = read_dataset(options_.word("file"), options);
    }
    exchange(data_, model_.mesh->world());
  }

  // Once nothing can be refused any more: an error stands alone.
  void introduce() const {
    const auto say = [](const std::string& line) {
      if (!line.empty()) std::fprintf(stderr, "%s\n", line.c_str());
    };
    say(describe_placement(mesh_from(options_), model_.mesh->shape()));
    say(tensor_ranks_apart(launch_, model_.config, model_.mesh->shape()));
    for (const std::string& line : left_out_of(model_.config)) say(line);
    say(beyond_block_size(options_.word("file"), data_, block_size()));
    say(beyond_positions(shape_.block_size, model_.config));
  }

  std::string dump_path() const { return options_.word("dump-logits"); }

  void plan_dump() {
    std::vector<PlannedTensor> planned;
    for (int64_t i = 0; i < data_.samples(); i++) {
      const int64_t tokens = std::ssize(data_.sample(i).tokens);
      planned.push_back({logits_name(i), DType::f32, {tokens, model_.config.vocabulary}});
      planned.push_back({ids_name(i), DType::i32, {tokens}});
    }
    dump_plan_ = plan_file(name_of_file(dump_path()), planned);
  }

  static std::string logits_name(int64_t sample) { return "logits." + std::to_string(sample); }
  static std::string ids_name(int64_t sample) { return "input_ids." + std::to_string(sample); }

  void evaluate() {
    double sum = 0;
    int64_t targets = 0;
    HostBatch batch;
    const int64_t mine = shape_.data_ranks > 1 ? model_.mesh->data_rank() * shape_.micro_batch : 0;
    for (int64_t begin = 0; begin < data_.samples(); begin += shape_.global_batch()) {
      const int64_t first = begin + mine;
      std::vector<int64_t> samples;
      for (int64_t i = first; i < std::min(first + shape_.micro_batch, data_.samples()); i++) samples.push_back(i);
      fill_batch(data_, samples, shape_, batch);
      sum += evaluator_->loss(batch);
      targets += count_targets(data_, samples);
      if (dumps()) dump(first, batch);
    }
    if (dumps()) launch_.begin(Activity::saving);
    if (dump_ != nullptr) dump_->finish();
    // Of ranks that saw the same samples, one counts.
    const bool counts = shape_.data_ranks == 1 ? leads() : model_.mesh->tensor_rank() == 0;
    const std::vector<double> sums = model_.mesh->world().all_gather(counts ? sum : 0),
                              counted_targets =
                                  model_.mesh->world().all_gather(counts ? static_cast<double>(targets) : 0);
    const double all = std::accumulate(sums.begin(), sums.end(), 0.0),
                 count = std::accumulate(counted_targets.begin(), counted_targets.end(), 0.0);
    report(all / std::max(1.0, count), static_cast<int64_t>(count));
  }

  void dump(int64_t sample, const HostBatch& batch) {
    const auto row_bytes = model_.config.vocabulary * size_of(DType::f32);
    const std::span<const int32_t> ids = data_.sample(sample).tokens;
    if (dump_ != nullptr) dump_->write(ids_name(sample), 0, ids.data(), static_cast<int64_t>(ids.size_bytes()));
    evaluator_->logits(batch, std::ssize(ids), [&](int64_t t, std::span<const float> row) {
      if (dump_ != nullptr) dump_->write(logits_name(sample), t * row_bytes, row.data(), row_bytes);
    });
  }

  void report(double loss, int64_t targets) const {
    if (!std::isfinite(loss)) model_.fail_not_finite("loss is", evaluator_->parameters());
    if (!leads()) return;
    if (options_.is_set("json"))
      std::printf("%s\n",
                  json_text(OrderedJson{{"loss", loss}, {"perplexity", std::exp(loss)}, {"tokens", targets}}).c_str());
    else
      std::printf("loss %s  perplexity %s  over %s tokens\n", fixed(loss, 6).c_str(), fixed(std::exp(loss), 4).c_str(),
                  with_commas(targets).c_str());
    flush_stdout();
  }

  const Options& options_;
  const Launch& launch_;
  ModelOnRanks model_;
  Dataset data_;
  BatchShape shape_;
  std::unique_ptr<Evaluator> evaluator_;
  FilePlan dump_plan_;
  std::unique_ptr<SafetensorsWriter> dump_;  // rank 0's
};

}  // namespace

int evaluate_command(const Arguments& arguments) {
  Launch launch;
  return launch.guard([&] {
    Options options("eval", "Mean loss a token and perplexity of a model on a file.",
                    "mpirun -np 2 ./llama_tp eval -m Llama-3.2-1B --file notes.txt --block-size 1024 --json");
    options.value("m,model", "model folder, or an output folder of train (its newest checkpoint)", "DIR");
    declare_family(options);
    options.value("file", ".txt, or .jsonl with text, messages, prompt and completion, or input_ids (and labels)",
                  "FILE");
    options.value("block-size", "the most tokens of a sample", "N", "1024");
    declare_data(options);
    options.value("dtype", "float32 or bfloat16 (default: the checkpoint's)", "WORD");
    declare_mesh(options);
    declare_launch(options);
    options.flag(
        "json",
        "one JSON object on stdout: loss, perplexity (null where it is beyond a double, of a loss above 709), tokens");
    options.value(
        "dump-logits",
        "write as safetensors, of each sample, logits.0, logits.1, …: f32 [sequence, vocabulary], and the tokens "
        "that they are behind, input_ids.0, …: i32 [sequence]",
        "FILE");
    declare_backend(options);
    if (!options.parse(arguments, launch.rank() == 0)) return 0;
    require(options.given("model"), "-m is missing; give a model folder");
    require(options.given("file"), "--file is missing; give a .txt or .jsonl file");
    set_launch(options, launch);
    return Evaluation(options, launch).run();
  });
}

}  // namespace llama_tp
