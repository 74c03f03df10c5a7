#include <functional>

#include "bench/measurements.h"
#include "bench/timing.h"
#include "model/runtime.h"
#include "report/format.h"

namespace llama_tp {

void bench_collectives(const Bench& bench) {
  constexpr int64_t times = 201, most_bytes = int64_t{4} << 20;
  const std::unique_ptr<Mesh> mesh = bench.mesh();
  Communicator& group = mesh->groups().tensor;
  Runtime own(*bench.backend, mesh->groups(), DType::bf16);
  own.reserve({.state = 2 * most_bytes});
  const auto time = [&](const std::function<void()>& collective) {
    const double seconds = median_seconds(times, [&] {
      collective();
      own.backend.synchronize();
    });
    return fixed(seconds * 1e6, 1);
  };
  bench.say(text("collectives of ", group.size(), " tensor-parallel ranks, bf16, µs\n    bytes",
                 padded("all-reduce", 13), padded("all-gather", 12), padded("reduce-scatter", 16)));
  for (const int64_t bytes :
       {int64_t{8} << 10, int64_t{64} << 10, int64_t{256} << 10, int64_t{1536} << 10, most_bytes}) {
    PushScope scope(own.state);
    const int64_t elements = bytes / size_of(DType::bf16) / group.size();
    const Tensor all = own.state.push(Category::communication, {elements * group.size()}, DType::bf16),
                 part = own.state.push(Category::communication, {elements}, DType::bf16);
    const std::string reduce = time([&] { group.all_reduce(all).wait(); });
    const std::string gather = time([&] { group.all_gather(part, all).wait(); });
    const std::string scatter = time([&] { group.reduce_scatter(all, part).wait(); });
    bench.say(padded(with_commas(bytes), 9) + padded(reduce, 13) + padded(gather, 12) + padded(scatter, 16));
  }
}

}  // namespace llama_tp
