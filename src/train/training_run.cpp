#include "train/training_run.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "backend/device.h"
#include "io/checkpoint_files.h"
#include "io/data_tokenizer.h"
#include "io/dataset_cache.h"
#include "model/checkpoint.h"
#include "model/placement.h"
#include "report/format.h"
#include "report/progress.h"
#include "report/stopwatch.h"
#include "train/dataset_exchange.h"
#include "train/introduction.h"
#include "train/memory_report.h"
#include "train/metrics.h"
#include "train/replica_check.h"
#include "train/save_checkpoint.h"
#include "train/saved_training.h"
#include "train/trainer.h"
#include "train/validation.h"
#include "train/what_fits.h"

namespace llama_tp {

namespace {

// Steps of a run whose batches are always compared over the ranks.
constexpr int64_t checked_steps = 2;

class TrainingRun {
 public:
  TrainingRun(TrainingSettings settings, const Launch& launch)
      : settings_(std::move(settings)),
        launch_(launch),
        source_(find_source(settings_)),
        config_(read_model_config(source_.config_file, find_family(settings_))),
        config_text_(saved_config_text(config_, settings_.stored_dtype())),
        plan_(resolve_plan(config_)),
        progress_(launch.rank() == 0 ? launch.stdout_columns() : 0, 1, 1) {}

  int run() {
    check_settings(settings_);
    backend_ = make_backend(settings_.backend, launch_.place());
    mesh_ = make_mesh(launch_, config_, plan_, settings_.mesh, *backend_, placement_said_);
    find_checkpoint();
    launch_.begin(Activity::reading_data);
    read_data();
    settle_sizes();
    if (!check_checkpoint()) return 0;
    launch_.begin(Activity::loading_weights);
    make_trainer();
    introduce();
    train();
    report_memory();
    return 0;
  }

 private:
  bool leads() const { return launch_.rank() == 0; }
  // The folder that the weights come from; "" where they are random.
  const std::string& origin() const { return saved_ ? checkpoint_ : source_.folder; }
  void say(const std::string& line) {
    if (leads()) progress_.say(line);
  }

  // Only rank 0 looks into the output folder, which it may have to clean first.
  void find_checkpoint() {
    if (leads()) output_ = std::make_unique<OutputFolder>(settings_.output_dir);
    checkpoint_ = mesh_->world().broadcast(leads() ? find_checkpoint_to_resume(settings_, *output_) : "", 0);
  }

  // Rank 0 reads and tokenizes; the others get the arrays.
  void read_data() {
    if (leads()) {
      const DataTokenizer tokenizer(source_.tokenizer, settings_.data);
      DatasetOptions options = tokenizer.dataset_options(settings_.block_size, config_.vocabulary, config_.source);
      options.truncation = settings_.truncation;
      options.packing = settings_.packing;
      data_ = data_cache_.read(settings_.train_file, options, tokenizer.fingerprint());
      if (!settings_.validation_file.empty())
        validation_ = validation_cache_.read(settings_.validation_file, options, tokenizer.fingerprint());
    }
    exchange(data_, mesh_->world());
    if (!settings_.validation_file.empty()) exchange(validation_, mesh_->world());
  }

  void settle_sizes() {
    shape_ = batch_shape(settings_, mesh_->shape(), data_, validation_);
    batches_ = std::make_unique<EpochBatches>(data_, shape_, settings_.seed);
    const int64_t per_epoch = batches_->steps_per_epoch();
    steps_ = settings_.max_steps > 0
                 ? settings_.max_steps
                 : static_cast<int64_t>(std::ceil(settings_.epochs * static_cast<double>(per_epoch) - 1e-9));
    settings_.schedule.steps = steps_;
    progress_ = Progress(leads() ? launch_.stdout_columns() : 0, steps_, settings_.logging_steps);
  }

  // False where the checkpoint has done all steps. Errors: SavedTraining's.
  bool check_checkpoint() {
    state_ = describe_run(settings_, data_, shape_);
    if (checkpoint_.empty()) return true;
    const Parameters table(config_, plan_, mesh_->tensor_rank(), mesh_->shape().tensor);
    saved_ = std::make_unique<SavedTraining>(checkpoint_, config_, config_text_, table, state_);
    state_.step = saved_->step();
    state_.tokens = saved_->tokens();
    if (state_.step < steps_) return true;
    say(text(checkpoint_, ": has done ", counted(state_.step, "step"), " of ", steps_,
             ": nothing is left to do; raise --max-steps to train on"));
    return false;
  }

