#include "commands/plan_comparison.h"

#include <algorithm>
#include <cstdio>

#include "base/json.h"
#include "bench/equal_work.h"
#include "report/format.h"
#include "train/describe_samples.h"

namespace llama_tp {

namespace {

constexpr TableWidths least_widths{.label = 46, .cell = 14};

int64_t peak(const std::vector<RankPlan>& step) { return fullest(step).ledger.peak(); }
int64_t peak(const PlannedScheme& scheme) { return peak(scheme.smallest); }

// What the rank that sends the most sends in a ring, by group; the groups are the same for all meshes.
std::vector<std::pair<std::string, double>> sent(const std::vector<RankPlan>& ranks) {
  std::vector<std::pair<std::string, double>> all;
  for (size_t group = 0; group < ranks.front().traffic.size(); group++) {
    double most = 0;
    for (const RankPlan& rank : ranks) {
      const GroupTraffic& traffic = rank.traffic[group];
      double sum = 0;
      for (size_t i = 0; i < traffic.of.size(); i++)
        sum += sent_bytes(static_cast<Collective>(i), traffic.of[i], traffic.size);
      most = std::max(most, sum);
    }
    all.emplace_back(ranks.front().traffic[group].group, most);
  }
  return all;
}

double highest_peak(const PlannedComparison& planned) {
  int64_t most = 0;
  for (const PlannedScheme& one : planned.schemes) {
    most = std::max(most, peak(one));
    if (planned.samples_in_flight > 0) most = std::max(most, peak(one.in_flight));
  }
  return static_cast<double>(most);
}

class Table {
 public:
  explicit Table(const PlannedComparison& planned) : planned_(planned), unit_(unit_for(highest_peak(planned))) {
    for (const PlannedScheme& one : planned.schemes)
      widths_.cell = std::max(widths_.cell, static_cast<int>(one.scheme.name.size()) + 2);
    widths_.cell = std::max(widths_.cell, static_cast<int>(counted(planned.global_batch, "sample").size()) + 1);
  }
  template <class Value>
  void line(const std::string& label, const Value& value) const {
    std::vector<std::string> cells;
    for (const PlannedScheme& one : planned_.schemes) cells.push_back(value(one));
    std::printf("%s\n", widths_.line(label, cells).c_str());
  }
  // Left out where all are 0.
  template <class Value>
  void amounts(const std::string& label, const Value& value) const {
    const auto& all = planned_.schemes;
    if (std::any_of(all.begin(), all.end(), [&](const PlannedScheme& one) { return value(one) > 0; }))
      line(label, [&](const PlannedScheme& one) { return unit_.of(value(one), 2); });
  }
  const ByteUnit& unit() const { return unit_; }

