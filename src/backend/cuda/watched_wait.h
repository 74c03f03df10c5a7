// The host waits for the device.
#pragma once

#include <algorithm>
#include <chrono>
#include <string_view>
#include <thread>
#include <vector>

#include "backend/device_handle.h"
#include "kernels/check.h"

namespace llama_tp {

inline CollectiveProgress progress_of(const std::vector<Watcher*>& watchers) {
  CollectiveProgress all;
  for (Watcher* watcher : watchers) {
    const CollectiveProgress one = watcher->progress();
    all.stands = all.stands || one.stands;
    all.ended += one.ended;
  }
  return all;
}

// Asks again and again until the answer is no longer cudaErrorNotReady, so that a collective that can never end (its
// other ranks have failed) does not hold this rank. The device's own computing may last for as long as it likes: only the
// time in which it stands in one collective is counted. Errors: any other answer but success; what a watcher throws.
template <class Ask>
void wait_until(const std::vector<Watcher*>& watchers, std::string_view what, const Ask& ask) {
  constexpr int64_t turns_between_looks = 256;  // about a millisecond
  // What counts of the time between two looks: a rank that was stopped itself, and goes on, has not waited.
  constexpr std::chrono::duration<double> longest_between_looks = std::chrono::seconds(1);
  std::chrono::duration<double> stood{0};
  CollectiveProgress before;
  auto last_look = std::chrono::steady_clock::now();
  for (int64_t turn = 1;; turn++) {
    const cudaError_t status = ask();
    if (status != cudaErrorNotReady) return check_cuda(status, what);
    if (turn % turns_between_looks == 0) {
      const CollectiveProgress progress = progress_of(watchers);
      const bool stood_still = before.stands && progress.stands && progress.ended == before.ended;
      before = progress;
      const auto now = std::chrono::steady_clock::now();
      const auto between = std::min<std::chrono::duration<double>>(now - last_look, longest_between_looks);
      stood = stood_still ? stood + between : std::chrono::duration<double>(0);
      last_look = now;
      for (Watcher* watcher : watchers) watcher->look(progress.stands, stood);
    }
    std::this_thread::yield();
  }
}

}  // namespace llama_tp
