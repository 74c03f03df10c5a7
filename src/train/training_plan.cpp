#include "train/training_plan.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "backend/meta.h"
#include "model/placement.h"
#include "model/plan.h"
#include "parallel/local_communicator.h"

namespace llama_tp {

namespace {

// Ranks 0 … size − 1 in groups of equal likeness, in the order of each group's first. Those from one of `firsts` to the
// next are known to be alike.
template <class LikenessOf>
std::vector<std::vector<int>> alike(const std::vector<int>& firsts, int size, const LikenessOf& likeness_of) {
  std::map<std::vector<int64_t>, size_t> known;
  std::vector<std::vector<int>> groups;
  for (size_t run = 0; run < firsts.size(); run++) {
    const auto [found, added] = known.try_emplace(likeness_of(firsts[run]), groups.size());
    if (added) groups.emplace_back();
    const int end = run + 1 < firsts.size() ? firsts[run + 1] : size;
    for (int rank = firsts[run]; rank < end; rank++) groups[found->second].push_back(rank);
  }
  return groups;
}

std::vector<int> each_of(int size) {
  std::vector<int> ranks(static_cast<size_t>(size));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

// The first shards of runs whose shards all hold the same: between two borders of a unit's weights or of parameters in
// them a shard has nothing but a piece of the middle of one.
std::vector<int> first_of_runs(const Parameters& parameters, int shards) {
  std::set<int64_t> firsts{0};
  const auto add = [&](const Unit& unit, int64_t first, int64_t count) {
    for (const int64_t border : {first, first + count})
      for (const int64_t next : {0, 1}) firsts.insert(border / unit.shard_elements() + next);
  };
  for (const Parameter& row : parameters.rows()) {
    const int64_t columns = row.slice_columns();
    add(parameters.unit_of(row), row.weight->offset + row.weight_row * columns, row.slice_rows() * columns);
  }
  for (const Unit& unit : parameters.units())
    for (const Weight* weight : unit.weights) add(unit, weight->offset, weight->shape.elements());
  return {firsts.begin(), firsts.lower_bound(shards)};
}

// What of a tensor rank's slices decides its step: their sizes and duties, not where they begin. The first rank also
// adds the biases that are added once.
std::vector<int64_t> likeness(const Parameters& parameters, int64_t rank) {
  std::vector<int64_t> numbers{rank == 0 ? 1 : 0};
  for (const Parameter& row : parameters.rows())
    numbers.insert(numbers.end(), {row.count, row.counts_in_norm ? 1 : 0, static_cast<int64_t>(row.summed_over)});
  return numbers;
}

// What of a shard's pieces decides its step: how often and of how many elements it sums gradients
// (GradientSums), how many it has in the norm, in how much scratch memory (Trainer::finish), and how many
// it updates (Trainer::update). All else is of whole units.
std::vector<int64_t> likeness_of_shard(const Parameters& parameters, int shard, Backend& backend) {
  std::array<int64_t, 3> sums{}, summed{};  // by GradientSum
  int64_t counted = 0, workspace = 0, updated = 0;
  for (const Parameter& row : parameters.rows()) {
    const Piece piece = parameters.piece(row, shard);
    if (piece.count == 0) continue;
    if (row.summed_over != GradientSum::none) {
      sums[static_cast<size_t>(row.summed_over)]++;
      summed[static_cast<size_t>(row.summed_over)] += piece.count;
    }
    if (!row.counts_in_norm) continue;
    counted += piece.count;
    workspace = std::max(workspace, backend.add_sum_of_squares_workspace(piece.of(parameters.unit_of(row).gradient)));
  }
  for (const Unit& unit : parameters.units())
    for (const Weight* weight : unit.weights)
      updated += unit.piece(weight->offset, weight->shape.elements(), shard).count;
  return {sums[1], summed[1], sums[2], summed[2], counted, workspace, updated};
}

struct Place {
  int fsdp, tensor;
};

RankPlan rehearse_rank(const ModelConfig& config, const TrainerOptions& options, MeshShape mesh, Place place,
                       DType dtype, Backend& backend) {
  MetaBackend meta(backend);
  const auto same_keys = static_cast<int>(kv_replicas(config, mesh.tensor));
  // In the order of MeshGroups::all.
  std::array<MetaCommunicator, mesh_group_count> metas{MetaCommunicator{place.tensor, mesh.tensor},
                                                       {place.tensor % same_keys, same_keys},
                                                       {place.fsdp, mesh.fsdp},
                                                       {0, mesh.data}};
  Runtime runtime(meta, {metas[0], metas[1], metas[2], metas[3]}, dtype);
  Timeline timeline(meta);
  for (int i = 0; i < mesh_group_count; i++) {
    MetaCommunicator& group = metas[static_cast<size_t>(i)];
    group.follow(runtime.ledger);
    group.tell(timeline, i);
  }
  rehearse_training(config, options, runtime);
  RankPlan result;
  result.memory = runtime.high_water();
  result.ledger = runtime.ledger;
  result.traffic = traffic_of(mesh, runtime.groups);
  for (size_t i = 0; i < result.work.size(); i++) result.work[i] = meta.work(static_cast<Operation>(i));
  result.events = timeline.end();
  return result;
}

// To a step of two forwards, what the second of them added to a step of one, `times` more. Errors: more bytes than can be
// counted.
void repeat_forward(RankPlan& two, RankPlan one, int64_t times) {
  const auto repeated = [&](int64_t more, int64_t less) {
    const int64_t added = more - less;
    require(added == 0 || times <= (std::numeric_limits<int64_t>::max() - more) / added, "a step of ", times + 2,
            " forwards would send more than 2^63 bytes; lower --global-batch-size or --block-size");
    return more + added * times;
  };
  const auto repeat = [&](Traffics& more, const Traffics& less) {
    for (size_t i = 0; i < more.size(); i++) {
      more[i].calls = repeated(more[i].calls, less[i].calls);
      more[i].bytes = repeated(more[i].bytes, less[i].bytes);
    }
  };
  for (size_t group = 0; group < two.traffic.size(); group++) {
    GroupTraffic& traffic = two.traffic[group];
    repeat(traffic.of, one.traffic[group].of);
    for (size_t phase = 0; phase < traffic.of_phase.size(); phase++)
      repeat(traffic.of_phase[phase], one.traffic[group].of_phase[phase]);
  }
  for (size_t i = 0; i < two.work.size(); i++) {
    Work& work = two.work[i];
    work.calls += (work.calls - one.work[i].calls) * times;
    work.flops += (work.flops - one.work[i].flops) * static_cast<double>(times);
    work.bytes += (work.bytes - one.work[i].bytes) * static_cast<double>(times);
  }
  two.events_of_one = std::move(one.events);
  two.repeated = times;
}

// A step of any number of forwards by two that are rehearsed: each begins with what the one before it began with.
RankPlan plan_at(const ModelConfig& config, TrainerOptions options, MeshShape mesh, Place place, DType dtype,
                 Backend& backend) {
  const auto rehearsed = [&](int64_t forwards) {
    options.batch.accumulation = forwards;
    return rehearse_rank(config, options, mesh, place, dtype, backend);
  };
  const int64_t forwards = options.batch.accumulation;
  RankPlan result = rehearsed(std::min<int64_t>(forwards, 2));
  if (forwards > 2) repeat_forward(result, rehearsed(1), forwards - 2);
  return result;
}

}  // namespace

std::vector<RankPlan> plan_ranks(const ModelConfig& config, const TrainerOptions& options, MeshShape mesh, DType dtype,
                                 Backend& backend) {
  check_tensor_parallel(config, mesh.tensor);
  const bool sequence_parallel = options.batch.sequence_ranks > 1;
  const auto parameters_of = [&](int rank) { return Parameters(config, rank, mesh.tensor, sequence_parallel); };
  std::vector<RankPlan> plans;
  for (const auto& same_slices :
       alike(each_of(mesh.tensor), mesh.tensor, [&](int rank) { return likeness(parameters_of(rank), rank); })) {
    Ledger ledger;
    Arena unreserved("state", ledger);
    Parameters parameters = parameters_of(same_slices.front());
    parameters.allocate(unreserved, dtype, Holds::training_state, {0, mesh.fsdp});
    for (const auto& same_pieces : alike(first_of_runs(parameters, mesh.fsdp), mesh.fsdp,
                                         [&](int shard) { return likeness_of_shard(parameters, shard, backend); })) {
      const Place first{same_pieces.front(), same_slices.front()};
      plans.push_back(plan_at(config, options, mesh, first, dtype, backend));
      for (int64_t data = 0; data < mesh.data; data++)
        for (const int shard : same_pieces)
          for (const int tensor : same_slices)
            plans.back().ranks.push_back((data * mesh.fsdp + shard) * mesh.tensor + tensor);
    }
  }
  return plans;
}

RankPlan plan_rank(const ModelConfig& config, const TrainerOptions& options, MeshShape mesh, int rank, DType dtype,
                   Backend& backend) {
  const Place place{rank / mesh.tensor % mesh.fsdp, rank % mesh.tensor};
  RankPlan own = plan_at(config, options, mesh, place, dtype, backend);
  own.ranks = {rank};
  return own;
}

const RankPlan& fullest(const std::vector<RankPlan>& ranks) {
  return *std::max_element(ranks.begin(), ranks.end(),
                           [](const RankPlan& a, const RankPlan& b) { return a.ledger.peak() < b.ledger.peak(); });
}

int64_t held_at_peak(const std::vector<RankPlan>& ranks, MemoryGroup group) {
  return sum_of(fullest(ranks).ledger.at_peak(), group);
}

}  // namespace llama_tp