 private:
  const PlannedComparison& planned_;
  ByteUnit unit_;
  TableWidths widths_ = least_widths;
};

void print_memory(const SchemesToPlan& asked, const Table& table, std::vector<RankPlan> PlannedScheme::*step) {
  for (const MemoryGroup group : memory_groups)
    table.amounts(text("  ", name_of(group)),
                  [&](const PlannedScheme& one) { return static_cast<double>(held_at_peak(one.*step, group)); });
  table.line("  together",
             [&](const PlannedScheme& one) { return table.unit().of(static_cast<double>(peak(one.*step)), 2); });
  if (asked.memory)
    table.line(text("  fits ", bytes_text(asked.memory->bytes)), [&](const PlannedScheme& one) {
      return std::string(peak(one.*step) <= asked.memory->bytes ? "yes" : "NO");
    });
}

// "4,194,304+" where a longer one might fit.
std::string written(const LongestBlock& longest) {
  if (longest.tokens == 0) return "none";
  return with_commas(longest.tokens) + (longest.longer_was_not_tried ? "+" : "");
}

void print_step(const SchemesToPlan& asked, const PlannedComparison& planned, const Table& table,
                const std::string& name, std::vector<RankPlan> PlannedScheme::*step, int64_t global_batch) {
  const auto samples = [&](const PlannedScheme& one) {
    return global_batch > 0 ? global_batch : samples_of_forward(one.scheme);
  };
  table.line(name, [&](const PlannedScheme& one) { return counted(samples(one), "sample"); });
  table.line("  forwards x samples of a rank", [&](const PlannedScheme& one) {
    return forwards_words(equal_batch(one.scheme, samples(one), asked.block_size));
  });
  const auto& first = planned.schemes.front().*step;
  for (size_t group = 0; group < first.front().traffic.size(); group++)
    table.amounts(text("  sent by a rank in a ring, ", table.unit().name, ": ", first.front().traffic[group].group),
                  [&](const PlannedScheme& one) { return sent(one.*step)[group].second; });
  if (!asked.device) return;
  const auto estimate = [&](const PlannedScheme& one) { return estimate_step(one.*step, *asked.device); };
  table.line(text("  seconds, estimated (", asked.device->name, ")"),
             [&](const PlannedScheme& one) { return fixed(estimate(one).seconds(), 3); });
  table.line("  waiting for collectives among them",
             [&](const PlannedScheme& one) { return fixed(estimate(one).exposed, 3); });
  table.line("  tokens/s, estimated", [&](const PlannedScheme& one) {
    return with_commas(
        static_cast<int64_t>(static_cast<double>(samples(one) * asked.block_size) / estimate(one).seconds()));
  });
  table.line("  bound by", [&](const PlannedScheme& one) { return estimate(one).bound(); });
}

// ", with 8 samples in flight against 1; at 8 each …": what their smallest steps differ in beside the scheme, and what
// is left of it without.
std::string unlike_samples(const PlannedScheme& more, const PlannedScheme& less, int64_t samples,
                           const ByteUnit& unit) {
  const int64_t own = samples_of_forward(more.scheme), others = samples_of_forward(less.scheme);
  if (own == others) return "";
  const std::string unlike = text(", with ", counted(own, "sample"), " in flight against ", others);
  if (samples == 0) return unlike;
  const auto written = [&](int64_t bytes) { return unit.of(static_cast<double>(bytes), 2); };
  const auto activations = [&](const PlannedScheme& one) {
    return written(held_at_peak(one.in_flight, MemoryGroup::activations));
  };
  return text(unlike, "; at ", samples, " each, activations are ", activations(more), " against ", activations(less),
              ", and all is ", written(peak(more.in_flight)), " against ", written(peak(less.in_flight)));
}

// What the scheme holds more than the other one, the largest difference first.
std::string why(const PlannedScheme& more, const PlannedScheme& less, int64_t samples, const ByteUnit& unit) {
  struct Difference {
    std::string_view name;
    int64_t more, less;
    int64_t bytes() const { return more - less; }
  };
  std::vector<Difference> all;
  for (const MemoryGroup group : memory_groups)
    all.push_back({name_of(group), held_at_peak(more.smallest, group), held_at_peak(less.smallest, group)});
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.bytes() > b.bytes(); });
  const int64_t together = peak(more) - peak(less);
  std::string said;
  for (const Difference& one : all)
    if (one.bytes() * 20 > together)  // the rest explains less than 5% each
      said += text(said.empty() ? "" : ", ", one.name, " (", unit.of(static_cast<double>(one.more), 2), " against ",
                   unit.of(static_cast<double>(one.less), 2), ")");
  return text(more.scheme.name, " needs ", unit.of(static_cast<double>(together), 2), " ", unit.name, " more than ",
              less.scheme.name, ": ", said, unlike_samples(more, less, samples, unit), ".");
}

// Of all whose length is printed.
int64_t longest_sample(const SchemesToPlan& asked, const PlannedComparison& planned) {
  int64_t tokens = asked.block_size;
  for (const PlannedScheme& one : planned.schemes) tokens = std::max(tokens, one.longest.tokens);
  return tokens;
}

// The fewest samples that all schemes can have in flight; 0: PlannedComparison.
int64_t equal_samples(const SchemesToPlan& asked) {
  const int64_t samples = fewest_equal_samples(asked.schemes);
  int64_t fewest_forward = samples, fewest_ranks = samples;
  for (const Scheme& scheme : asked.schemes) {
    fewest_forward = std::min(fewest_forward, samples_of_forward(scheme));
    fewest_ranks = std::min<int64_t>(fewest_ranks, scheme.mesh.data_ranks());
  }
  const bool too_long = samples / fewest_ranks > most_forward_tokens / asked.block_size;
  return samples == fewest_forward || too_long ? 0 : samples;
}

}  // namespace

PlannedComparison compare_plans(const SchemesToPlan& asked) {
  PlannedComparison planned;
  planned.global_batch = asked.global_batch > 0 ? asked.global_batch : fewest_equal_samples(asked.schemes);
  planned.samples_in_flight = equal_samples(asked);
  for (const Scheme& scheme : asked.schemes) {
    const auto ranks = [&](const BatchShape& batch) {
      return plan_ranks(asked.config, options_of(scheme, batch), scheme.mesh, asked.dtype, *asked.backend);
    };
    BatchShape batch = smallest_batch(scheme, asked.block_size);
    PlannedScheme one{scheme, ranks(batch), ranks(equal_batch(scheme, planned.global_batch, asked.block_size)), {}, {}};
    batch.micro_batch = planned.samples_in_flight / scheme.mesh.data_ranks();
    if (planned.samples_in_flight > 0) one.in_flight = ranks(batch);
    if (asked.memory)
      one.longest = longest_block(most_forward_tokens / scheme.micro_batch, [&](int64_t block) {
        return peak(ranks(smallest_batch(scheme, block))) <= asked.memory->bytes;
      });
    planned.schemes.push_back(std::move(one));
  }
  return planned;
}

