#include "bench/scheme_run.h"

#include <algorithm>
#include <numeric>

#include "bench/equal_work.h"
#include "bench/system_memory.h"
#include "model/checkpoint.h"
#include "parallel/host_values.h"
#include "train/step_estimate.h"

namespace llama_tp {

namespace {

constexpr uint64_t weight_seed = 1;
constexpr double learning_rate = 3e-4;

// A forward's samples, which begin with number `first` of the global batch: the same in every step and on any mesh.
Dataset make_samples(const ModelConfig& config, const BatchShape& batch, int64_t first) {
  Dataset data;
  data.tokens.own().reserve(static_cast<size_t>(batch.micro_batch * batch.block_size));
  for (int64_t sample = first; sample < first + batch.micro_batch; sample++) {
    const int64_t begin = sample % config.vocabulary * 104'729;
    for (int64_t i = 0; i < batch.block_size; i++)
      data.tokens.own().push_back(static_cast<int32_t>((i * 7919 + begin) % config.vocabulary));
    data.starts.own().push_back(static_cast<int64_t>(data.tokens.size()));
  }
  return data;
}

class SchemeRun {
 public:
  SchemeRun(const Bench& bench, const Scheme& scheme, const BatchShape& batch)
      : bench_(bench),
        scheme_(scheme),
        batch_(batch),
        mesh_(bench.mesh_of(scheme.mesh)),
        runtime_(*bench.backend, mesh_->groups(), bench.settings.dtype) {}

  SchemeResult run() {
    const RankPlan own = plan();
    const SystemMemory system(*bench_.backend);
    make_trainer(own.memory);
    SchemeResult result{scheme_, batch_, {}, {}, {}, {}};
    const std::vector<GroupTraffic> before = traffic_of(scheme_.mesh, runtime_.groups);
    const std::vector<StepRecord> records = train(result.losses);
    const std::vector<GroupTraffic> sent = traffic_of(scheme_.mesh, runtime_.groups) - before;
    for (size_t group = 0; group < group_count; group++) {
      result.group_sizes[group] = sent[group].size;
      for (size_t i = 0; i < memory_.traffic[group].size(); i++)
        memory_.traffic[group][i] = {sent[group].of[i].calls / steps(), sent[group].of[i].bytes / steps()};
    }
    memory_.given = system.given();
    memory_.in_use = bench_.backend->memory_in_use();
    memory_.peak = runtime_.ledger.peak();
    memory_.measured = runtime_.ledger.at_peak();
    result.ranks = gather_values(mesh_->world(), memory_);
    result.records = gather_records(mesh_->world(), median(records));
    return result;
  }

 private:
  int64_t steps() const { return bench_.settings.steps + 1; }

  TrainerOptions options() const { return options_of(scheme_, batch_); }

  // As `llama_tp plan` does it: on a mesh of its own that only counts.
  RankPlan plan() {
    RankPlan own =
        plan_rank(bench_.config, options(), scheme_.mesh, mesh_->rank(), bench_.settings.dtype, *bench_.backend);
    memory_.planned_peak = own.ledger.peak();
    memory_.planned = own.ledger.at_peak();
    memory_.reserved = own.memory.total();
    for (size_t group = 0; group < own.traffic.size(); group++) memory_.planned_traffic[group] = own.traffic[group].of;
    return own;
  }

  void make_trainer(const MemoryPlan& memory) {
    runtime_.reserve(memory);
    trainer_ = std::make_unique<Trainer>(bench_.config, options(), runtime_);
    initialize_weights(bench_.config, weight_seed, trainer_->parameters(), *bench_.backend);
  }

  // Only what this forward takes is made: a global batch may be more than there is memory.
  void fill_forward(int64_t micro, HostBatch& host) const {
    const Dataset data = make_samples(bench_.config, batch_, batch_.first_sample(micro, mesh_->data_rank()));
    std::vector<int64_t> all(static_cast<size_t>(batch_.micro_batch));
    std::iota(all.begin(), all.end(), 0);
    fill_batch(data, all, batch_, host);
  }

