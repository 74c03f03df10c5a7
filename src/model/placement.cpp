#include "model/placement.h"

#include <algorithm>
#include <numeric>

#include "model/plan.h"
#include "model/same_model.h"
#include "parallel/mpi_host_group.h"

namespace llama_tp {

namespace {

// Of `ranks`, and of each node's.
int64_t largest_tensor(const ModelConfig& config, int64_t ranks, int64_t of_node) {
  int64_t size = std::min(ranks, of_node);
  while (ranks % size != 0 || of_node % size != 0 || largest_tensor_parallel(config, size) != size) size--;
  return size;
}

std::string written(const char* name, const std::optional<int64_t>& size) {
  return size.has_value() ? text("--", name, " ", *size == auto_size ? "auto" : std::to_string(*size)) : "";
}

std::string written(const MeshOptions& options) {
  std::string all;
  for (const std::string& one : {written("data-parallel", options.data), written("fsdp", options.fsdp),
                                 written("tensor-parallel", options.tensor)})
    all += (all.empty() || one.empty() ? "" : " ") + one;
  return all;
}

// Of groups of so many consecutive ranks: the first rank that is on another node than its group's first.
std::optional<int> first_apart(const Launch& launch, int group) {
  for (int rank = 0; rank < launch.size(); rank++)
    if (launch.node_of(rank) != launch.node_of(rank / group * group)) return rank;
  return {};
}

// What keeps such groups within a host: numbers that follow each other there, and as many ranks as fit.
std::string mend_of_ranks_apart(const Launch& launch, const ModelConfig& config, int group) {
  const int within = std::gcd(launch.ranks_of_every_node(), group);
  int fitting = within;
  while (within % fitting != 0 || largest_tensor_parallel(config, fitting) != fitting) fitting--;
  const char* by_host = launch.by_srun() ? "srun --distribution=block" : "mpirun --map-by slot";
  std::string mend;
  if (first_apart(launch, fitting)) mend = text("let each host have ranks with consecutive numbers (", by_host, ")");
  if (fitting == group) return mend;
  return text(mend, mend.empty() ? "" : "; then ", "--tensor-parallel ", fitting, " would keep them within a host");
}

}  // namespace

int64_t kv_replicas(const ModelConfig& config, int64_t tensor_parallel) {
  const bool attention = std::any_of(config.plan.layers.begin(), config.plan.layers.end(),
                                     [](const auto& layer) { return layer.attention; });
  return attention ? std::max<int64_t>(1, tensor_parallel / config.kv_heads) : 1;
}

MeshShape resolve_mesh(const ModelConfig& config, const MeshOptions& options, int ranks, int ranks_of_node,
                       const char* ranks_by) {
  const auto is_auto = [](const std::optional<int64_t>& size) { return size == auto_size; };
  const auto or_one = [](const std::optional<int64_t>& size) { return std::max<int64_t>(1, size.value_or(1)); };
  const std::string asked = written(options);
  require(!is_auto(options.fsdp) || (!is_auto(options.data) && !is_auto(options.tensor)), asked,
          ": --fsdp auto takes all ranks that the others leave; give numbers to them");
  int64_t data = or_one(options.data), fsdp = or_one(options.fsdp), tensor = or_one(options.tensor);
  const bool free_data = !options.data.has_value() || is_auto(options.data),
             free_tensor = !options.tensor.has_value() || is_auto(options.tensor);
  const int64_t taken = data * fsdp * tensor, rest = ranks / taken;
  const bool any_auto = is_auto(options.data) || is_auto(options.fsdp) || is_auto(options.tensor);
  require(ranks % taken == 0, asked, " does not divide the ", ranks, " ranks that ", ranks_by, "; ",
          any_auto ? text("lower the numbers, or take a multiple of ", taken, " ranks")
                   : text("a multiple of ", taken, " would do, or let one dimension be auto"));
  if (is_auto(options.fsdp)) {
    fsdp = rest;
  } else if (free_tensor && free_data) {
    tensor = largest_tensor(config, rest, ranks_of_node);
    data = rest / tensor;
  } else if (free_tensor) {
    tensor = rest;
  } else if (free_data) {
    data = rest;
  }
  require(data * fsdp * tensor == ranks, asked, ": a mesh of ", data * fsdp * tensor, " ranks, but ", ranks_by, " ",
          ranks, "; make them equal, or give one dimension as auto");
  check_tensor_parallel(config, tensor);
  return {static_cast<int>(data), static_cast<int>(fsdp), static_cast<int>(tensor)};
}

std::string repeated_work(const ModelConfig& config, int64_t tensor, int64_t ranks) {
  if (tensor == ranks) return "";
  return text("tensor-parallel takes ", tensor, " of ", ranks,
              " ranks, the others do the same work again; this model's sizes allow ", tensor_parallel_sizes(config));
}

std::string tensor_ranks_apart(const Launch& launch, const ModelConfig& config, const MeshShape& shape) {
  const std::optional<int> rank = first_apart(launch, shape.tensor);
  if (!rank) return "";
  const int first = *rank / shape.tensor * shape.tensor;
  return text("tensor-parallel ranks ", first, " on ", launch.host_of(first), " and ", *rank, " on ",
              launch.host_of(*rank), " wait for the network several times in every layer; ",
              mend_of_ranks_apart(launch, config, shape.tensor));
}

std::unique_ptr<Mesh> make_mesh(const Launch& launch, const ModelConfig& config, const MeshOptions& options,
                                Backend& backend) {
  const MeshShape shape = resolve_mesh(config, options, launch.size(), launch.ranks_of_every_node(), launch.starter());
  check_same_config(launch, *make_host_group(launch), config);  // groups follow from sizes
  return std::make_unique<Mesh>(launch, shape, static_cast<int>(kv_replicas(config, shape.tensor)), backend);
}

std::string describe_placement(const MeshOptions& options, const MeshShape& shape) {
  const bool chosen = options.tensor.value_or(auto_size) == auto_size && options.data.value_or(auto_size) == auto_size;
  if (!chosen || options.fsdp == auto_size || shape.data == 1) return "";
  return text("tensor-parallel auto: ", shape.tensor, " of ", shape.data * shape.tensor,
              " ranks, the largest count that divides the heads and the ranks of each node; the rest is data-parallel");
}

}  // namespace llama_tp
