#include "parallel/local_communicator.h"

#include <cstring>

namespace llama_tp {

namespace {

void copy(const Tensor& from, const Tensor& to) {
  if (from.data != to.data) std::memcpy(to.data, from.data, static_cast<size_t>(from.bytes()));
}

// Rank `rank`'s piece of whole, in the shape of part.
Tensor piece_like(const Tensor& part, const Tensor& whole, int rank) {
  return {static_cast<char*>(whole.data) + rank * part.bytes(), part.dtype, part.shape};
}

}  // namespace

Pending LoneCommunicator::run_all_gather(const Tensor& part, const Tensor& whole) {
  copy(part, whole);
  return {};
}

Pending LoneCommunicator::run_reduce_scatter(const Tensor& whole, const Tensor& part) {
  copy(whole, part);
  return {};
}

MetaCommunicator::MetaCommunicator(int rank, int size) : Communicator(rank, size) {
  require(size > 0 && rank >= 0 && rank < size, "rank ", rank, " is not one of ", size, " ranks");
}

Pending MetaCommunicator::told(Collective collective, int64_t bytes) {
  if (timeline_ == nullptr || size() == 1) return {};
  Told& told = told_.emplace_back();
  told.timeline = timeline_;
  told.call = timeline_->call(group_, collective, bytes);
  return Pending(told);
}

void StandInCommunicator::copy(const Tensor& from, const Tensor& to) {
  if (from.data != to.data) backend_.scale(from, 1, to);
}

Pending StandInCommunicator::run_all_gather(const Tensor& part, const Tensor& whole) {
  for (int other = 0; other < size(); other++) copy(part, piece_like(part, whole, other));
  return {};
}

Pending StandInCommunicator::run_reduce_scatter(const Tensor& whole, const Tensor& part) {
  copy(piece_like(part, whole, rank()), part);
  return {};
}

}  // namespace llama_tp
