#include "bench/verdict.h"

#include <algorithm>
#include <cmath>

#include "bench/equal_work.h"
#include "report/format.h"

namespace llama_tp {

namespace {

// Numbers this near to each other are called even: tensor ranks hold the norms whole, FSDP ranks pad their pieces, and
// times move by some percent from run to run.
constexpr double even = 0.05;

struct Fact {
  std::string what;
  double tensor, fsdp;
  bool more_is_better;
  std::string unit;
  int digits;

  // Above 0: tensor parallelism is ahead, below 0 behind, 0 even.
  int ahead() const {
    if (std::abs(tensor - fsdp) <= even * std::max(tensor, fsdp)) return 0;
    return (tensor > fsdp) == more_is_better ? 1 : -1;
  }
  std::string number(double value) const {
    return digits == 0 ? with_commas(std::llround(value)) : fixed(value, digits);
  }
  std::string said() const { return what + " (" + number(tensor) + " against " + number(fsdp) + unit + ")"; }
};

double mib_of(int64_t bytes) { return static_cast<double>(bytes) / (1024 * 1024); }
double state(const SchemeResult& result) { return mib_of(sum_of(result.fullest().measured, MemoryGroup::state)); }
double gathered(const SchemeResult& result) { return mib_of(sum_of(result.fullest().measured, MemoryGroup::gathered)); }
// Of the activations those that wait for backward, without a layer's transient ones.
double kept_activations(const SchemeResult& result) {
  return mib_of(sum_of(result.fullest().measured, {Category::saved_split, Category::saved_whole}));
}
double exposed(const SchemeResult& result) { return 100 * result.communication() / result.seconds(); }

std::vector<Fact> facts(const ComparisonRun& run, size_t tensor, size_t fsdp) {
  const SchemeResult &tp = run.equal.results[tensor], &sharded = run.equal.results[fsdp];
  const SchemeResult &tp_small = run.smallest.results[tensor], &sharded_small = run.smallest.results[fsdp];
  const auto batch = [](const SchemeResult& result) { return static_cast<double>(result.batch.global_batch()); };
  return {{"activations kept at the smallest batch", kept_activations(tp_small), kept_activations(sharded_small), false,
           " MiB a rank", 2},
          {"gathered weights and unsharded gradients", gathered(tp), gathered(sharded), false, " MiB a rank", 2},
          {"the smallest batch", batch(tp_small), batch(sharded_small), false, " sequences", 0},
          {"time until one sequence is trained on", tp_small.seconds() * 1e3, sharded_small.seconds() * 1e3, false,
           " ms", 1},
          {"state", state(tp), state(sharded), false, " MiB a rank", 2},
          {text("activations kept at an equal global batch, forwards ", forwards_words(tp.batch), " against ",
                forwards_words(sharded.batch)),
           kept_activations(tp), kept_activations(sharded), false, " MiB a rank", 2},
          {"throughput at an equal global batch", tp.tokens_per_second(), sharded.tokens_per_second(), true,
           " tokens/s", 0},
          {"exposed collectives at an equal global batch", exposed(tp), exposed(sharded), false, "% of a step", 0}};
}

std::string list(const std::vector<Fact>& facts, int ahead) {
  std::string all;
  for (const Fact& fact : facts)
    if (fact.ahead() == ahead) all += (all.empty() ? "" : ", ") + fact.said();
  return all;
}

}  // namespace

std::string verdict(const ComparisonRun& run) {
  const auto first = [&](const auto& is) {
    return static_cast<size_t>(std::find_if(run.schemes.begin(), run.schemes.end(), is) - run.schemes.begin());
  };
  const size_t tensor = first([](const Scheme&one) { return one.mesh.tensor > 1 && one.mesh.data_ranks() == 1; }),
               fsdp = first([](const Scheme&one) { return one.mesh.fsdp == one.mesh.ranks() && one.mesh.fsdp > 1; });
  if (std::max(tensor, fsdp) == run.schemes.size())
    return "To say where tensor parallelism wins, compare a pure tp scheme with a pure fsdp one.";
  const std::vector<Fact> all = facts(run, tensor, fsdp);
  const std::string wins = list(all, 1), evens = list(all, 0), loses = list(all, -1);
  std::string said = run.schemes[tensor].name + (wins.empty() ? " is nowhere ahead of " : " wins against ") +
                     run.schemes[fsdp].name + (wins.empty() ? "" : " in " + wins) + ".";
  if (!evens.empty()) said += " It does not win in " + evens + ": even";
  if (!loses.empty()) said += (evens.empty() ? " It does not win in " : "; nor in ") + loses + ": behind";
  return evens.empty() && loses.empty() ? said : said + ".";
}

}  // namespace llama_tp
