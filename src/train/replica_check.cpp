#include "train/replica_check.h"

#include <algorithm>
#include <map>

#include "base/fingerprint.h"
#include "parallel/host_values.h"

namespace llama_tp {

namespace {

constexpr std::array<const char*, 4> tensor_names{"ids", "targets", "positions", "ranges"};
constexpr const char* mend = "; this is a fault of the program or of a machine: please report it";

}  // namespace

// ---- batches

void SeenBatches::add(const HostBatch& batch) {
  const std::array<const std::vector<int32_t>*, 4> lists{&batch.ids, &batch.targets, &batch.positions, &batch.ranges};
  for (size_t i = 0; i < lists.size(); i++)
    tensors[i] = data_fingerprint(std::span<const int32_t>(*lists[i]), tensors[i]);
  for (size_t at = 0; at < batch.ranges.size(); at += 4) {
    const auto first = static_cast<size_t>(batch.ranges[at]), count = static_cast<size_t>(batch.ranges[at + 1]);
    const auto piece = [&](const std::vector<int32_t>& list) { return std::span(list).subspan(first, count); };
    const auto targets = piece(batch.targets);
    if (std::all_of(targets.begin(), targets.end(), [](int32_t target) { return target == ignored_label; })) continue;
    uint64_t hash = 0;
    for (const auto* list : {&batch.ids, &batch.targets, &batch.positions})
      hash = data_fingerprint(std::span<const int32_t>(piece(*list)), hash);
    sequences.push_back(hash);
  }
}

namespace {

// The same of a sample of the data, alone.
std::vector<uint64_t> sequences_of(const Dataset& data, int64_t sample) {
  HostBatch batch;
  fill_batch(data, {sample}, {1, 1, 1, static_cast<int64_t>(data.sample(sample).tokens.size())}, batch);
  SeenBatches alone;
  alone.add(batch);
  return alone.sequences;
}

}  // namespace

void check_batches(int64_t step, const SeenBatches& seen, const Dataset& data, const std::vector<int64_t>& samples,
                   const Mesh& mesh) {
  const auto tensors = gather_lists(mesh.world(), seen.tensors);
  const auto sequences = gather_lists(mesh.world(), seen.sequences);
  const auto tensor_ranks = static_cast<size_t>(mesh.shape().tensor);
  std::multimap<uint64_t, size_t> where;  // a sequence, and the rank that has it
  for (size_t rank = 0; rank < tensors.size(); rank++) {
    const size_t first = rank / tensor_ranks * tensor_ranks;
    for (size_t i = 0; i < tensor_names.size(); i++)
      require(tensors[rank][i] == tensors[first][i], "step ", step, ": ranks ", first, " and ", rank,
              " are tensor-parallel ranks of one batch, but the ", tensor_names[i], " of their batches differ", mend);
    if (rank == first)
      for (const uint64_t hash : sequences[rank]) where.emplace(hash, rank);
  }
  for (const int64_t sample : samples)
    for (const uint64_t hash : sequences_of(data, sample)) {
      const auto found = where.find(hash);
      require(found != where.end(), "step ", step, ": sample ", sample, " of the global batch is in no rank's batch",
              mend);
      where.erase(found);
    }
  require(where.empty(), "step ", step, ": rank ", where.empty() ? 0 : where.begin()->second,
          " has a sample that is not in the global batch, or that another data rank has, too", mend);
}

// ---- parameters

namespace {

constexpr std::array<const char*, 4> state_names{"weight", "rest of the master weight", "first moment",
                                                 "second moment"};

// What a rank holds of a row of the table: which elements of it, and their bits.
struct Held {
  int64_t slice = 0, begin = 0, count = 0;
  std::array<uint64_t, 4> bits{};
  // Ranks with the same of these hold the same elements.
  auto place() const { return std::array{slice, begin, count}; }
};

Held held(const Parameters& parameters, const Parameter& row, Backend& backend, std::vector<char>& host) {
  const Piece piece = parameters.piece(row);
  const Unit& unit = parameters.unit_of(row);
  Held out{row.axis < 0 ? 0 : row.begin, piece.begin, piece.count, {}};
  const std::array<const Tensor*, 4> stored{&unit.value, &unit.rest, &unit.m, &unit.v};
  for (size_t i = 0; i < stored.size() && piece.count > 0; i++) {
    if (!stored[i]->exists()) continue;
    const Tensor elements = piece.of(*stored[i]);
    host.resize(static_cast<size_t>(elements.bytes()));
    backend.download(elements, host.data());
    out.bits[i] = data_fingerprint(std::span<const char>(host), 0);
  }
  return out;
}

}  // namespace

void check_replicas(int64_t step, const Parameters& parameters, Backend& backend, const Mesh& mesh) {
  std::vector<Held> own;
  std::vector<char> host;
  for (const Parameter& row : parameters.rows()) own.push_back(held(parameters, row, backend, host));
  const auto all = gather_lists(mesh.world(), own);
  for (size_t row = 0; row < own.size(); row++) {
    std::map<std::array<int64_t, 3>, size_t> first;  // rank that holds a place
    for (size_t rank = 0; rank < all.size(); rank++) {
      const Held& here = all[rank][row];
      const size_t other = first.emplace(here.place(), rank).first->second;
      for (size_t i = 0; i < state_names.size(); i++)
        require(here.bits[i] == all[other][row].bits[i], "step ", step, ": ", parameters.rows()[row].name, ": ranks ",
                other, " and ", rank, " hold the same elements of its ", state_names[i], ", but their bits differ",
                mend);
    }
  }
}

}  // namespace llama_tp
