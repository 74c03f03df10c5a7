#include "parallel/patience.h"

#include <sched.h>

#include <chrono>
#include <thread>

#include "parallel/failure_board.h"

namespace llama_tp {

namespace {

// After so many yields (10 ms or more) a rank waits for something slow, such as a file: it gives its core away.
constexpr int64_t yields = 20000;
constexpr auto nap = std::chrono::microseconds(50);
constexpr int64_t turns_between_looks = 64;

}  // namespace

void Patience::rest() {
  const bool sleepy = turns_ > spins + yields;
  if (policy_.board != nullptr && (sleepy || turns_ % turns_between_looks == 0) && policy_.board->someone_failed())
    throw Stopped();
  if (sleepy)
    std::this_thread::sleep_for(nap);
  else
    sched_yield();
}

}  // namespace llama_tp
