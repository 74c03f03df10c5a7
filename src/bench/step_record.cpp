#include "bench/step_record.h"

#include <algorithm>

#include "parallel/host_values.h"

namespace llama_tp {

PhaseTimes StepRecord::times() const {
  PhaseTimes times{};
  for (const PhaseSpan& span : phases) times[static_cast<size_t>(span.phase)].compute += span.end - span.begin;
  for (const ExchangeSpan& span : exchanges) {
    PhaseTime& time = times[static_cast<size_t>(span.phase)];
    time.communication += span.end - span.begin;
    time.compute -= span.end - span.begin;
  }
  return times;
}

std::vector<StepRecord> gather_records(HostGroup& ranks, const StepRecord& own) {
  const std::vector<double> seconds = ranks.all_gather(own.seconds);
  const std::vector<CategoryBytes> held = gather_values(ranks, own.held);
  auto phases = gather_lists(ranks, own.phases);
  auto exchanges = gather_lists(ranks, own.exchanges);
  auto memory = gather_lists(ranks, own.memory);
  std::vector<StepRecord> all;
  for (size_t rank = 0; rank < seconds.size(); rank++)
    all.push_back(
        {seconds[rank], held[rank], std::move(phases[rank]), std::move(exchanges[rank]), std::move(memory[rank])});
  return all;
}

StepRecorder::StepRecorder(Runtime& runtime, const Mesh& mesh) : runtime_(runtime), mesh_(mesh) { log_to_own(true); }
StepRecorder::~StepRecorder() { log_to_own(false); }

void StepRecorder::log_to_own(bool on) {
  runtime_.ledger.log_to(on ? &ledger_ : nullptr);
  for (size_t i = 0; i < group_count; i++) runtime_.groups.all()[i]->log_to(on ? &exchanges_[i] : nullptr);
}

void StepRecorder::begin() {
  ledger_.clear();
  for (std::vector<Exchange>& log : exchanges_) log.clear();
  held_ = runtime_.ledger.held();
  runtime_.backend.synchronize();
  mesh_.world().barrier();
  begin_ = std::chrono::steady_clock::now();
}

StepRecord StepRecorder::end() {
  runtime_.backend.synchronize();
  Exchange last{Collective::all_reduce, 0, std::chrono::steady_clock::now(), {}};
  mesh_.world().barrier();
  last.end = std::chrono::steady_clock::now();
  StepRecord record{since_begin(last.end), held_, {}, {}, {}};
  read_ledger(record);
  for (int i = 0; i < group_count; i++)
    for (const Exchange& exchange : exchanges_[static_cast<size_t>(i)]) add_exchange(i, exchange, record);
  if (mesh_.world().size() > 1) add_exchange(world_group, last, record);
  return record;
}

void StepRecorder::read_ledger(StepRecord& record) const {
  for (const LedgerEntry& entry : ledger_) {
    const double time = since_begin(entry.time);
    if (entry.bytes != 0) {
      record.memory.push_back({time, entry.category, entry.bytes});
    } else if (record.phases.empty()) {
      record.phases.push_back({entry.phase, 0, 0});
    } else if (record.phases.back().phase != entry.phase) {
      record.phases.back().end = time;
      record.phases.push_back({entry.phase, time, 0});
    }
  }
  if (!record.phases.empty()) record.phases.back().end = record.seconds;
}

void StepRecorder::add_exchange(int group, const Exchange& exchange, StepRecord& record) const {
  const double begin = since_begin(exchange.begin), end = since_begin(exchange.end);
  const auto after = std::find_if(record.phases.begin(), record.phases.end(),
                                  [&](const PhaseSpan& span) { return span.begin > begin; });
  const Phase phase = after == record.phases.begin() ? Phase::load : std::prev(after)->phase;
  record.exchanges.push_back({group, exchange.collective, phase, exchange.bytes, begin, end});
}

}  // namespace llama_tp
