#include "train/training_run.h"

#include <algorithm>
#include <cmath>

#include "io/files.h"
#include "model/checkpoint.h"
#include "model/same_model.h"
#include "parallel/host_values.h"
#include "report/format.h"
#include "report/progress.h"
#include "report/resident.h"
#include "report/stopwatch.h"
#include "train/checkpoint_room.h"
#include "train/end_request.h"
#include "train/introduction.h"
#include "train/memory_report.h"
#include "train/metrics.h"
#include "train/model_flops.h"
#include "train/replica_check.h"
#include "train/save_checkpoint.h"
#include "train/trainer.h"
#include "train/training_setup.h"
#include "train/validation.h"
#include "train/what_fits.h"

namespace llama_tp {

namespace {

// Steps of a run whose batches are always compared over the ranks.
constexpr int64_t checked_steps = 2;

// Rank 0 does.
void remove_surplus_checkpoints(const TrainingSetup& setup) {
  const int64_t limit = setup.settings.save_total_limit;
  if (setup.output != nullptr && limit > 0) setup.output->keep_newest(limit);
}

class TrainingRun {
 public:
  // Takes the memory, keeps the tokenized data and loads the weights.
  TrainingRun(TrainingSetup& setup, const Launch& launch, Progress& progress)
      : setup_(setup),
        settings_(setup.settings),
        mesh_(*setup.mesh),
        backend_(*setup.backend),
        launch_(launch),
        progress_(progress),
        options_{setup.shape, settings_.recompute, setup.data.validation.samples() > 0, settings_.fsdp},
        runtime_(backend_, mesh_.groups(), settings_.dtype),
        memory_(reserve()),
        trainer_(setup.config, options_, runtime_),
        flops_(setup.config),
        state_(setup.state),
        first_step_(state_.step + 1) {
    // Where nothing refuses the run any more, and before what takes long and may fail.
    if (leads()) troubles_ = setup_.data.keep();
    load();
  }

  void run() {
    for (const std::string& line : introduction(setup_, memory_, launch_)) say(line);
    std::unique_ptr<MetricsFile> metrics;
    if (leads()) {
      for (const std::string& trouble : troubles_) say("            " + trouble);
      put_aside_metrics_of_another_run();
      metrics = std::make_unique<MetricsFile>(metrics_path(), state_.step);
    }
    for (int64_t step = first_step_; step <= setup_.steps(); step++) {
      const StepMetrics now = measured_step(step);
      if (leads()) {
        metrics->append(now);
        progress_.show(now);
      }
      const bool ends_early = is_to_end_ && step < setup_.steps();
      if (!ends_early && !is_due(settings_.save_steps, step)) continue;
      if (leads()) metrics->sync();  // a checkpoint has the lines of its steps, whatever ends the machine
      save(step);
      if (!ends_early) continue;
      say(text("ended by SIGUSR1", settings_.save_only_model
                                       ? ""
                                       : ": the same command with --resume-from-checkpoint latest goes on from here"));
      break;
    }
    for (const std::string& line : report_memory(settings_.output_dir, memory_, runtime_, step_traffic_, mesh_))
      say(line);
  }

 private:
  std::string metrics_path() const { return settings_.output_dir + "/metrics.jsonl"; }
  // Lines before a checkpoint that lies elsewhere are of another run, and nothing else has them. Those behind it alone
  // are as a run leaves them that ended before its first save.
  void put_aside_metrics_of_another_run() {
    const bool of_another = !setup_.checkpoint.empty() && !step_in(settings_.output_dir, setup_.checkpoint);
    if (of_another && has_metrics_until(metrics_path(), state_.step))
      say("            of an earlier run: " + put_aside(metrics_path()));
  }
  bool leads() const { return launch_.rank() == 0; }
  void say(const std::string& line) {
    if (leads()) progress_.say(line);
  }
  // Whether something that is done after every so many steps (0: of none), and after the last one, is done now.
  bool is_due(int64_t every, int64_t step) const { return step == setup_.steps() || (every > 0 && step % every == 0); }

  MemoryPlan reserve() {
    for (Communicator* group : runtime_.groups.all()) group->follow(runtime_.ledger);
    const MemoryPlan memory = plan_training(setup_.config, options_, backend_, runtime_);
    if (const int64_t free = backend_.free_memory(); memory.total() > free)
      fail(describe_too_large({setup_.config, options_, mesh_.shape(), mesh_.rank(), settings_.dtype,
                               settings_.micro_batch, settings_.global_batch},
                              free, backend_));
    runtime_.reserve(memory);
    return memory;
  }