  void make_trainer() {
    runtime_ =
        std::make_unique<Runtime>(*backend_, mesh_->tensor(), mesh_->kv_replicas(), mesh_->shards(), settings_.dtype);
    for (Communicator* group : {&mesh_->tensor(), &mesh_->kv_replicas(), &mesh_->shards(), &mesh_->replicas()})
      group->follow(runtime_->ledger);
    const TrainerOptions options{shape_, settings_.recompute, validation_.samples() > 0, settings_.fsdp};
    memory_ = plan_training(config_, plan_, options, *backend_, *runtime_, mesh_->replicas());
    if (const int64_t free = backend_->free_memory(); memory_.total() > free)
      fail(describe_too_large({config_, plan_, options, mesh_->shape(), mesh_->rank(), settings_.dtype}, free,
                              *backend_));
    runtime_->reserve(memory_);
    trainer_ = std::make_unique<Trainer>(config_, plan_, options, *runtime_, mesh_->replicas());
    if (saved_)
      saved_->load(trainer_->parameters(), *backend_);
    else if (source_.folder.empty())
      initialize_weights(config_, settings_.seed, trainer_->parameters(), *backend_);
    else
      load_weights(ModelFiles(source_.folder), config_, trainer_->parameters(), *backend_);
    mesh_->world().barrier();
  }

  void introduce() {
    if (!placement_said_.empty()) say(placement_said_);
    const Introduction introduction{settings_,
                                    config_,
                                    *mesh_,
                                    shape_,
                                    data_,
                                    validation_,
                                    origin(),
                                    resumption(),
                                    backend_->description(),
                                    data_cache_.hit(),
                                    batches_->steps_per_epoch(),
                                    memory_};
    for (const std::string& line : lines_of(introduction)) say(line);
  }

  // Lines on where the run goes on, if it was to.
  std::vector<std::string> resumption() const {
    if (!saved_ && settings_.resume.empty()) return {};
    if (!saved_) return {text("            ", settings_.output_dir, " holds no checkpoint yet: begins at the start")};
    std::vector<std::string> lines{text("resumed     after step ", state_.step, " of ", steps_)};
    for (const std::string& change : saved_->changes()) lines.push_back("            " + change);
    return lines;
  }

  void train() {
    std::unique_ptr<MetricsFile> metrics;
    if (leads()) {
      for (const std::string& trouble : {data_cache_.keep(data_), validation_cache_.keep(validation_)})
        if (!trouble.empty()) say("            " + trouble);
      metrics = std::make_unique<MetricsFile>(settings_.output_dir + "/metrics.jsonl", state_.step);
    }
    first_step_ = state_.step + 1;
    for (int64_t step = first_step_; step <= steps_; step++) {
      launch_.begin(Activity::training, step);
      const Stopwatch time;
      const std::vector<int64_t> samples = batches_->global(step);
      StepMetrics now = one_step(step, samples);
      now.seconds = time.seconds();
      for (const int64_t sample : samples) state_.tokens += static_cast<int64_t>(data_.sample(sample).tokens.size());
      now.tokens_per_second = static_cast<double>(state_.tokens - now.tokens) / now.seconds;
      now.tokens = state_.tokens;
      const std::vector<double> peaks = mesh_->world().all_gather(static_cast<double>(peak_resident_bytes()));
      now.peak_memory_bytes = static_cast<int64_t>(*std::max_element(peaks.begin(), peaks.end()));
      const bool last = step == steps_;
      if (validation_.samples() > 0 &&
          (last || (settings_.evaluation_steps > 0 && step % settings_.evaluation_steps == 0)))
        now.evaluation_loss = evaluate(step);
      if (leads()) {
        metrics->append(now);
        progress_.show(now);
      }
      if (last || (settings_.save_steps > 0 && step % settings_.save_steps == 0)) save(step);
    }
  }

  bool checks_parameters(int64_t step) const { return settings_.check_every > 0 && step % settings_.check_every == 0; }
  bool checks_batches(int64_t step) const { return step < first_step_ + checked_steps || checks_parameters(step); }

  StepMetrics one_step(int64_t step, const std::vector<int64_t>& samples) {
    const int64_t targets = count_targets(data_, samples);
    const std::vector<GroupTraffic> before = traffic_of(*mesh_);
    trainer_->begin(shape_.accumulation);
    SeenBatches seen;
    for (int64_t micro = 0; micro < shape_.accumulation; micro++) {
      fill_batch(data_, batches_->local(samples, micro, mesh_->data_rank()), shape_, batch_);
      if (checks_batches(step)) seen.add(batch_);
      trainer_->accumulate(batch_, targets);
    }
    if (checks_batches(step)) check_batches(step, seen, data_, samples, *mesh_);
    const StepResult result = trainer_->finish(targets);
    if (step == first_step_ && !settings_.dump_gradients.empty()) {
      save_gradients(settings_.dump_gradients, trainer_->parameters(), *backend_, *mesh_);
      say("gradients of the first step: " + settings_.dump_gradients);
    }
    if (!std::isfinite(result.loss) || !std::isfinite(result.gradient_norm))
      fail("step ", step, ": the ", std::isfinite(result.loss) ? "gradient norm" : "loss",
           " is not finite; it begins in ", where_not_finite(), "; ", mend_of_not_finite(step));
    const double rate = settings_.schedule.rate(step);
    trainer_->update({rate, settings_.adam_beta1, settings_.adam_beta2, settings_.adam_epsilon, settings_.weight_decay,
                      step, settings_.max_grad_norm});
    step_traffic_ = traffic_of(*mesh_) - before;
    if (checks_parameters(step)) check_replicas(step, trainer_->parameters(), *backend_, *mesh_);
    StepMetrics metrics;
    metrics.step = step;
    metrics.steps = steps_;
    metrics.epoch = static_cast<double>(step) / static_cast<double>(batches_->steps_per_epoch());
    metrics.loss = result.loss;
    metrics.gradient_norm = result.gradient_norm;
    metrics.learning_rate = rate;
    metrics.tokens = state_.tokens;
    return metrics;
  }

