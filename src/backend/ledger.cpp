#include "backend/ledger.h"

#include <algorithm>

namespace llama_tp {

std::string_view name_of(Category category) {
  static constexpr std::array<std::string_view, category_count> names{"parameters",     "gathered_parameters",
                                                                      "gradients",      "unsharded_gradients",
                                                                      "master_weights", "moments",
                                                                      "saved_split",    "saved_whole",
                                                                      "transient",      "logits",
                                                                      "communication",  "workspace",
                                                                      "kv_cache",       "data",
                                                                      "alignment"};
  static_assert(!names.back().empty(), "a name for each");
  return names[static_cast<size_t>(category)];
}

int64_t sum_of(const CategoryBytes& bytes, const std::vector<Category>& categories) {
  int64_t sum = 0;
  for (const Category category : categories) sum += bytes[static_cast<size_t>(category)];
  return sum;
}

std::string_view name_of(MemoryGroup group) {
  static constexpr std::array<std::string_view, memory_groups.size()> names{
      "weights, gradients and optimizer", "gathered weights, unsharded gradients", "activations", "logits and loss",
      "communication, workspace, data, alignment"};
  static_assert(!names.back().empty(), "a name for each");
  return names[static_cast<size_t>(group)];
}

MemoryGroup group_of(Category category) {
  switch (category) {
    case Category::parameters:
    case Category::gradients:
    case Category::master_weights:
    case Category::moments:
      return MemoryGroup::state;
    case Category::gathered_parameters:
    case Category::unsharded_gradients:
      return MemoryGroup::gathered;
    case Category::saved_split:
    case Category::saved_whole:
    case Category::transient:
      return MemoryGroup::activations;
    case Category::logits:
      return MemoryGroup::logits;
    case Category::communication:
    case Category::workspace:
    case Category::kv_cache:  // which no step of training has
    case Category::data:
    case Category::alignment:
      break;
  }
  return MemoryGroup::rest;
}

int64_t sum_of(const CategoryBytes& bytes, MemoryGroup group) {
  int64_t sum = 0;
  for (size_t i = 0; i < bytes.size(); i++)
    if (group_of(static_cast<Category>(i)) == group) sum += bytes[i];
  return sum;
}

std::string_view name_of(Phase phase) {
  static constexpr std::array<std::string_view, phase_count> names{"load",          "forward",   "loss",     "backward",
                                                                   "gradient_sync", "optimizer", "evaluate", "save"};
  static_assert(!names.back().empty(), "a name for each");
  return names[static_cast<size_t>(phase)];
}

void Ledger::log(Category category, int64_t bytes) const {
  if (log_ != nullptr) log_->push_back({std::chrono::steady_clock::now(), phase_, category, bytes});
}

void Ledger::add(Category category, int64_t bytes) {
  if (bytes != 0) log(category, bytes);
  bytes_[static_cast<size_t>(category)] += bytes;
  total_ += bytes;
  int64_t& phase_peak = phase_peaks_[static_cast<size_t>(phase_)];
  phase_peak = std::max(phase_peak, total_);
  if (total_ > peak_) {
    peak_ = total_;
    at_peak_ = bytes_;
  }
}

void Ledger::subtract(Category category, int64_t bytes) {
  if (bytes != 0) log(category, -bytes);
  bytes_[static_cast<size_t>(category)] -= bytes;
  total_ -= bytes;
}

void Ledger::enter(Phase phase) {
  phase_ = phase;
  log(Category::data, 0);
  int64_t& phase_peak = phase_peaks_[static_cast<size_t>(phase)];
  phase_peak = std::max(phase_peak, total_);
}

}  // namespace llama_tp