  void load() {
    Parameters& parameters = trainer_.parameters();
    if (setup_.saved)
      setup_.saved->load(launch_, mesh_.world(), parameters, backend_);
    else if (setup_.source.folder.empty())
      initialize_weights(setup_.config, settings_.seed, parameters, backend_);
    else
      load_model(parameters);
    mesh_.world().barrier();
  }

  void load_model(Parameters& parameters) {
    const ModelFiles files(setup_.source.folder);
    check_same_weights(launch_, mesh_.world(), files);
    load_weights(files, setup_.config, parameters, backend_);
  }

  // What a rank tells the others behind a step: a signal does not come to all of them in the same one.
  struct StepsEnd {
    int64_t memory_taken;
    bool is_to_end;
  };

  // Takes a step, evaluates where that is due, and tells how both went.
  StepMetrics measured_step(int64_t step) {
    launch_.begin(Activity::training, step);
    const Stopwatch time;
    const std::vector<int64_t> samples = setup_.batches.global(step);
    StepMetrics now = one_step(step, samples);
    now.seconds = time.seconds();
    const int64_t tokens_before = state_.tokens;
    for (const int64_t sample : samples) state_.tokens += std::ssize(setup_.data.training.sample(sample).tokens);
    now.tokens = state_.tokens;
    now.tokens_per_second = static_cast<double>(state_.tokens - tokens_before) / now.seconds;
    now.model_flops_per_second = flops_.of(setup_.data.training, samples) / now.seconds / mesh_.world().size();
    const int64_t memory = memory_taken();
    if (options_.evaluates && is_due(settings_.evaluation_steps, step)) now.evaluation_loss = evaluate(step);
    for (const StepsEnd& rank : gather_values(mesh_.world(), StepsEnd{memory, end_is_requested()})) {
      now.peak_memory_bytes = std::max(now.peak_memory_bytes, rank.memory_taken);
      is_to_end_ = is_to_end_ || rank.is_to_end;
    }
    return now;
  }

  // The driver of a device is asked behind the first step alone: what a run takes of it stays, and the driver's answer
  // takes time.
  int64_t memory_taken() {
    if (backend_.device() == nullptr) return resident_memory().peak;
    if (device_memory_in_use_ == 0) device_memory_in_use_ = backend_.memory_in_use();
    return device_memory_in_use_;
  }

  bool checks_parameters(int64_t step) const { return settings_.check_every > 0 && step % settings_.check_every == 0; }
  bool checks_batches(int64_t step) const { return step < first_step_ + checked_steps || checks_parameters(step); }

  StepMetrics one_step(int64_t step, const std::vector<int64_t>& samples) {
    const std::vector<GroupTraffic> before = traffic_of(mesh_.shape(), runtime_.groups);
    const StepResult result = find_gradients(step, samples);
    if (!std::isfinite(result.loss) || !std::isfinite(result.gradient_norm))
      fail("step ", step, ": the ", std::isfinite(result.loss) ? "gradient norm" : "loss",
           " is not finite; it begins in ", where_not_finite(samples), "; ", mend_of_not_finite(step));
    const double rate = settings_.schedule.rate(step);
    trainer_.update({rate, settings_.adam_beta1, settings_.adam_beta2, settings_.adam_epsilon, settings_.weight_decay,
                     step, settings_.max_grad_norm});
    step_traffic_ = traffic_of(mesh_.shape(), runtime_.groups) - before;
    if (checks_parameters(step)) check_replicas(step, trainer_.parameters(), backend_, mesh_);
    StepMetrics metrics;
    metrics.step = step;
    metrics.steps = setup_.steps();
    metrics.epoch = static_cast<double>(step) / static_cast<double>(setup_.batches.steps_per_epoch());
    metrics.loss = result.loss;
    metrics.gradient_norm = result.gradient_norm;
    metrics.learning_rate = rate;
    return metrics;
  }

  // Fills the gradients with those of the global batch, and looks at the batch and writes them where that was asked for.
  StepResult find_gradients(int64_t step, const std::vector<int64_t>& samples) {
    const Dataset& data = setup_.data.training;
    const int64_t targets = count_targets(data, samples);
    trainer_.begin(setup_.shape.accumulation);
    SeenBatches seen;
    for (int64_t micro = 0; micro < setup_.shape.accumulation; micro++) {
      fill(samples, micro);
      if (checks_batches(step)) seen.add(batch_);
      trainer_.accumulate(batch_, targets);
    }
    if (checks_batches(step)) check_batches(step, seen, data, samples, mesh_);
    const StepResult result = trainer_.finish(targets);
    if (step == first_step_ && !settings_.dump_gradients.empty()) dump_gradients(step);
    return result;
  }

