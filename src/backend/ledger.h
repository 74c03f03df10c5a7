// The one account of memory: every byte taken for tensors has a category, and each phase of the work its high-water
// mark.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <vector>

namespace llama_tp {

enum class Category : uint8_t {
  parameters,           // this rank's shard of them
  gathered_parameters,  // whole units while FSDP has them gathered
  gradients,
  unsharded_gradients,  // of a whole unit, until FSDP has summed them into the ranks' shards
  master_weights,       // of a bf16 run: the low halves that complete the weights to f32
  moments,              // AdamW's m and v
  saved_split,          // activations kept from forward to backward that shrink with 1/tp
  saved_whole,          // those that every tp rank holds whole
  transient,            // activations that live inside one layer
  logits,               // logits, their gradient and the statistics of the loss
  communication,
  workspace,  // scratch memory of operations (oneDNN's scratchpads among it)
  kv_cache,
  data,       // token ids, targets, positions
  alignment,  // what rounding up to aligned addresses costs
};
inline constexpr int category_count = 15;
std::string_view name_of(Category category);

enum class Phase : uint8_t { load, forward, loss, backward, gradient_sync, optimizer, evaluate, save };
inline constexpr int phase_count = 8;
std::string_view name_of(Phase phase);

using CategoryBytes = std::array<int64_t, category_count>;
int64_t sum_of(const CategoryBytes& bytes, const std::vector<Category>& categories);

// Categories by what a rank holds them for; each is in one group.
enum class MemoryGroup : uint8_t { state, gathered, activations, logits, rest };
inline constexpr std::array memory_groups{MemoryGroup::state, MemoryGroup::gathered, MemoryGroup::activations,
                                          MemoryGroup::logits, MemoryGroup::rest};
std::string_view name_of(MemoryGroup group);
MemoryGroup group_of(Category category);
int64_t sum_of(const CategoryBytes& bytes, MemoryGroup group);

// A phase that was entered (bytes 0), or bytes that were taken in it, or given back (below 0).
struct LedgerEntry {
  std::chrono::steady_clock::time_point time;
  Phase phase;
  Category category;
  int64_t bytes;
};

class Ledger {
 public:
  void add(Category category, int64_t bytes);
  void subtract(Category category, int64_t bytes);
  void enter(Phase phase);

  Phase phase() const { return phase_; }
  int64_t current() const { return total_; }
  // What each category holds now.
  const CategoryBytes& held() const { return bytes_; }
  int64_t peak() const { return peak_; }
  // What each category held at the moment of the peak.
  const CategoryBytes& at_peak() const { return at_peak_; }
  // The highest total seen inside a phase.
  int64_t peak_of(Phase phase) const { return phase_peaks_[static_cast<size_t>(phase)]; }

  // Writes every change to `log` from here on; null: to none.
  void log_to(std::vector<LedgerEntry>* log) { log_ = log; }

 private:
  void log(Category category, int64_t bytes) const;
  CategoryBytes bytes_{}, at_peak_{};
  std::array<int64_t, phase_count> phase_peaks_{};
  int64_t total_ = 0, peak_ = 0;
  Phase phase_ = Phase::load;
  std::vector<LedgerEntry>* log_ = nullptr;
};

}  // namespace llama_tp
