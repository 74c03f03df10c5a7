#include "commands/plan_output.h"

#include <algorithm>
#include <cstdio>

#include "base/json.h"
#include "report/format.h"
#include "train/describe_samples.h"
#include "train/memory_json.h"
#include "train/model_flops.h"

namespace llama_tp {

namespace {

constexpr TableWidths widths{.label = 38, .cell = 18};

// Column heads that are short: of many scattered ranks, the first.
std::string column_head(const std::vector<int64_t>& ranks) {
  const std::string all = (ranks.size() == 1 ? "rank " : "ranks ") + ranges_text(ranks);
  if (static_cast<int>(all.size()) < widths.cell) return all;
  return text("rank ", *std::min_element(ranks.begin(), ranks.end()), " +", ranks.size() - 1, " more");
}

void print_line(const std::string& label, const std::vector<std::string>& values) {
  std::printf("%s\n", widths.line(label, values).c_str());
}

// Lines of one value a rank. Ranks whose values are written alike share a column.
class RankTable {
 public:
  RankTable(const std::vector<RankPlan>& ranks, std::string title) : ranks_(ranks), columns_(ranks.size()) {
    labels_.push_back(std::move(title));
  }
  void heading(const std::string& label) {
    labels_.push_back(label);
    for (auto& column : columns_) column.emplace_back();
  }
  // None where all are written as 0 is.
  template <class Value, class Written>
  void line(const std::string& label, const Value& value, const Written& written) {
    const std::string nothing = written(0);
    if (std::all_of(ranks_.begin(), ranks_.end(),
                    [&](const RankPlan& rank) { return written(value(rank)) == nothing; }))
      return;
    labels_.push_back(label);
    for (size_t i = 0; i < ranks_.size(); i++) columns_[i].push_back(written(value(ranks_[i])));
  }
  void print() const {
    std::vector<size_t> shown;  // the first of each column's ranks
    std::vector<std::string> heads;
    for (size_t i = 0; i < columns_.size(); i++) {
      if (std::find(columns_.begin(), columns_.end(), columns_[i]) != columns_.begin() + static_cast<ptrdiff_t>(i))
        continue;
      shown.push_back(i);
      std::vector<int64_t> together;
      for (size_t j = i; j < columns_.size(); j++)
        if (columns_[j] == columns_[i]) together.insert(together.end(), ranks_[j].ranks.begin(), ranks_[j].ranks.end());
      heads.push_back(column_head(together));
    }
    TableWidths own = widths;
    for (const std::string& head : heads) own.cell = std::max(own.cell, static_cast<int>(head.size()) + 1);
    std::printf("%s\n", own.line(labels_[0], heads).c_str());
    for (size_t line = 1; line < labels_.size(); line++) {
      std::vector<std::string> values;
      for (const size_t i : shown) values.push_back(columns_[i][line - 1]);
      std::printf("%s\n", own.line(labels_[line], values).c_str());
    }
  }

