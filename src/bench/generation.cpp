#include "bench/rates.h"
#include "bench/stopwatch.h"
#include "generate/generator.h"
#include "model/checkpoint.h"
#include "report/format.h"

namespace llama_tp {

void bench_generation(const Bench& bench, const MachineRates& machine) {
  const int64_t prompt = bench.settings.prompt_tokens, tokens = bench.settings.new_tokens,
                context = prompt + tokens + 1;
  const ModelConfig& config = bench.config;
  const std::unique_ptr<Mesh> mesh = bench.mesh();
  Runtime own(*bench.backend, mesh->tensor(), mesh->kv_replicas(), mesh->shards(), bench.settings.dtype);
  own.reserve(plan_generation(config, bench.plan, context, prompt, *bench.backend, own));
  Generator generator(config, bench.plan, context, own);
  initialize_weights(config, 1, generator.parameters(), *bench.backend);
  bench.world->barrier();
  const double prompt_seconds =
      seconds_of([&] { generator.feed(std::vector<int32_t>(static_cast<size_t>(prompt), 1)); });
  const double seconds = median_seconds(tokens, [&] { generator.feed(std::vector<int32_t>{1}); });
  double bytes = static_cast<double>(own.cache.high_water());
  for (const Weight& weight : generator.parameters().weights())
    if (weight.name != "embedding" || config.tied) bytes += static_cast<double>(weight.value.bytes());
  const double weights =
      static_cast<double>(parameter_count(config) - config.vocabulary * config.hidden * (config.tied ? 1 : 2));
  const double prompt_flops = 2 * weights * static_cast<double>(prompt) / prompt_seconds,
               byte_rate = bench.sum_over_ranks(bytes) / seconds;
  bench.say(text("prompt      ", fixed(static_cast<double>(prompt) / prompt_seconds, 1), " tokens/s (", prompt,
                 " tokens), ", fixed(prompt_flops / 1e9, 0),
                 " GFLOP/s = ", fixed(100 * prompt_flops / machine.product_flops, 0), "% of the products' rate"));
  bench.say(text("generation  ", fixed(1 / seconds, 2), " tokens/s, ", fixed(byte_rate / 1e9, 1),
                 " GB/s = ", fixed(100 * byte_rate / machine.read_bytes, 0), "% of the read bandwidth"));
}

}  // namespace llama_tp