  void dump_gradients(int64_t step) {
    launch_.begin(Activity::saving, step);
    save_gradients(settings_.dump_gradients, trainer_.parameters(), backend_, mesh_);
    mesh_.world().barrier();  // no rank's wait for the writers counts as one in training
    launch_.begin(Activity::training, step);
    say("gradients of the first step: " + settings_.dump_gradients);
  }

  // This rank's batch of a step's forward.
  void fill(const std::vector<int64_t>& samples, int64_t micro) {
    fill_batch(setup_.data.training, setup_.batches.local(samples, micro, mesh_.data_rank()), setup_.shape, batch_);
  }

  // Of a step. Every forward is looked at, by all ranks, before gradients are: behind a forward that is not finite none
  // of them says where that began.
  std::string where_not_finite(const std::vector<int64_t>& samples) {
    std::string place;
    for (int64_t micro = 0; micro < setup_.shape.accumulation; micro++) {
      fill(samples, micro);
      const std::string found = trainer_.blame_forward(batch_);
      if (place.empty()) place = found;
    }
    place = found_by_ranks(place);
    return place_or_loss(place.empty() ? found_by_ranks(trainer_.blame_gradient()) : place);
  }

  // Ranks have batches and pieces of gradients of their own: what the first found that found anything.
  std::string found_by_ranks(const std::string& own) {
    for (const std::string& place : mesh_.world().all_gather(own))
      if (!place.empty()) return place;
    return "";
  }

  static std::string place_or_loss(const std::string& place) { return place.empty() ? "the loss itself" : place; }

  // No learning rate had a part in the first step.
  std::string mend_of_not_finite(int64_t step) const {
    if (step > first_step_) return "lower --learning-rate, or look at the data of this step";
    if (!setup_.origin().empty()) return "are the weights in " + setup_.origin() + " damaged?";
    return text("the weights are random: is initializer_range (", setup_.config.initializer_range,
                ") in config.json right?");
  }

  double evaluate(int64_t step) {
    launch_.begin(Activity::evaluating, step);
    const double loss = mean_loss(trainer_, setup_.data.validation, setup_.shape, mesh_, batch_);
    if (!std::isfinite(loss))
      fail(settings_.validation_file, ": the loss of this data is not finite; it begins in ",
           place_or_loss(found_by_ranks(trainer_.blame_forward(batch_))),
           "; lower --learning-rate, or look at the data");
    return loss;
  }

  void save(int64_t step) {
    launch_.begin(Activity::saving, step);
    runtime_.ledger.enter(Phase::save);
    state_.step = step;
    save_checkpoint(settings_.output_dir, state_, setup_.contents, trainer_.parameters(), backend_, mesh_);
    say("saved " + checkpoint_path(settings_.output_dir, step));
    remove_surplus_checkpoints(setup_);
    mesh_.world().barrier();  // no rank's wait for the removal counts as one in training
  }

  TrainingSetup& setup_;
  const TrainingSettings& settings_;
  const Mesh& mesh_;
  Backend& backend_;
  const Launch& launch_;
  Progress& progress_;
  TrainerOptions options_;
  Runtime runtime_;
  MemoryPlan memory_;
  Trainer trainer_;
  StepFlops flops_;
  TrainingState state_;  // after the step that is done
  int64_t first_step_;
  std::vector<std::string> troubles_;       // of keeping the tokenized data
  std::vector<GroupTraffic> step_traffic_;  // of the last step
  HostBatch batch_;
  int64_t device_memory_in_use_ = 0;  // behind the first step
  bool is_to_end_ = false;            // behind this step
};

}  // namespace

int run_training(TrainingSettings settings, const Launch& launch) {
  check_settings(settings);
  accept_end_requests();
  TrainingSetup setup(std::move(settings), launch);
  const int columns = launch.rank() == 0 ? launch.stdout_columns() : 0;
  Progress progress(columns, setup.steps(), setup.settings.logging_steps);
  if (setup.is_done()) {
    if (launch.rank() == 0)
      progress.say(text(setup.checkpoint, ": has done ", counted(setup.state.step, "step"), " of ", setup.steps(),
                        ": nothing is left to do; raise --max-steps to train on"));
    remove_surplus_checkpoints(setup);
    return 0;
  }
  if (launch.rank() == 0) require_room_for_a_checkpoint(setup);
  launch.begin(Activity::loading_weights);
  TrainingRun(setup, launch, progress).run();
  return 0;
}

}  // namespace llama_tp