  // Data ranks have batches of their own: whose forward is not finite knows more than whose gradient is not.
  std::string where_not_finite() {
    const std::vector<std::string> places = mesh_->world().all_gather(trainer_->blame(batch_));
    const auto in_forward = std::find_if(places.begin(), places.end(), [](const std::string& place) {
      return !place.starts_with("the gradient") && !place.starts_with("the loss");
    });
    return in_forward == places.end() ? places.front() : *in_forward;
  }

  // No learning rate had a part in the first step.
  std::string mend_of_not_finite(int64_t step) const {
    if (step > first_step_) return "lower --learning-rate, or look at the data of this step";
    if (!origin().empty()) return "are the weights in " + origin() + " damaged?";
    return text("the weights are random: is initializer_range (", config_.initializer_range, ") in config.json right?");
  }

  double evaluate(int64_t step) {
    launch_.begin(Activity::evaluating, step);
    const double loss = mean_loss(*trainer_, validation_, shape_, *mesh_, batch_);
    require(std::isfinite(loss), settings_.validation_file, ": the loss of this data is not finite; it begins in ",
            where_not_finite(), "; lower --learning-rate, or look at the data");
    return loss;
  }

  void save(int64_t step) {
    launch_.begin(Activity::saving, step);
    runtime_->ledger.enter(Phase::save);
    state_.step = step;
    save_checkpoint(settings_.output_dir, state_, config_text_, source_, trainer_->parameters(), *backend_, *mesh_);
    say("saved " + checkpoint_path(settings_.output_dir, step));
    if (leads() && settings_.save_total_limit > 0) output_->keep_newest(settings_.save_total_limit);
  }

  // Beside what was planned, what the ledger saw: the same numbers, or something is wrong. What the last step sent. And
  // what the system counts, and the device's driver.
  void report_memory() {
    const bool on_device = backend_->device() != nullptr;
    const int64_t in_use = backend_->memory_in_use(), planned = memory_.total(), of_host = on_device ? 0 : planned;
    const ResidentMemory resident = resident_memory();
    const std::vector<std::string> entries = mesh_->world().all_gather(memory_entry(memory_, runtime_->ledger)),
                                   traffic = mesh_->world().all_gather(traffic_entry(step_traffic_)),
                                   residents = mesh_->world().all_gather(resident_entry(resident, of_host));
    std::vector<std::string> devices;
    if (on_device) devices = mesh_->world().all_gather(device_entry(in_use, planned));
    if (!leads()) return;
    write_text(settings_.output_dir + "/memory.json", memory_text(entries, traffic, residents, devices));
    if (on_device)
      say(text("device      ", bytes_text(in_use), " in use on rank 0's, as its driver counts: ", bytes_text(planned),
               " as planned, ", bytes_text(in_use - planned),
               " CUDA's context, kernels, buffers of cuBLASLt and NCCL, and other programs"));
    say(text("resident    ", bytes_text(resident.total),
             " on rank 0: ", on_device ? "" : bytes_text(planned) + " as planned, ",
             bytes_text(resident.total - of_host), " libraries, MPI, data and code"));
  }

  TrainingSettings settings_;
  const Launch& launch_;
  TrainingSource source_;
  ModelConfig config_;
  std::string config_text_;  // for the checkpoints; the file may change before the last one
  TensorParallelPlan plan_;
  std::string placement_said_;
  Progress progress_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Mesh> mesh_;
  std::unique_ptr<OutputFolder> output_;
  Dataset data_, validation_;
  DatasetCache data_cache_{settings_.output_dir + "/tokenized"};  // rank 0's, as the next
  DatasetCache validation_cache_{settings_.output_dir + "/tokenized"};
  BatchShape shape_;
  std::unique_ptr<EpochBatches> batches_;
  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<Trainer> trainer_;
  MemoryPlan memory_;
  std::vector<GroupTraffic> step_traffic_;  // of the last step
  HostBatch batch_;
  std::string checkpoint_;  // to go on from, or ""
  std::unique_ptr<SavedTraining> saved_;
  TrainingState state_;  // this run's, after the step that is done
  int64_t steps_ = 0, first_step_ = 1;
};

}  // namespace

int run_training(TrainingSettings settings, const Launch& launch) {
  return TrainingRun(std::move(settings), launch).run();
}

}  // namespace llama_tp
