#include "bench/comparison.h"

#include <algorithm>
#include <set>
#include <sstream>

#include "base/parse_count.h"
#include "bench/equal_work.h"
#include "parallel/host_values.h"
#include "report/format.h"

namespace llama_tp {

namespace {

// Why the step does not fit, "" where it does: planned, of the rank that lacks the most. Collective.
std::string lack_of_memory(const Bench& bench, const Scheme& scheme, const BatchShape& batch) {
  const RankPlan own = plan_rank(bench.config, options_of(scheme, batch), scheme.mesh, bench.launch.rank(),
                                 bench.settings.dtype, *bench.backend);
  struct Room {
    int64_t needed, free;
    int64_t lacks() const { return needed - free; }
  };
  const std::vector<Room> all = gather_values(*bench.world, Room{own.memory.total(), bench.backend->free_memory()});
  const auto tightest =
      std::max_element(all.begin(), all.end(), [](const Room& a, const Room& b) { return a.lacks() < b.lacks(); });
  if (tightest->lacks() <= 0) return "";
  return text(scheme.name, " does not fit with ", batch.micro_batch, " x ", batch.block_size,
              " tokens of a forward: rank ", tightest - all.begin(), " needs ", bytes_text(tightest->needed), ", but ",
              are_free(tightest->free, *bench.backend));
}

using Point = std::pair<std::string, int64_t>;  // scheme, block size

// Each (scheme, forwards, block size) is run once, whichever rules ask for it.
class Comparer {
 public:
  // unfit: what is not to be run.
  Comparer(const Bench& bench, const std::vector<Scheme>& schemes, int64_t global_batch, std::set<Point> unfit)
      : bench_(bench), schemes_(schemes), global_batch_(global_batch), unfit_(std::move(unfit)) {}

  Comparison at(BatchRule rule, int64_t block_size) {
    Comparison comparison{rule, block_size, {}};
    for (const Scheme& scheme : schemes_)
      comparison.results.push_back(result(scheme, rule == BatchRule::smallest
                                                      ? smallest_batch(scheme, block_size)
                                                      : equal_batch(scheme, global_batch_, block_size)));
    return comparison;
  }

 private:
  SchemeResult result(const Scheme& scheme, const BatchShape& batch) {
    if (unfit_.contains({scheme.name, batch.block_size})) return {scheme, batch, {}, {}, {}, {}};
    for (const SchemeResult& known : known_)
      if (known.scheme.name == scheme.name && known.batch.accumulation == batch.accumulation &&
          known.batch.block_size == batch.block_size)
        return known;
    known_.push_back(run_scheme(bench_, scheme, batch));
    return known_.back();
  }

  const Bench& bench_;
  const std::vector<Scheme>& schemes_;
  int64_t global_batch_;
  std::set<Point> unfit_;
  std::vector<SchemeResult> known_;
};

}  // namespace

std::string_view name_of(BatchRule rule) { return rule == BatchRule::equal ? "equal global batch" : "smallest batch"; }

std::vector<int64_t> parse_sweep(const std::string& written) {
  const size_t sign = std::min(written.find('='), written.size());
  std::string key = written.substr(0, sign);
  std::replace(key.begin(), key.end(), '_', '-');
  require(key == "block-size" && sign < written.size(), "--sweep ", written,
          ": only block-size can be swept; write it like block-size=512,1024");
  std::vector<int64_t> sizes;
  std::istringstream list(written.substr(sign + 1));
  for (std::string one; std::getline(list, one, ',');) {
    const std::optional<int64_t> size = parse_count(one, 2, most_forward_tokens);
    require(size.has_value(), "--sweep ", written, ": \"", one, "\" is no number of tokens; give some from 2 to ",
            most_forward_tokens);
    sizes.push_back(*size);
  }
  require(!sizes.empty(), "--sweep ", written, ": no sizes; write it like block-size=512,1024");
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

ComparisonRun compare(const Bench& bench, const ComparisonSettings& settings) {
  const BenchSettings& usual = bench.settings;
  const std::vector<Scheme> asked =
      parse_schemes(settings.schemes, {bench.config, bench.launch.size(), bench.launch.starter(),
                                       usual.sequence_parallel, usual.recompute, usual.fsdp});
  const int64_t global_batch = settings.global_batch > 0 ? settings.global_batch : fewest_equal_samples(asked);
  const std::vector<int64_t>& swept = settings.block_sizes;  // ascending
  const int64_t longest = swept.empty() ? usual.block_size : std::max(usual.block_size, swept.back());
  for (const Scheme& scheme : asked) equal_batch(scheme, global_batch, longest);
  ComparisonRun run;
  // Forwards of a step take the same memory one after another, so what fits under one rule fits under the other.
  const auto fits = [&](const Scheme& scheme, int64_t block_size) {
    const std::string lack = lack_of_memory(bench, scheme, equal_batch(scheme, global_batch, block_size));
    if (!lack.empty()) run.unfit.push_back(lack);
    return lack.empty();
  };
  for (const Scheme& scheme : asked)
    if (fits(scheme, usual.block_size)) run.schemes.push_back(scheme);
  require(!run.schemes.empty(), "--compare ", run.unfit.empty() ? "" : run.unfit.front(),
          ", and no other scheme fits; ", more_ranks(*bench.backend),
          ", a shorter --block-size, a smaller micro or recompute=on need less");
  std::set<Point> unfit;
  for (const Scheme& scheme : run.schemes)
    for (const int64_t size : swept)
      if (size != usual.block_size && !fits(scheme, size)) unfit.insert({scheme.name, size});
  Comparer comparer(bench, run.schemes, global_batch, std::move(unfit));
  run.equal = comparer.at(BatchRule::equal, usual.block_size);
  run.smallest = comparer.at(BatchRule::smallest, usual.block_size);
  for (const int64_t size : swept)
    for (const BatchRule rule : {BatchRule::equal, BatchRule::smallest}) run.growth.push_back(comparer.at(rule, size));
  return run;
}

}  // namespace llama_tp
