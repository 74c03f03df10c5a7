#include "commands/plan_search.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>

#include "base/json.h"
#include "model/plan.h"
#include "report/format.h"
#include "train/model_flops.h"

namespace llama_tp {

namespace {

constexpr size_t usual_lines = 20;  // more where there are more meshes

bool is_faster(const PlannedSetting& a, const PlannedSetting& b) {
  return a.tokens_per_second != b.tokens_per_second ? a.tokens_per_second > b.tokens_per_second : a.peak < b.peak;
}

class Search {
 public:
  explicit Search(const SearchSpace& space) : space_(space) {}

  SearchResult run() {
    for (int64_t tensor = 1; tensor <= space_.ranks; tensor++) {
      if (space_.ranks % tensor != 0 || largest_tensor_parallel(space_.config, tensor) != tensor) continue;
      for (int64_t fsdp = 1; fsdp <= space_.ranks / tensor; fsdp++)
        if (space_.ranks / tensor % fsdp == 0) try_mesh(space_.ranks / tensor / fsdp, fsdp, tensor);
    }
    std::sort(result_.fitting.begin(), result_.fitting.end(), is_faster);
    return std::move(result_);
  }

 private:
  void try_mesh(int64_t data, int64_t fsdp, int64_t tensor) {
    const MeshShape mesh{static_cast<int>(data), static_cast<int>(fsdp), static_cast<int>(tensor)};
    if (space_.global_batch % mesh.data_ranks() != 0) return;
    const int64_t samples = space_.global_batch / mesh.data_ranks();
    for (const bool recompute : {false, true})
      for (int64_t micro = 1; micro <= std::min(samples, space_.most_samples); micro++)
        if (samples % micro == 0 && !fits(mesh, micro, recompute)) break;
  }

  bool fits(const MeshShape& mesh, int64_t micro, bool recompute) {
    PlannedSetting setting;
    setting.mesh = mesh;
    setting.options.batch = {micro, space_.global_batch / (micro * mesh.data_ranks()), mesh.data_ranks(),
                             space_.block_size, mesh.tensor};
    setting.options.recompute = recompute;
    setting.options.fsdp = space_.fsdp;
    const std::vector<RankPlan> ranks = plan_ranks(space_.config, setting.options, mesh, space_.dtype, *space_.backend);
    const RankPlan& most = fullest(ranks);
    const CategoryBytes& held = most.ledger.at_peak();
    setting.peak = most.ledger.peak();
    setting.state = sum_of(held, MemoryGroup::state);
    setting.gathered = sum_of(held, MemoryGroup::gathered);
    setting.activations = sum_of(held, MemoryGroup::activations);
    result_.smallest = result_.tried == 0 ? setting.peak : std::min(result_.smallest, setting.peak);
    result_.tried++;
    if (setting.peak > space_.memory->bytes) return false;
    setting.estimate = estimate_step(ranks, *space_.device);
    const double seconds = setting.estimate.seconds();
    setting.tokens_per_second = static_cast<double>(space_.global_batch * space_.block_size) / seconds;
    setting.mfu =
        model_flops(space_.config, setting.options.batch) / seconds / mesh.ranks() / space_.device->bf16_flops;
    result_.fitting.push_back(setting);
    return true;
  }