  std::vector<StepRecord> train(std::vector<double>& losses) {
    const int64_t targets = batch_.global_batch() * (batch_.block_size - 1);
    HostBatch host;
    StepRecorder recorder(runtime_, *mesh_);
    std::vector<StepRecord> records;
    for (int64_t step = 1; step <= steps(); step++) {
      recorder.begin();
      trainer_->begin(batch_.accumulation);
      for (int64_t micro = 0; micro < batch_.accumulation; micro++) {
        fill_forward(micro, host);
        trainer_->accumulate(host, targets);
      }
      losses.push_back(trainer_->finish(targets).loss);
      trainer_->update({.learning_rate = learning_rate, .step = step, .max_grad_norm = 1});
      StepRecord record = recorder.end();
      if (step > 1) records.push_back(std::move(record));
    }
    return records;
  }

  // The same step on every rank.
  const StepRecord& median(const std::vector<StepRecord>& records) const {
    std::vector<std::pair<double, size_t>> order;
    for (size_t i = 0; i < records.size(); i++) order.emplace_back(bench_.sum_over_ranks(records[i].seconds), i);
    std::sort(order.begin(), order.end());
    return records[order[order.size() / 2].second];
  }

  const Bench& bench_;
  const Scheme& scheme_;
  BatchShape batch_;
  std::unique_ptr<Mesh> mesh_;
  Runtime runtime_;
  RankMemory memory_;
  std::unique_ptr<Trainer> trainer_;
};

}  // namespace

bool RankMemory::as_planned() const {
  return peak == planned_peak && peak == reserved && measured == planned && traffic == planned_traffic;
}

const RankMemory& SchemeResult::fullest() const {
  return *std::max_element(ranks.begin(), ranks.end(),
                           [](const RankMemory& a, const RankMemory& b) { return a.peak < b.peak; });
}

bool SchemeResult::as_planned() const {
  return std::all_of(ranks.begin(), ranks.end(), [](const RankMemory& rank) { return rank.as_planned(); });
}

double SchemeResult::seconds() const {
  double sum = 0;
  for (const StepRecord& record : records) sum += record.seconds;
  return sum / static_cast<double>(records.size());
}

PhaseTimes SchemeResult::times() const {
  PhaseTimes mean{};
  const auto count = static_cast<double>(records.size());
  for (const StepRecord& record : records) {
    const PhaseTimes own = record.times();
    for (size_t i = 0; i < mean.size(); i++) {
      mean[i].compute += own[i].compute / count;
      mean[i].communication += own[i].communication / count;
    }
  }
  return mean;
}

double SchemeResult::communication() const {
  double sum = 0;
  for (const PhaseTime& time : times()) sum += time.communication;
  return sum;
}

double SchemeResult::sent(int group, Collective collective) const {
  const auto index = static_cast<size_t>(group);
  return sent_bytes(collective, fullest().traffic[index][static_cast<size_t>(collective)], group_sizes[index]);
}

SchemeResult run_scheme(const Bench& bench, const Scheme& scheme, const BatchShape& batch) {
  return SchemeRun(bench, scheme, batch).run();
}

SchemeResult run_usual_scheme(const Bench& bench) {
  const BenchSettings& settings = bench.settings;
  const MeshShape mesh = bench.shape();
  const Scheme scheme{text("tp=", mesh.tensor, ",fsdp=", mesh.fsdp, ",dp=", mesh.data),
                      mesh,
                      settings.micro_batch,
                      settings.sequence_parallel,
                      settings.recompute,
                      settings.fsdp};
  return run_scheme(
      bench, scheme,
      {settings.micro_batch, settings.accumulation, mesh.data_ranks(), settings.block_size, scheme.sequence_ranks()});
}

}  // namespace llama_tp
