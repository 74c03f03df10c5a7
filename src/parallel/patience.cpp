#include "parallel/patience.h"

#include <sched.h>

#include <algorithm>
#include <thread>

#include "parallel/failure_board.h"
#include "parallel/whereabouts.h"

namespace llama_tp {

namespace {

// After so many yields (10 ms or more) a rank waits for something slow, such as a file: it gives its core away.
constexpr int64_t yields = 20000;
constexpr auto nap = std::chrono::microseconds(50);
// A yield that takes so long has given the core to another program or rank, for as long as the kernel lets it, even where
// what is waited for comes meanwhile. Who sleeps is put in front of it again on waking: so the next waits do, in all so
// many times, then yields are tried again.
constexpr auto long_yield = std::chrono::milliseconds(1);
constexpr int64_t naps_instead = 1000;
thread_local int64_t naps_left = 0;

constexpr int64_t turns_between_looks = 64;
// What counts of the time between two looks: a rank that was stopped itself, and goes on, has not waited.
constexpr std::chrono::duration<double> longest_between_looks = std::chrono::seconds(1);

}  // namespace

void Patience::rest() {
  const bool is_core_wanted = naps_left > 0, sleepy = is_core_wanted || turns_ > spins + yields;
  if (sleepy || turns_ % turns_between_looks == 0) look();
  if (is_core_wanted) naps_left--;
  if (sleepy) return std::this_thread::sleep_for(nap);
  const auto begin = std::chrono::steady_clock::now();
  sched_yield();
  if (std::chrono::steady_clock::now() - begin > long_yield) naps_left = naps_instead;
}

void Patience::look() {
  if (policy_.board != nullptr && policy_.board->someone_failed()) throw Stopped();
  if (policy_.whereabouts == nullptr) return;
  policy_.whereabouts->beat();
  const auto now = std::chrono::steady_clock::now();
  if (last_look_ != std::chrono::steady_clock::time_point{})
    waited_ += std::min<std::chrono::duration<double>>(now - last_look_, longest_between_looks);
  last_look_ = now;
  if (policy_.whereabouts->is_overdue(waited_)) policy_.whereabouts->report();
}

}  // namespace llama_tp