  const SearchSpace& space_;
  SearchResult result_;
};

OrderedJson setting_json(const PlannedSetting& setting) {
  return {{"data_parallel", setting.mesh.data},
          {"fsdp", setting.mesh.fsdp},
          {"tensor_parallel", setting.mesh.tensor},
          {"micro_batch", setting.options.batch.micro_batch},
          {"accumulation", setting.options.batch.accumulation},
          {"gradient_checkpointing", setting.options.recompute},
          {"peak_bytes", setting.peak},
          {"step_seconds", setting.estimate.seconds()},
          {"tokens_per_second", setting.tokens_per_second},
          {"mfu", setting.mfu},
          {"bound_by", setting.estimate.bound()}};
}

// The fastest setting of each mesh, and the fastest others up to usual_lines. Fastest first, as fitting is.
std::vector<PlannedSetting> shown_of(const std::vector<PlannedSetting>& fitting) {
  std::vector<PlannedSetting> shown, others;
  std::set<std::array<int, 3>> meshes;
  for (const PlannedSetting& setting : fitting) {
    const bool is_first = meshes.insert({setting.mesh.data, setting.mesh.fsdp, setting.mesh.tensor}).second;
    (is_first ? shown : others).push_back(setting);
  }
  const size_t room = usual_lines - std::min(usual_lines, shown.size());
  others.resize(std::min(others.size(), room));
  shown.insert(shown.end(), others.begin(), others.end());
  std::sort(shown.begin(), shown.end(), is_faster);
  return shown;
}

constexpr size_t column_count = 13;  // of figures; what bounds the step stands behind them
using TableRow = std::array<std::string, column_count + 1>;

TableRow head_of(const ByteUnit& unit) {
  return {"data",      "fsdp",     "tensor",   "micro",       "times",
          "recompute", "state",    "gathered", "activations", text("peak ", unit.name),
          "step s",    "tokens/s", "MFU %",    "bound by"};
}

TableRow row_of(const PlannedSetting& setting, const ByteUnit& unit) {
  const auto amount = [&](int64_t bytes) { return unit.of(static_cast<double>(bytes), 2); };
  return {with_commas(setting.mesh.data),
          with_commas(setting.mesh.fsdp),
          with_commas(setting.mesh.tensor),
          with_commas(setting.options.batch.micro_batch),
          with_commas(setting.options.batch.accumulation),
          setting.options.recompute ? "yes" : "no",
          amount(setting.state),
          amount(setting.gathered),
          amount(setting.activations),
          amount(setting.peak),
          fixed(setting.estimate.seconds(), 3),
          with_commas(static_cast<int64_t>(setting.tokens_per_second)),
          fixed(100 * setting.mfu, 1),
          setting.estimate.bound()};
}

// Two spaces before the widest cell of each column, and for small figures the same widths in every table.
std::array<int, column_count> widths_of(const std::vector<TableRow>& rows) {
  std::array<int, column_count> columns{4, 6, 8, 7, 7, 11, 8, 10, 13, 12, 10, 12, 7};
  for (const TableRow& row : rows)
    for (size_t i = 0; i < column_count; i++)
      columns[i] = std::max(columns[i], static_cast<int>(row[i].size()) + (i == 0 ? 0 : 2));
  return columns;
}

void print_table(const std::vector<PlannedSetting>& settings) {
  int64_t most = 0;
  for (const PlannedSetting& setting : settings) most = std::max(most, setting.peak);
  const ByteUnit unit = unit_for(static_cast<double>(most));
  std::vector<TableRow> rows{head_of(unit)};
  for (const PlannedSetting& setting : settings) rows.push_back(row_of(setting, unit));
  const std::array<int, column_count> columns = widths_of(rows);
  for (const TableRow& row : rows) {
    std::string line;
    for (size_t i = 0; i < column_count; i++) append_cell(line, row[i], columns[i]);
    std::printf("%s  %s\n", line.c_str(), row.back().c_str());
  }
}

}  // namespace

SearchResult search(const SearchSpace& space) { return Search(space).run(); }

void print_search(const SearchSpace& space, const SearchResult& result) {
  std::printf("%s: steps of %s × %s tokens on %s of %s, times estimated for %s\n", space.config.source.c_str(),
              with_commas(space.global_batch).c_str(), with_commas(space.block_size).c_str(),
              counted(space.ranks, "rank").c_str(), space.memory->words.c_str(), space.device->name.c_str());
  if (result.fitting.empty()) {
    std::printf("none of the %s fits: the smallest needs %s; take more ranks, a shorter --block-size or more memory\n",
                counted(result.tried, "setting").c_str(), bytes_text(result.smallest).c_str());
    return;
  }
  const std::vector<PlannedSetting> shown = shown_of(result.fitting);
  print_table(shown);
  std::printf(
      "%s of %s fit%s; estimates are the datasheet's limits, not measurements\n",
      with_commas(static_cast<int64_t>(result.fitting.size())).c_str(), counted(result.tried, "setting").c_str(),
      shown.size() < result.fitting.size()
          ? text("; the fastest of each mesh is shown, and, up to ", usual_lines, " lines in all, of the others")
                .c_str()
          : "");
  std::printf("workspace is that of %s\n", space.backend->description().c_str());
}

void print_search_json(const SearchSpace& space, const SearchResult& result) {
  OrderedJson fitting = OrderedJson::array();
  for (const PlannedSetting& setting : result.fitting) fitting.push_back(setting_json(setting));
  const OrderedJson json{{"config", space.config.source},
                         {"world", space.ranks},
                         {"block_size", space.block_size},
                         {"global_batch", space.global_batch},
                         {"memory_limit", space.memory->bytes},
                         {"device", space.device->name},
                         {"workspace_of", space.backend->description()},
                         {"tried", result.tried},
                         {"smallest_bytes", result.smallest},
                         {"fitting", fitting}};
  std::printf("%s\n", json_text(json, 1).c_str());
}

}  // namespace llama_tp
