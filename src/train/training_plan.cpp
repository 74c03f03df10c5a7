#include "train/training_plan.h"

#include <algorithm>
#include <map>

#include "backend/meta.h"
#include "model/placement.h"
#include "parallel/local_communicator.h"

namespace llama_tp {

namespace {

// What of a tensor rank's slices decides its step: their sizes and duties, not where they begin. The first rank also
// adds the biases that are added once.
std::vector<int64_t> likeness(const Parameters& parameters, int64_t rank) {
  std::vector<int64_t> numbers{rank == 0 ? 1 : 0};
  for (const Parameter& row : parameters.rows())
    numbers.insert(numbers.end(), {row.count, row.counted ? 1 : 0, static_cast<int64_t>(row.sum)});
  return numbers;
}

// Tensor ranks that are alike, by the first of them.
std::vector<std::vector<int>> alike(const ModelConfig& config, const TensorParallelPlan& plan, int tensor) {
  std::map<std::vector<int64_t>, size_t> known;
  std::vector<std::vector<int>> groups;
  for (int rank = 0; rank < tensor; rank++) {
    const auto [found, added] =
        known.try_emplace(likeness(Parameters(config, plan, rank, tensor), rank), groups.size());
    if (added) groups.emplace_back();
    groups[found->second].push_back(rank);
  }
  return groups;
}

GroupTraffic traffic_of(const char* group, const Communicator& communicator, int64_t stride) {
  GroupTraffic traffic{group, communicator.size(), communicator.size() * stride, {}};
  for (size_t i = 0; i < traffic.of.size(); i++) traffic.of[i] = communicator.traffic(static_cast<Collective>(i));
  return traffic;
}

RankPlan rehearse_rank(const ModelConfig& config, const TensorParallelPlan& plan, const TrainerOptions& options,
                       MeshShape mesh, int fsdp_rank, int tensor_rank, DType dtype, Backend& backend) {
  MetaBackend meta(backend);
  const auto replicas = static_cast<int>(kv_replicas(config, plan, mesh.tensor));
  MetaCommunicator tensor(tensor_rank, mesh.tensor), same_keys(tensor_rank % replicas, replicas),
      shards(fsdp_rank, mesh.fsdp), copies(0, mesh.data);
  Runtime runtime(meta, tensor, same_keys, shards, dtype);
  rehearse_training(config, plan, options, runtime, copies);
  RankPlan result;
  result.memory = runtime.high_water();
  result.ledger = runtime.ledger;
  result.traffic = {traffic_of("tensor", tensor, 1), traffic_of("kv_replicas", same_keys, 1),
                    traffic_of("fsdp", shards, mesh.tensor), traffic_of("data", copies, mesh.tensor * mesh.fsdp)};
  for (size_t i = 0; i < result.work.size(); i++) result.work[i] = meta.work(static_cast<Operation>(i));
  return result;
}

}  // namespace

std::vector<RankPlan> plan_ranks(const ModelConfig& config, const TensorParallelPlan& plan,
                                 const TrainerOptions& options, MeshShape mesh, DType dtype, Backend& backend) {
  check_tensor_parallel(config, plan, mesh.tensor);
  std::vector<RankPlan> plans;
  for (const std::vector<int>& group : alike(config, plan, mesh.tensor)) {
    plans.push_back(rehearse_rank(config, plan, options, mesh, 0, group.front(), dtype, backend));
    for (int data = 0; data < mesh.data_ranks(); data++)
      for (const int rank : group) plans.back().ranks.push_back(int64_t{data} * mesh.tensor + rank);
  }
  return plans;
}

RankPlan plan_rank(const ModelConfig& config, const TensorParallelPlan& plan, const TrainerOptions& options,
                   MeshShape mesh, int rank, DType dtype, Backend& backend) {
  RankPlan own =
      rehearse_rank(config, plan, options, mesh, rank / mesh.tensor % mesh.fsdp, rank % mesh.tensor, dtype, backend);
  own.ranks = {rank};
  return own;
}

const RankPlan& fullest(const std::vector<RankPlan>& ranks) {
  return *std::max_element(ranks.begin(), ranks.end(),
                           [](const RankPlan& a, const RankPlan& b) { return a.ledger.peak() < b.ledger.peak(); });
}

double model_flops(const ModelConfig& config, const BatchShape& batch) {
  const auto real = [](int64_t value) { return static_cast<double>(value); };
  // A tied embedding is the head's weight too, and multiplies.
  const int64_t embedding = config.tied ? 0 : config.vocabulary * config.hidden;
  const double parameters = real(parameter_count(config) - embedding);
  const double attention = real(config.layers) * real(config.heads * config.head_dim) * real(batch.block_size);
  return 6 * (parameters + attention) * real(batch.global_batch() * batch.block_size);
}

}  // namespace llama_tp
