#include "bench/rates.h"
#include "bench/stopwatch.h"
#include "report/format.h"

namespace llama_tp {

void bench_collectives(const Bench& bench) {
  constexpr int64_t times = 201;
  const std::unique_ptr<Mesh> mesh = bench.mesh();
  Communicator& group = mesh->tensor();
  bench.say(text("collectives of ", group.size(), " tensor-parallel ranks, bf16, µs\n    bytes",
                 padded("all-reduce", 13), padded("all-gather", 12), padded("reduce-scatter", 16)));
  for (const int64_t bytes :
       {int64_t{8} << 10, int64_t{64} << 10, int64_t{256} << 10, int64_t{1536} << 10, int64_t{4096} << 10}) {
    const int64_t elements = bytes / size_of(DType::bf16) / group.size();
    std::vector<bf16> whole(static_cast<size_t>(elements * group.size())), part(static_cast<size_t>(elements));
    const Tensor all{whole.data(), DType::bf16, {elements * group.size()}}, own{part.data(), DType::bf16, {elements}};
    const double reduce = median_seconds(times, [&] { group.all_reduce(all).wait(); });
    const double gather = median_seconds(times, [&] { group.all_gather(own, all).wait(); });
    const double scatter = median_seconds(times, [&] { group.reduce_scatter(all, own).wait(); });
    bench.say(padded(with_commas(bytes), 9) + padded(fixed(reduce * 1e6, 1), 13) + padded(fixed(gather * 1e6, 1), 12) +
              padded(fixed(scatter * 1e6, 1), 16));
  }
}

}  // namespace llama_tp
