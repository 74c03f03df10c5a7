// One training step of a rank, written down while it ran: phases, collectives and memory, in seconds since all ranks
// began it together. Time is the ranks' own; what a rank does outside of its collectives is its computation.
#pragma once

#include <array>
#include <vector>

#include "model/runtime.h"
#include "parallel/mesh.h"

namespace llama_tp {

// Groups of a mesh that communicate in a step. In "world" ranks wait for each other at the step's end, as they would in
// the next step's first collective.
inline constexpr int group_count = mesh_group_count, world_group = group_count;
inline constexpr std::array<const char*, group_count + 1> group_names{
    mesh_group_names[0], mesh_group_names[1], mesh_group_names[2], mesh_group_names[3], "world"};

struct PhaseSpan {
  Phase phase;
  double begin, end;
};
struct ExchangeSpan {
  int group;  // of group_names
  Collective collective;
  Phase phase;
  int64_t bytes;  // payload
  double begin, end;
};
struct MemoryChange {
  double time;
  Category category;
  int64_t bytes;
};

struct PhaseTime {
  double compute = 0, communication = 0;  // seconds
};
using PhaseTimes = std::array<PhaseTime, phase_count>;

struct StepRecord {
  double seconds = 0;
  CategoryBytes held{};  // at the beginning
  std::vector<PhaseSpan> phases;
  std::vector<ExchangeSpan> exchanges;
  std::vector<MemoryChange> memory;

  // Together they make up `seconds`.
  PhaseTimes times() const;
};

// Of all ranks, on every rank. Collective.
std::vector<StepRecord> gather_records(HostGroup& ranks, const StepRecord& own);

class StepRecorder {
 public:
  // While it lives, the runtime and the mesh's communicators write down what they do.
  StepRecorder(Runtime& runtime, const Mesh& mesh);
  ~StepRecorder();
  StepRecorder(const StepRecorder&) = delete;
  StepRecorder& operator=(const StepRecorder&) = delete;

  // Collective: ranks wait for each other on both ends.
  void begin();
  StepRecord end();

 private:
  using Time = std::chrono::steady_clock::time_point;
  void log_to_own(bool on);
  double since_begin(Time time) const { return std::chrono::duration<double>(time - begin_).count(); }
  void read_ledger(StepRecord& record) const;
  void add_exchange(int group, const Exchange& exchange, StepRecord& record) const;

  Runtime& runtime_;
  const Mesh& mesh_;
  Time begin_;
  CategoryBytes held_{};
  std::vector<LedgerEntry> ledger_;
  std::array<std::vector<Exchange>, group_count> exchanges_;
};

}  // namespace llama_tp
