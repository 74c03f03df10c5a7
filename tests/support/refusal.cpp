#include "support/refusal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "support/small_model.h"

namespace llama_tp {

namespace {

// Seconds from the line on stderr to the end of all ranks. One is promised; the rest is for other tests, which run at the
// same time. A rank that nobody stops would take for ever.
constexpr double soon = 6;

}  // namespace

CommandResult expect_refused(int ranks, const std::string& arguments, const Words& words) {
  SCOPED_TRACE(text(ranks, " ranks: ", arguments));
  const CommandResult result = run_command(llama_tp_with(ranks) + " " + arguments);
  expect_refusal(result, words, ranks == 0);
  return result;
}

void expect_refusal(const CommandResult& result, const Words& words, bool alone) {
  EXPECT_FALSE(result.timed_out);
  EXPECT_NE(result.status, 0) << result.out;
  EXPECT_TRUE(!alone || result.status == 1) << result.status << result.err;
  EXPECT_LT(result.seconds_after_error, soon);
  const std::vector<std::string> errors = result.errors();
  ASSERT_EQ(errors.size(), 1u) << result.err;
  for (const std::string& word : words) EXPECT_NE(errors[0].find(word), std::string::npos) << word << "\n" << errors[0];
  for (const char* internal : {"terminate", "exception", "what()", "basic_", "Assertion", "signal"})
    EXPECT_EQ(without_notice(result.err).find(internal), std::string::npos) << result.err;
}

std::string snapshot(const std::string& folder) {
  std::vector<std::string> entries;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    entries.push_back(entry.path().string() + (entry.is_regular_file() ? ": " + whole_file(entry.path()) : "/") + "\n");
  std::sort(entries.begin(), entries.end());
  std::string all;
  for (const std::string& entry : entries) all += entry;
  return all;
}

}  // namespace llama_tp
