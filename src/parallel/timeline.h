// A rehearsed step in the order of the program: operations, and collectives from their call to the wait for them. What
// lies between call and wait can run beside the collective, where there are streams for it.
#pragma once

#include <vector>

#include "backend/backend.h"
#include "parallel/communicator.h"

namespace llama_tp {

struct TimelineEvent {
  enum class Kind : uint8_t { work, collective, wait };
  Kind kind = Kind::work;
  double flops = 0, bytes = 0;  // of work: of one kind of operation since the event before
  int group = 0;                // of a collective: which of the rank's,
  Collective collective = Collective::all_reduce;
  Traffic traffic{};   // and its payload
  size_t awaited = 0;  // of a wait: the event of the collective's call
};

class Timeline {
 public:
  // backend: whose counts of work are looked at.
  explicit Timeline(const Backend& backend) : backend_(backend) {}
  // Its place in the events.
  size_t call(int group, Collective collective, int64_t bytes);
  void wait(size_t call);
  // All events, with the work behind the last one.
  std::vector<TimelineEvent> end();

 private:
  void add_work();

  const Backend& backend_;
  std::array<Work, static_cast<size_t>(Operation::count_)> known_{};
  std::vector<TimelineEvent> events_;
};

}  // namespace llama_tp
