#include "parallel/local_communicator.h"

#include <cstring>

namespace llama_tp {

namespace {

void copy(const Tensor& from, const Tensor& to) {
  if (from.data != to.data) std::memcpy(to.data, from.data, static_cast<size_t>(from.bytes()));
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

}  // namespace llama_tp
