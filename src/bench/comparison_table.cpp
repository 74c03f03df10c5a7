#include "bench/comparison_table.h"

#include <algorithm>
#include <cmath>

#include "bench/equal_work.h"
#include "report/format.h"

namespace llama_tp {

namespace {

constexpr TableWidths least_widths{.label = 42, .cell = 19};
constexpr double mib = 1024.0 * 1024;

// What would be rounded to nothing is said to be less than the last digit.
std::string rounded(double value, int digits) {
  const std::string shown = fixed(value, digits);
  const bool lost = value > 0 && shown.find_first_of("123456789") == std::string::npos;
  return lost ? "<" + shown.substr(0, shown.size() - 1) + "1" : shown;
}

class Table {
 public:
  explicit Table(const std::vector<SchemeResult>& results) : results_(results) {
    for (const SchemeResult& result : results)
      widths_.cell = std::max(widths_.cell, static_cast<int>(result.scheme.name.size()) + 2);
  }

  void head(const std::string& label) { text_ += label + "\n"; }
  void schemes(const std::string& label) {
    line(label, [](const SchemeResult& result) { return result.scheme.name; });
  }
  // One value a scheme.
  template <class Value>
  void line(const std::string& label, const Value& value) {
    line(label, results_, value);
  }
  // Of other results of the same schemes.
  template <class Value>
  void line(const std::string& label, const std::vector<SchemeResult>& results, const Value& value) {
    std::vector<std::string> cells;
    for (const SchemeResult& result : results) cells.push_back(value(result));
    text_ += widths_.line(label, cells) + "\n";
  }
  // Left out where all are 0.
  template <class Value>
  void numbers(const std::string& label, int digits, const Value& value) {
    if (std::any_of(results_.begin(), results_.end(), [&](const SchemeResult& result) { return value(result) != 0; }))
      line(label, [&](const SchemeResult& result) { return rounded(value(result), digits); });
  }

  const std::string& text() const { return text_; }

 private:
  const std::vector<SchemeResult>& results_;
  TableWidths widths_ = least_widths;
  std::string text_;
};

void add_memory(Table& table) {
  table.head("memory of a rank at its peak, MiB");
  for (size_t i = 0; i < category_count; i++)
    table.numbers(text("  ", name_of(static_cast<Category>(i))), 3,
                  [i](const SchemeResult& result) { return static_cast<double>(result.fullest().measured[i]) / mib; });
  table.numbers("  measured", 3,
                [](const SchemeResult& result) { return static_cast<double>(result.fullest().peak) / mib; });
  table.numbers("  planned", 3,
                [](const SchemeResult& result) { return static_cast<double>(result.fullest().planned_peak) / mib; });
  table.line("  as planned, on every rank",
             [](const SchemeResult& result) { return std::string(result.as_planned() ? "to the byte" : "NO"); });
}

void add_times(Table& table) {
  table.head("a step, ms: computation / collectives");
  for (size_t i = 0; i < phase_count; i++) {
    const auto name = text("  ", name_of(static_cast<Phase>(i)));
    if (static_cast<Phase>(i) < Phase::forward || static_cast<Phase>(i) > Phase::optimizer) continue;
    table.line(name, [i](const SchemeResult& result) {
      const PhaseTime time = result.times()[i];
      return fixed(time.compute * 1e3, 1) + " / " + fixed(time.communication * 1e3, 1);
    });
  }
  table.line("  together", [](const SchemeResult& result) {
    return fixed((result.seconds() - result.communication()) * 1e3, 1) + " / " + fixed(result.communication() * 1e3, 1);
  });
  table.numbers("a step, ms", 1, [](const SchemeResult& result) { return result.seconds() * 1e3; });
  table.line("tokens/s, all ranks",
             [](const SchemeResult& result) { return with_commas(std::llround(result.tokens_per_second())); });
}

void add_traffic(Table& table) {
  table.head("sent by a rank in a step (in a ring), MiB");
  for (int group = 0; group < group_count; group++)
    for (int i = 0; i < static_cast<int>(Collective::count_); i++)
      table.numbers(text("  ", group_names[static_cast<size_t>(group)], ": ", name_of(static_cast<Collective>(i))), 3,
                    [=](const SchemeResult& result) { return result.sent(group, static_cast<Collective>(i)) / mib; });
}

}  // namespace

std::string comparison_table(const Comparison& comparison) {
  Table table(comparison.results);
  table.schemes(text(name_of(comparison.rule)));
  table.line("sequences x tokens of a step", [](const SchemeResult& result) {
    return text(result.batch.global_batch(), " x ", result.batch.block_size);
  });
  table.line("forwards x sequences of a rank", [](const SchemeResult& result) { return forwards_words(result.batch); });
  add_memory(table);
  add_times(table);
  add_traffic(table);
  table.line("loss of the last step", [](const SchemeResult& result) { return fixed(result.losses.back(), 4); });
  return table.text();
}

std::string growth_table(const ComparisonRun& run) {
  if (run.growth.empty()) return "";
  Table table(run.growth.front().results);
  for (const BatchRule rule : {BatchRule::equal, BatchRule::smallest}) {
    table.schemes(text("growth with context, ", name_of(rule)));
    for (const bool memory : {true, false})
      for (const Comparison& comparison : run.growth)
        if (comparison.rule == rule)
          table.line(text("  ", comparison.block_size, " tokens, ", memory ? "peak MiB a rank" : "ms a step"),
                     comparison.results, [&](const SchemeResult& result) {
                       if (!result.is_measured()) return std::string("does not fit");
                       return memory ? mebibytes(static_cast<double>(result.fullest().peak), 3)
                                     : fixed(result.seconds() * 1e3, 1);
                     });
  }
  return table.text();
}

std::string unfit_lines(const ComparisonRun& run) {
  std::string all;
  for (const std::string& line : run.unfit) all += line + "\n";
  return all;
}

}  // namespace llama_tp
