#include "parallel/failure_board.h"

#include <atomic>
#include <new>

namespace llama_tp {

// One a rank, each on pages of its own.
struct FailureBoard::Entry {
  std::atomic<uint64_t> hash{0};
  std::atomic<int64_t> when{0};        // ticks of the steady clock, which the ranks of a node share; 0: not failed
  std::atomic<int64_t> first_when{0};  // in rank 0's entry: of the node's first failure; 0: none yet
};

FailureBoard::FailureBoard(MpiGroup& node)
    : memory_(node, static_cast<int64_t>(sizeof(Entry))), local_rank_(node.rank()) {
  static_assert(std::atomic<int64_t>::is_always_lock_free, "ranks are processes: a lock would be another one in each");
  new (memory_.part_of(local_rank_)) Entry;
  node.barrier();
}

FailureBoard::Entry& FailureBoard::entry(int local_rank) const {
  return *reinterpret_cast<Entry*>(memory_.part_of(local_rank));
}

void FailureBoard::announce(uint64_t message_hash) {
  const int64_t now = std::chrono::steady_clock::now().time_since_epoch().count();
  Entry& mine = entry(local_rank_);
  mine.hash.store(message_hash, std::memory_order_relaxed);
  mine.when.store(now, std::memory_order_release);  // whoever reads it also reads the hash
  int64_t none = 0;
  entry(0).first_when.compare_exchange_strong(none, now, std::memory_order_release);
}

bool FailureBoard::someone_failed() const { return entry(0).first_when.load(std::memory_order_acquire) != 0; }

std::chrono::steady_clock::time_point FailureBoard::first_failure() const {
  const std::chrono::steady_clock::duration since_epoch(entry(0).first_when.load(std::memory_order_acquire));
  return std::chrono::steady_clock::time_point(since_epoch);
}

bool FailureBoard::failed(int local_rank) const { return entry(local_rank).when.load(std::memory_order_acquire) != 0; }

uint64_t FailureBoard::message_hash(int local_rank) const {
  return entry(local_rank).hash.load(std::memory_order_relaxed);
}

}  // namespace llama_tp
