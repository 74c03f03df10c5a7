// How the tables of `llama_tp plan` stand: figures of any size keep to columns of their own.
#include <gtest/gtest.h>

#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "report/format.h"
#include "support/command.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

TEST(TableWidths, EndCellsInColumnsAndCutNothing) {
  const TableWidths widths{.label = 6, .cell = 4};
  EXPECT_EQ(widths.line("ab", {"1", "23"}), "ab       1  23");
  EXPECT_EQ(widths.line("too long", {"1", "23"}), "too long   1  23");
  EXPECT_EQ(widths.line("ab", {"12345", "23"}), "ab    12345  23");
  EXPECT_EQ(widths.line("ab", {}), "ab");
  EXPECT_EQ(widths.line("", {"1", ""}), "         1");
}

TEST(TableWidths, KeepCellsApartThatFillTheirColumns) {
  const TableWidths widths{.label = 6, .cell = 4};
  EXPECT_EQ(widths.line("ab", {"1234", "1234", "123"}), "ab    1234 1234 123");
  EXPECT_EQ(widths.line("filled", {"1234", "12345"}), "filled 1234 12345");
}

// The lines of what a plan prints that `wanted` tells.
template <class Wanted>
std::vector<std::string> printed_lines(const std::string& options, const Wanted& wanted) {
  const CommandResult result = run_command(llama_tp_with(0) + " plan " + options);
  EXPECT_EQ(result.status, 0) << result.err;
  std::istringstream all(result.out);
  std::vector<std::string> lines;
  for (std::string line; std::getline(all, line);)
    if (wanted(line)) lines.push_back(line);
  return lines;
}

// Where the cells of a line end that are two spaces apart, as numbers below each other are.
std::vector<size_t> ends_of_cells(const std::string& line) {
  std::vector<size_t> ends;
  for (size_t i = 0; i < line.size(); i++)
    if (line[i] != ' ' && (i + 1 == line.size() || line.compare(i + 1, 2, "  ") == 0)) ends.push_back(i);
  return ends;
}

TEST(Plan, ColumnsOfASearchAreAsWideAsTheirFigures) {
  const char* many_ranks = "--config llama-3.2-1b --search --world 16384 --memory 80GB --block-size 8192";
  const char* many_forwards =
      "--config data/demo/config.json --search --world 4 --memory 40MiB --block-size 64 --global-batch-size 4194304";
  for (const std::string options : {many_ranks, many_forwards}) {
    const std::vector<std::string> lines = printed_lines(options, [](const std::string& line) {
      return !holds(line, "times estimated") && !holds(line, "settings fit") && !line.starts_with("workspace");
    });
    ASSERT_GT(lines.size(), 10u);
    std::set<std::vector<size_t>> ends;
    for (const std::string& line : lines) {
      std::vector<size_t> cells = ends_of_cells(line);
      ASSERT_EQ(cells.size(), 14u) << line;
      cells.pop_back();  // what the step is bound by, from its left edge on
      ends.insert(cells);
    }
    EXPECT_EQ(ends.size(), 1u) << lines[0] << "\n" << lines[1];
  }
}

TEST(Plan, HeadsOfManyScatteredRanksStandAboveTheirColumns) {
  const std::vector<std::string> lines = printed_lines(
      "--config llama-3.1-405b --tensor-parallel 64 --fsdp 128 --block-size 8192 --device h200 --verbose",
      [](const std::string& line) {
        return line.starts_with("calls of a step's collectives") || line.starts_with("  tensor (64): all_reduce");
      });
  ASSERT_EQ(lines.size(), 2u);
  const std::string heads = lines[0] + " ";
  ASSERT_TRUE(holds(heads, "rank 0 +255 more ", "rank 64 +7231 more ")) << heads;
  const std::vector<size_t> ends = ends_of_cells(lines[1]);
  for (size_t i = 1; i < ends.size(); i++)  // behind the label
    EXPECT_TRUE(heads[ends[i]] != ' ' && heads[ends[i] + 1] == ' ') << lines[0] << "\n" << lines[1];
}

TEST(Plan, ManySamplesStandInColumnsOfTheirOwn) {
  const std::vector<std::string> lines = printed_lines(
      "--config llama-3.1-8b --compare fsdp=16384 dp=16384 --block-size 8192 --device h100",
      [](const std::string& line) { return holds(line, "samples 16,384 samples") || holds(line, "x 1"); });
  ASSERT_EQ(lines.size(), 4u);
  for (const std::string& line : lines) EXPECT_EQ(line.size(), lines[0].size()) << line;
}

}  // namespace
}  // namespace llama_tp
