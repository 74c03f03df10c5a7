// How a rank waits for another: it spins, then yields its core, then sleeps, at once where others want the core; and it
// leaves when some rank of the node has failed or when it has waited too long, so that neither an error nor a rank that
// hangs leaves the others waiting for ever.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>

namespace llama_tp {

class FailureBoard;
class Whereabouts;

// Thrown out of a wait because another rank failed. No error of its own: that rank tells what happened.
class Stopped : public std::exception {
 public:
  const char* what() const noexcept override { return "stopped: another rank has failed"; }
};

struct WaitPolicy {
  const FailureBoard* board = nullptr;       // where failures are seen; null: nobody looks
  const Whereabouts* whereabouts = nullptr;  // how long a wait may last, and who is late; null: for ever
  bool yield_at_once = false;                // more ranks than cores: who spins keeps the awaited one from running
};

// One wait: call pause() until what is waited for has come.
class Patience {
 public:
  explicit Patience(const WaitPolicy& policy) : policy_(policy) {}
  // Errors: Stopped; Whereabouts::report's.
  void pause() {
    if (++turns_ <= spins && !policy_.yield_at_once) return spin();
    rest();
  }

 private:
  // About 50 µs on current cores: longer than a collective's skew between ranks that compute the same thing.
  static constexpr int64_t spins = 1500;

  static void spin() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb" ::: "memory");
#endif
  }
  void rest();
  void look();

  const WaitPolicy& policy_;
  int64_t turns_ = 0;
  std::chrono::steady_clock::time_point last_look_{};
  std::chrono::duration<double> waited_{0};
};

}  // namespace llama_tp
