#include "train/gradient_sums.h"

namespace llama_tp {

GradientSums::GradientSums(const Parameters& parameters, Runtime& runtime)
    : parameters_(parameters), runtime_(runtime) {
  under_way_.reserve(parameters.units().size());  // a step allocates nothing
}

void GradientSums::begin(const Unit& unit) {
  sum_over_tensor_ranks(unit);
  Communicator& replicas = runtime_.groups.replicas;
  if (replicas.size() > 1) under_way_.push_back(replicas.all_reduce(unit.gradient));
}

void GradientSums::sum_over_tensor_ranks(const Unit& unit) {
  for (const Parameter& row : parameters_.rows()) {
    if (row.summed_over == GradientSum::none || &parameters_.unit_of(row) != &unit) continue;
    const Piece piece = parameters_.piece(row);
    if (piece.count == 0) continue;
    Communicator& group =
        row.summed_over == GradientSum::kv_replicas ? runtime_.groups.kv_replicas : runtime_.groups.tensor;
    group.all_reduce(piece.of(unit.gradient)).wait();
  }
}

void GradientSums::end() {
  for (Pending& sum : under_way_) sum.wait();
  under_way_.clear();
}

}  // namespace llama_tp