void print_comparison(const SchemesToPlan& asked, const PlannedComparison& planned) {
  std::printf("%s: schemes on %s, samples of %s tokens\n", asked.config.source.c_str(),
              counted(asked.schemes.front().mesh.ranks(), "rank").c_str(), with_commas(asked.block_size).c_str());
  const Table table(planned);
  table.line(text("memory of a rank at its peak, ", table.unit().name),
             [](const PlannedScheme& one) { return one.scheme.name; });
  table.line("  samples of a forward of a rank",
             [](const PlannedScheme& one) { return std::to_string(one.scheme.micro_batch); });
  print_memory(asked, table, &PlannedScheme::smallest);
  if (asked.memory)
    table.line("longest sample that fits, tokens", [](const PlannedScheme& one) { return written(one.longest); });
  if (planned.samples_in_flight > 0) {
    table.line(text("memory with ", planned.samples_in_flight, " samples in flight, ", table.unit().name),
               [&](const PlannedScheme& one) {
                 return text(planned.samples_in_flight / one.scheme.mesh.data_ranks(), " a forward");
               });
    print_memory(asked, table, &PlannedScheme::in_flight);
  }
  print_step(asked, planned, table, "a step of the smallest batch", &PlannedScheme::smallest, 0);
  print_step(asked, planned, table, "a step of one global batch", &PlannedScheme::equal, planned.global_batch);
  const auto& all = planned.schemes;
  const PlannedScheme& least = *std::min_element(
      all.begin(), all.end(), [&](const PlannedScheme& a, const PlannedScheme& b) { return peak(a) < peak(b); });
  for (const PlannedScheme& one : all)
    if (peak(one) > peak(least)) std::printf("%s\n", why(one, least, planned.samples_in_flight, table.unit()).c_str());
  if (std::any_of(all.begin(), all.end(), [](const PlannedScheme& one) { return one.longest.longer_was_not_tried; }))
    std::printf("+: no longer sample was tried.\n");
  if (const std::string beyond = beyond_positions(longest_sample(asked, planned), asked.config); !beyond.empty())
    std::printf("%s\n", beyond.c_str());
  if (asked.memory) std::printf("A rank may take %s.\n", asked.memory->words.c_str());
  std::printf("Workspace is that of %s.\n", asked.backend->description().c_str());
}

void print_comparison_json(const SchemesToPlan& asked, const PlannedComparison& planned) {
  OrderedJson schemes = OrderedJson::array();
  for (const PlannedScheme& one : planned.schemes) {
    OrderedJson json{{"scheme", one.scheme.name}, {"micro_batch", one.scheme.micro_batch}, {"peak_bytes", peak(one)}};
    for (size_t i = 0; i < category_count; i++)
      json["categories"][std::string(name_of(static_cast<Category>(i)))] = fullest(one.smallest).ledger.at_peak()[i];
    if (asked.memory) {
      json["fits"] = peak(one) <= asked.memory->bytes;
      json["longest_block_size"] = one.longest.tokens;
      json["longer_was_not_tried"] = one.longest.longer_was_not_tried;
    }
    if (planned.samples_in_flight > 0) {
      json["in_flight"] = {{"samples", planned.samples_in_flight}, {"peak_bytes", peak(one.in_flight)}};
      for (const MemoryGroup group : memory_groups)
        json["in_flight"]["groups"][std::string(name_of(group))] = held_at_peak(one.in_flight, group);
    }
    json["equal"]["accumulation"] = planned.global_batch / samples_of_forward(one.scheme);
    for (const auto& [name, ranks] : {std::pair{"smallest", &one.smallest}, std::pair{"equal", &one.equal}}) {
      for (const auto& [group, bytes] : sent(*ranks)) json[name]["sent_bytes"][group] = bytes;
      if (!asked.device) continue;
      const StepEstimate estimate = estimate_step(*ranks, *asked.device);
      json[name]["step_seconds"] = estimate.seconds();
      json[name]["exposed_seconds"] = estimate.exposed;
    }
    schemes.push_back(json);
  }
  OrderedJson json{{"config", asked.config.source},
                   {"block_size", asked.block_size},
                   {"global_batch", planned.global_batch},
                   {"workspace_of", asked.backend->description()},
                   {"schemes", schemes}};
  if (asked.memory) json["memory_limit"] = asked.memory->bytes;
  if (asked.device) json["device"] = asked.device->name;
  std::printf("%s\n", json_text(json, 1).c_str());
}

}  // namespace llama_tp
