#include "bench/comparison.h"

#include <algorithm>
#include <sstream>

#include "base/parse_count.h"
#include "bench/equal_work.h"

namespace llama_tp {

namespace {

// Each (scheme, forwards, block size) is run once, whichever rules ask for it.
class Comparer {
 public:
  // longest: the largest block size.
  Comparer(const Bench& bench, const std::vector<Scheme>& schemes, int64_t global_batch, int64_t longest)
      : bench_(bench), schemes_(schemes), global_batch_(global_batch) {
    for (const Scheme& scheme : schemes) equal_batch(scheme, global_batch, longest);
  }

  Comparison at(BatchRule rule, int64_t block_size) {
    Comparison comparison{rule, block_size, {}};
    for (const Scheme& scheme : schemes_)
      comparison.results.push_back(result(scheme, rule == BatchRule::smallest
                                                      ? smallest_batch(scheme, block_size)
                                                      : equal_batch(scheme, global_batch_, block_size)));
    return comparison;
  }

 private:
  const SchemeResult& result(const Scheme& scheme, const BatchShape& batch) {
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
  ComparisonRun run{parse_schemes(settings.schemes, {bench.config, bench.plan, bench.launch.size(), "mpirun started",
                                                     usual.sequence_parallel, usual.recompute, usual.fsdp}),
                    {},
                    {},
                    {}};
  const int64_t global_batch = settings.global_batch > 0 ? settings.global_batch : fewest_equal_samples(run.schemes);
  const std::vector<int64_t>& swept = settings.block_sizes;  // ascending
  const int64_t longest = swept.empty() ? usual.block_size : std::max(usual.block_size, swept.back());
  Comparer comparer(bench, run.schemes, global_batch, longest);
  run.equal = comparer.at(BatchRule::equal, bench.settings.block_size);
  run.smallest = comparer.at(BatchRule::smallest, bench.settings.block_size);
  for (const int64_t size : settings.block_sizes)
    for (const BatchRule rule : {BatchRule::equal, BatchRule::smallest}) run.growth.push_back(comparer.at(rule, size));
  return run;
}

}  // namespace llama_tp
