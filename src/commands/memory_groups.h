// What a rank holds at its peak, by its reason: the ledger's categories, a few together.
#pragma once

#include <array>
#include <vector>

#include "train/training_plan.h"

namespace llama_tp {

struct MemoryGroup {
  const char* name;
  std::vector<Category> categories;
};

inline const MemoryGroup& activations_group() {
  static const MemoryGroup group{"activations", {Category::saved_split, Category::saved_whole, Category::transient}};
  return group;
}

inline const std::array<MemoryGroup, 5>& memory_groups() {
  static const std::array<MemoryGroup, 5> all{{
      {"weights, gradients and optimizer",
       {Category::parameters, Category::gradients, Category::master_weights, Category::moments}},
      {"gathered weights, unsharded gradients", {Category::gathered_parameters, Category::unsharded_gradients}},
      activations_group(),
      {"logits and loss", {Category::logits}},
      {"communication, workspace, data, alignment",
       {Category::communication, Category::workspace, Category::data, Category::alignment}},
  }};
  return all;
}

// Of the rank that needs the most.
inline int64_t bytes_of(const MemoryGroup& group, const std::vector<RankPlan>& ranks) {
  return sum_of(fullest(ranks).ledger.at_peak(), group.categories);
}

}  // namespace llama_tp
