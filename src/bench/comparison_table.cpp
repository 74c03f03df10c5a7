#include "bench/comparison_table.h"

#include <algorithm>
#include <cmath>

#include "bench/equal_work.h"
#include "report/format.h"

namespace llama_tp {

namespace {

constexpr int row_label_width = 42, least_column = 19;
constexpr double mib = 1024.0 * 1024;

// What would be rounded to nothing is said to be less than the last digit.
std::string rounded(double value, int digits) {
  const std::string shown = fixed(value, digits);
  const bool lost = value > 0 && shown.find_first_of("123456789") == std::string::npos;
  return lost ? "<" + shown.substr(0, shown.size() - 1) + "1" : shown;
}

class Table {
 public:
  explicit Table(const Comparison& comparison) : comparison_(comparison), width_(least_column) {
    for (const SchemeResult& result : comparison.results)
      width_ = std::max(width_, static_cast<int>(result.scheme.name.size()) + 2);
  }

  // One value a scheme.
  template <class Value>
  void line(const std::string& label, const Value& value) {
    text_ += label +
             std::string(static_cast<size_t>(std::max<int>(0, row_label_width - static_cast<int>(label.size()))), ' ');
    for (const SchemeResult& result : comparison_.results) text_ += padded(value(result), width_);
    text_ += "\n";
  }
  void head(const std::string& label) { text_ += label + "\n"; }

  // Left out where all are 0.
  template <class Value>
  void numbers(const std::string& label, int digits, const Value& value) {
    const auto& all = comparison_.results;
    if (std::any_of(all.begin(), all.end(), [&](const SchemeResult& result) { return value(result) != 0; }))
      line(label, [&](const SchemeResult& result) { return rounded(value(result), digits); });
  }

  const std::string& text() const { return text_; }

 private:
  const Comparison& comparison_;
  int width_;
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

std::string schemes_in_columns(const std::vector<SchemeResult>& results, int width) {
  std::string line;
  for (const SchemeResult& result : results) line += padded(result.scheme.name, width);
  return line;
}

}  // namespace

std::string comparison_table(const Comparison& comparison) {
  Table table(comparison);
  table.line(text(name_of(comparison.rule)), [](const SchemeResult& result) { return result.scheme.name; });
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
  std::string out;
  for (const BatchRule rule : {BatchRule::equal, BatchRule::smallest}) {
    if (run.growth.empty()) continue;
    int width = least_column;
    for (const Scheme& scheme : run.schemes) width = std::max(width, static_cast<int>(scheme.name.size()) + 2);
    std::string label = text("growth with context, ", name_of(rule));
    label.resize(row_label_width, ' ');
    out += label + schemes_in_columns(run.growth.front().results, width) + "\n";
    for (const bool memory : {true, false})
      for (const Comparison& comparison : run.growth) {
        if (comparison.rule != rule) continue;
        std::string line = text("  ", comparison.block_size, " tokens, ", memory ? "peak MiB a rank" : "ms a step");
        line.resize(row_label_width, ' ');
        for (const SchemeResult& result : comparison.results)
          line += padded(!result.is_measured() ? "does not fit"
                         : memory              ? mebibytes(static_cast<double>(result.fullest().peak), 3)
                                               : fixed(result.seconds() * 1e3, 1),
                         width);
        out += line + "\n";
      }
  }
  return out;
}

std::string unfit_lines(const ComparisonRun& run) {
  std::string all;
  for (const std::string& line : run.unfit) all += line + "\n";
  return all;
}

}  // namespace llama_tp
