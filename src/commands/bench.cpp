// Speed and memory of this machine on a model of random weights: training, reading a prompt, generating; each beside
// the limit that binds it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>

#include "backend/cpu/bandwidth.h"
#include "backend/device.h"
#include "commands/commands.h"
#include "commands/mesh_options.h"
#include "generate/generator.h"
#include "model/checkpoint.h"
#include "model/placement.h"
#include "model/rehearsal.h"
#include "report/format.h"
#include "report/progress.h"
#include "train/trainer.h"

namespace llama_tp {

namespace {

using Clock = std::chrono::steady_clock;

// Median seconds of `times` runs, after one that is not counted.
template <class Work>
double median_seconds(int64_t times, Work work) {
  work();
  std::vector<double> seconds;
  for (int64_t i = 0; i < times; i++) {
    const auto begin = Clock::now();
    work();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

class Bench {
 public:
  Bench(const Options& options, const Launch& launch)
      : options_(options),
        launch_(launch),
        config_(read_model_config(options.word("config"))),
        plan_(resolve_plan(config_)),
        dtype_(options.dtype("dtype", DType::bf16)),
        mesh_(make_mesh(launch, config_, plan_, mesh_from(options), said_)),
        backend_(make_backend("auto", launch.threads())) {}

  int run() {
    say(text(config_.source, ": ", with_commas(parameter_count(config_)), " parameters, ", options_.word("dtype"),
             ", data-parallel ", mesh_->shape().data, " × tensor-parallel ", mesh_->shape().tensor));
    say(backend_->description());
    const double machine = sum_over_ranks(measure_read_bandwidth(launch_.threads()));
    const double products = sum_over_ranks(product_rate());
    say(text("machine     reads ", fixed(machine / 1e9, 1), " GB/s; matrix products ", fixed(products / 1e9, 0),
             " GFLOP/s"));
    const std::string only = options_.word("only");
    require(only.empty() || only == "train" || only == "generate" || only == "collectives", "--only ", only,
            " is not known; it can be train, generate or collectives");
    if (only.empty() || only == "train") train(products);
    if (only.empty() || only == "generate") generate(machine, products);
    if (only == "collectives") collectives();
    return 0;
  }

 private:
  void say(const std::string& line) const {
    if (launch_.rank() == 0) std::printf("%s\n", line.c_str());
  }
  double sum_over_ranks(double value) const {
    double sum = 0;
    for (const double each : mesh_->world().all_gather(value)) sum += each;
    return sum;
  }
  double most_of_ranks(double value) const {
    const std::vector<double> all = mesh_->world().all_gather(value);
    return *std::max_element(all.begin(), all.end());
  }
  std::unique_ptr<Runtime> runtime() const {
    return std::make_unique<Runtime>(*backend_, mesh_->tensor(), mesh_->kv_replicas(), mesh_->shards(), dtype_);
  }

  // FLOP/s of a large product in the run's type, all ranks at the same time.
  double product_rate() const {
    constexpr int64_t rows = 1024, width = 2048, times = 8;
    const auto own = runtime();
    const auto work = [&](Runtime& on) {
      const Tensor x = on.state.push(Category::transient, {rows, width}, dtype_),
                   w = on.state.push(Category::transient, {width, width}, dtype_),
                   y = on.state.push(Category::transient, {rows, width}, dtype_);
      for (const Tensor* tensor : {&x, &w, &y}) on.backend.zero(*tensor);
      mesh_->world().barrier();
      return median_seconds(times, [&] { on.backend.linear_forward(x, w, {}, y); });
    };
    MemoryPlan plan = rehearse(*backend_, *own, [&](Runtime& meta) { work(meta); });
    own->reserve(plan);
    return 2.0 * rows * width * width / work(*own);
  }

  void train(double products) {
    const BatchShape shape{options_.integer("per-device-train-batch-size", 1), 1, mesh_->shape().data_ranks(),
                           options_.integer("block-size", 2),
                           options_.is_on("sequence-parallel") ? mesh_->shape().tensor : 1};
    const TrainerOptions options{shape, options_.is_set("gradient-checkpointing"), false, fsdp_from(options_)};
    const auto own = runtime();
    const MemoryPlan memory = plan_training(config_, plan_, options, *backend_, *own, mesh_->replicas());
    own->reserve(memory);
    Trainer trainer(config_, plan_, options, *own, mesh_->replicas());
    initialize_weights(config_, 1, trainer.parameters(), *backend_);
    HostBatch batch;
    std::vector<int32_t> tokens(static_cast<size_t>(shape.block_size));
    for (size_t i = 0; i < tokens.size(); i++)
      tokens[i] = static_cast<int32_t>(static_cast<int64_t>(i * 7919) % config_.vocabulary);
    for (int64_t i = 0; i < shape.micro_batch; i++)
      batch.append(tokens, tokens, 0, static_cast<int64_t>(batch.ids.size()));
    const auto end = static_cast<int32_t>(batch.ids.size());
    while (static_cast<int64_t>(batch.ranges.size()) < 4 * shape.sequences())
      batch.ranges.insert(batch.ranges.end(), {end, 0, end, 0});
    int64_t step = 0;
    const int64_t targets = shape.tokens() * shape.data_ranks;
    const double seconds = median_seconds(options_.integer("steps", 1), [&] {
      trainer.begin();
      trainer.accumulate(batch, targets);
      trainer.finish(targets);
      trainer.update({.learning_rate = 1e-5, .step = ++step});
    });
    // 6 FLOP a weight and token, and the causal half of the scores' 12 · T · heads · head size (PaLM's appendix B).
    const double weights =
        static_cast<double>(parameter_count(config_) - (config_.tied ? 0 : config_.vocabulary * config_.hidden));
    const double attention = 6.0 * static_cast<double>(config_.layers * config_.q_width() * shape.block_size);
    const double rate = static_cast<double>(targets) / seconds, flops = rate * (6 * weights + attention);
    const double peak = most_of_ranks(static_cast<double>(peak_resident_bytes()));
    say(text("training    ", with_commas(static_cast<int64_t>(rate)), " tokens/s (", shape.global_batch(), " × ",
             shape.block_size, " tokens in ", fixed(seconds, 3), " s), ", fixed(flops / 1e9, 0),
             " GFLOP/s = ", fixed(100 * flops / products, 0), "% of the products' rate; planned ",
             bytes_text(memory.total()), ", resident ", bytes_text(static_cast<int64_t>(peak)), " a rank"));
  }

  void generate(double machine, double products) {
    const int64_t prompt = options_.integer("prompt-tokens", 1), tokens = options_.integer("n-predict", 1),
                  context = prompt + tokens + 1;
    const auto own = runtime();
    own->reserve(plan_generation(config_, plan_, context, prompt, *backend_, *own));
    Generator generator(config_, plan_, context, *own);
    initialize_weights(config_, 1, generator.parameters(), *backend_);
    mesh_->world().barrier();
    const auto begin = Clock::now();
    generator.feed(std::vector<int32_t>(static_cast<size_t>(prompt), 1));
    const double prompt_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    const double seconds = median_seconds(tokens, [&] { generator.feed(std::vector<int32_t>{1}); });
    double bytes = static_cast<double>(own->cache.high_water());
    for (const Weight& weight : generator.parameters().weights())
      if (weight.name != "embedding" || config_.tied) bytes += static_cast<double>(weight.value.bytes());
    const double weights =
        static_cast<double>(parameter_count(config_) - config_.vocabulary * config_.hidden * (config_.tied ? 1 : 2));
    const double prompt_flops = 2 * weights * static_cast<double>(prompt) / prompt_seconds,
                 byte_rate = sum_over_ranks(bytes) / seconds;
    say(text("prompt      ", fixed(static_cast<double>(prompt) / prompt_seconds, 1), " tokens/s (", prompt,
             " tokens), ", fixed(prompt_flops / 1e9, 0), " GFLOP/s = ", fixed(100 * prompt_flops / products, 0),
             "% of the products' rate"));
    say(text("generation  ", fixed(1 / seconds, 2), " tokens/s, ", fixed(byte_rate / 1e9, 1),
             " GB/s = ", fixed(100 * byte_rate / machine, 0), "% of the read bandwidth"));
  }

  // Among the tensor-parallel ranks, bf16, the median of many.
  void collectives() const {
    constexpr int64_t times = 201;
    Communicator& group = mesh_->tensor();
    say(text("bytes     all-reduce  all-gather  reduce-scatter, of ", group.size(), " ranks, µs"));
    for (const int64_t bytes :
         {int64_t{8} << 10, int64_t{64} << 10, int64_t{256} << 10, int64_t{1536} << 10, int64_t{4096} << 10}) {
      const int64_t elements = bytes / size_of(DType::bf16) / group.size();
      std::vector<bf16> whole(static_cast<size_t>(elements * group.size())), part(static_cast<size_t>(elements));
      const Tensor all{whole.data(), DType::bf16, {elements * group.size()}}, own{part.data(), DType::bf16, {elements}};
      const double reduce = median_seconds(times, [&] { group.all_reduce(all).wait(); });
      const double gather = median_seconds(times, [&] { group.all_gather(own, all).wait(); });
      const double scatter = median_seconds(times, [&] { group.reduce_scatter(all, own).wait(); });
      say(padded(with_commas(bytes), 9) + padded(fixed(reduce * 1e6, 1), 11) + padded(fixed(gather * 1e6, 1), 12) +
          padded(fixed(scatter * 1e6, 1), 16));
    }
  }

  const Options& options_;
  const Launch& launch_;
  ModelConfig config_;
  TensorParallelPlan plan_;
  DType dtype_;
  std::string said_;
  std::unique_ptr<Mesh> mesh_;
  std::unique_ptr<Backend> backend_;
};

}  // namespace

int bench_command(const Arguments& arguments) {
  Launch launch;
  return launch.guard([&] {
    Options options("bench", "Speed and memory on random weights, each beside the limit that binds it.",
                    "mpirun -np 2 ./llama_tp bench --config data/configs/bench-134m.json --block-size 512");
    options.value("config", "config.json of the model", "FILE");
    declare_mesh(options);
    declare_fsdp(options);
    options.value("sequence-parallel", "between the products tensor ranks divide the tokens, too", "on|off", "on");
    options.value("dtype", "float32 or bfloat16", "WORD", "bfloat16");
    options.value("only", "train, generate or collectives", "WORD");
    options.value("block-size", "tokens of a training sample", "N", "512");
    options.value("per-device-train-batch-size", "samples of a training step", "N", "2");
    options.flag("gradient-checkpointing", "compute each block's forward again in backward");
    options.value("steps", "training steps, after one that is not counted", "N", "5");
    options.value("prompt-tokens", "tokens of the prompt", "N", "512");
    options.value("n-predict", "tokens to generate", "N", "16");
    if (!options.parse(arguments, launch.rank() == 0)) return 0;
    require(options.given("config"), "--config is missing; data/configs has some");
    return Bench(options, launch).run();
  });
}

}  // namespace llama_tp