 private:
  const std::vector<RankPlan>& ranks_;
  std::vector<std::string> labels_;                // the title, then of each line
  std::vector<std::vector<std::string>> columns_;  // of each rank, the lines' values
};

// How a table writes bytes whose most are these.
auto written_in(const ByteUnit& unit) {
  return [unit](int64_t bytes) { return unit.of(static_cast<double>(bytes), 3); };
}

// With what the words of activations mean.
std::string label_of(Category category) {
  const char* meaning = category == Category::saved_split   ? " (kept, TP divides it)"
                        : category == Category::saved_whole ? " (kept, undivided)"
                        : category == Category::transient   ? " (within a layer)"
                                                            : "";
  return text("  ", name_of(category), meaning);
}

void print_memory(const std::vector<RankPlan>& ranks, bool by_phase) {
  const ByteUnit unit = unit_for(static_cast<double>(fullest(ranks).ledger.peak()));
  const auto written = written_in(unit);
  RankTable table(ranks, text("memory of a rank at its peak, ", unit.name));
  for (int i = 0; i < category_count; i++)
    table.line(
        label_of(static_cast<Category>(i)),
        [&](const RankPlan& rank) { return rank.ledger.at_peak()[static_cast<size_t>(i)]; }, written);
  table.line(
      "  total", [](const RankPlan& rank) { return rank.ledger.peak(); }, written);
  if (!by_phase) return table.print();
  table.heading(text("the most in each phase, ", unit.name));
  for (int i = 0; i < phase_count; i++)
    table.line(
        text("  ", name_of(static_cast<Phase>(i))),
        [&](const RankPlan& rank) { return rank.ledger.peak_of(static_cast<Phase>(i)); }, written);
  table.print();
}

// The most that a rank gives to one kind of collective of one group.
int64_t largest_payload(const std::vector<RankPlan>& ranks) {
  int64_t most = 0;
  for (const RankPlan& rank : ranks)
    for (const GroupTraffic& group : rank.traffic)
      for (const Traffic& traffic : group.of) most = std::max(most, traffic.bytes);
  return most;
}

void print_communication(const std::vector<RankPlan>& ranks, bool by_phase) {
  const ByteUnit unit = unit_for(static_cast<double>(largest_payload(ranks)));
  const std::string payload = text("payload of a step's collectives, ", unit.name);
  RankTable table(ranks, by_phase ? "calls of a step's collectives" : payload);
  const auto lines = [&](int64_t Traffic::*amount, const auto& written) {
    for (size_t group = 0; group < ranks.front().traffic.size(); group++)
      for (size_t i = 0; i < ranks.front().traffic[group].of.size(); i++) {
        const GroupTraffic& first = ranks.front().traffic[group];
        table.line(
            text("  ", first.group, " (", first.size, "): ", name_of(static_cast<Collective>(i))),
            [&](const RankPlan& rank) { return rank.traffic[group].of[i].*amount; }, written);
        for (size_t phase = 0; by_phase && phase < phase_count; phase++)
          table.line(
              text("    ", name_of(static_cast<Phase>(phase))),
              [&](const RankPlan& rank) { return rank.traffic[group].of_phase[phase][i].*amount; }, written);
      }
  };
  if (by_phase) {
    lines(&Traffic::calls, with_commas);
    table.heading(payload);
  }
  lines(&Traffic::bytes, written_in(unit));
  table.print();
}

double performed_flops(const PlannedStep& step) {
  double all = 0;
  for (const RankPlan& rank : step.ranks)
    for (const Work& work : rank.work) all += work.flops * static_cast<double>(rank.ranks.size());
  return all;
}

double model_flops_utilization(const PlannedStep& step, double seconds) {
  return model_flops(step.config, step.options.batch) / seconds / step.world() / step.device->bf16_flops;
}

void print_estimate(const PlannedStep& step) {
  const StepEstimate estimate = estimate_step(step.ranks, *step.device);
  std::printf("estimate for %s (its datasheet's limits; not a measurement)\n", step.device->name.c_str());
  print_line("  arithmetic, s", {fixed(estimate.products, 4)});
  print_line("  memory traffic, s", {fixed(estimate.memory, 4)});
  print_line("  communication, s", {fixed(estimate.communication, 4)});
  print_line("    not hidden behind work, s", {fixed(estimate.exposed, 4)});
  print_line("  a step, s", {fixed(estimate.seconds(), 4)});
  print_line("  tokens/s, all ranks", {with_commas(static_cast<int64_t>(step.tokens() / estimate.seconds()))});
  print_line("  MFU, %", {fixed(100 * model_flops_utilization(step, estimate.seconds()), 1)});
  print_line("  bound by", {estimate.bound()});
}

const char* longest_words(const PlannedStep& step) {
  if (!step.longest) return "";
  return step.longer_was_not_tried ? " (the most that plan looks at)" : " (the most that fit)";
}

// What the fullest rank needs, of what the most, and whether there is room.
void print_summary(const PlannedStep& step) {
  constexpr int64_t worth_naming = 20;  // of the whole, one part in so many
  const ByteUnit unit = unit_for(static_cast<double>(step.peak_bytes()));
  const auto amount = [&](int64_t bytes) { return text(unit.of(static_cast<double>(bytes), 2), " ", unit.name); };
  std::vector<std::pair<int64_t, std::string_view>> parts;
  for (const MemoryGroup group : memory_groups) parts.emplace_back(held_at_peak(step.ranks, group), name_of(group));
  std::sort(parts.rbegin(), parts.rend());
  std::string named;
  for (const auto& [bytes, name] : parts)
    if (bytes * worth_naming >= step.peak_bytes()) named += text(named.empty() ? "" : "; ", name, " ", amount(bytes));
  std::printf("a rank needs %s: %s\n", amount(step.peak_bytes()).c_str(), named.c_str());
  if (step.memory.has_value())
    std::printf("%s %s\n", step.peak_bytes() <= step.memory->bytes ? "fits" : "DOES NOT FIT",
                step.memory->words.c_str());
}

void print_checkpoint(const PlannedStep& step) {
  const ByteUnit unit = unit_for(static_cast<double>(step.checkpoint_bytes));
  const auto line = [&](const std::string& words, int64_t bytes) {
    print_line(words, {unit.of(static_cast<double>(bytes), 3)});
  };
  line(text("a checkpoint's files, ", unit.name), step.checkpoint_bytes);
  line("  of the model alone", step.model_bytes);
}

// `entry` of each plan's ranks, as `report` lists them.
template <class Entry, class Report>
OrderedJson listed(const std::vector<RankPlan>& plans, const Entry& entry, const Report& report) {
  std::vector<RankEntry> entries;
  for (const RankPlan& plan : plans) entries.push_back({plan.ranks, entry(plan)});
  return parse_ordered_json_or_discard(report(entries));
}

OrderedJson ranks_json(const std::vector<RankPlan>& plans) {
  return listed(
      plans, [](const RankPlan& plan) { return memory_entry(plan.memory, plan.ledger); }, memory_report);
}

OrderedJson communication_json(const std::vector<RankPlan>& plans) {
  return listed(
      plans, [](const RankPlan& plan) { return traffic_entry(plan.traffic); }, traffic_report);
}

OrderedJson estimate_json(const PlannedStep& step) {
  const StepEstimate estimate = estimate_step(step.ranks, *step.device);
  return {{"device", step.device->name},
          {"source", step.device->source},
          {"memory_bytes", step.device->memory_bytes},
          {"reserved_bytes", step.device->reserved_bytes},
          {"arithmetic_seconds", estimate.products},
          {"memory_seconds", estimate.memory},
          {"communication_seconds", estimate.communication},
          {"exposed_seconds", estimate.exposed},
          {"step_seconds", estimate.seconds()},
          {"tokens_per_second", step.tokens() / estimate.seconds()},
          {"mfu", model_flops_utilization(step, estimate.seconds())},
          {"bound_by", estimate.bound()}};
}

}  // namespace

int64_t PlannedStep::peak_bytes() const { return fullest(ranks).ledger.peak(); }

void print_plan(const PlannedStep& step, bool by_phase) {
  std::printf(
      "%s: %s parameters, %s, data-parallel %d × fsdp %d × tensor-parallel %d%s, %lld × %s tokens a data rank%s\n",
      step.config.source.c_str(), with_commas(parameter_count(step.config)).c_str(),
      std::string(torch_name_of(step.dtype)).c_str(), step.mesh.data, step.mesh.fsdp, step.mesh.tensor,
      step.options.batch.sequence_ranks > 1 ? ", sequence-parallel" : "",
      static_cast<long long>(step.options.batch.micro_batch), with_commas(step.options.batch.block_size).c_str(),
      text(step.options.recompute ? ", recomputed" : "", longest_words(step)).c_str());
  if (const std::string beyond = beyond_positions(step.options.batch.block_size, step.config); !beyond.empty())
    std::printf("%s\n", beyond.c_str());
  print_summary(step);
  print_memory(step.ranks, by_phase);
  std::printf("workspace is that of %s\n", step.backend->description().c_str());
  if (step.world() > 1) print_communication(step.ranks, by_phase);
  print_checkpoint(step);
  print_line("FLOPs of a step, all ranks, 10^12", {});
  print_line("  performed", {fixed(performed_flops(step) / 1e12, 3)});
  print_line("  the model's (for MFU)", {fixed(model_flops(step.config, step.options.batch) / 1e12, 3)});
  if (step.device.has_value()) print_estimate(step);
}

void print_plan_json(const PlannedStep& step) {
  OrderedJson json{
      {"config", step.config.source},
      {"parameters", parameter_count(step.config)},
      {"dtype", torch_name_of(step.dtype)},
      {"data_parallel", step.mesh.data},
      {"fsdp", step.mesh.fsdp},
      {"tensor_parallel", step.mesh.tensor},
      {"sequence_parallel", step.options.batch.sequence_ranks > 1},
      {"micro_batch", step.options.batch.micro_batch},
      {"accumulation", step.options.batch.accumulation},
      {"block_size", step.options.batch.block_size},
      {"gradient_checkpointing", step.options.recompute},
      {"checkpoint_bytes", step.checkpoint_bytes},
      {"model_bytes", step.model_bytes},
      {"workspace_of", step.backend->description()},
      {"ranks", ranks_json(step.ranks)},
      {"communication", communication_json(step.ranks)},
      {"flops", {{"performed", performed_flops(step)}, {"model", model_flops(step.config, step.options.batch)}}}};
  if (step.device.has_value()) json["estimate"] = estimate_json(step);
  if (step.memory.has_value()) {
    json["memory_limit"] = step.memory->bytes;
    json["fits"] = step.peak_bytes() <= step.memory->bytes;
  }
  if (step.longest) json["longer_was_not_tried"] = step.longer_was_not_tried;
  std::printf("%s\n", json_text(json, 1).c_str());
}

}  // namespace llama_tp
