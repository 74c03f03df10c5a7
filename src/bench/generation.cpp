#include "bench/measurements.h"
#include "bench/timing.h"
#include "generate/generator.h"
#include "model/checkpoint.h"
#include "report/format.h"

namespace llama_tp {

void bench_generation(const Bench& bench, const MachineRates& machine) {
  const int64_t prompt = bench.settings.prompt_tokens, tokens = bench.settings.new_tokens,
                sequences = bench.settings.sequences, context = prompt + tokens + 1;
  const ModelConfig& config = bench.config;
  const std::unique_ptr<Mesh> mesh = bench.mesh();
  Runtime own(*bench.backend, mesh->groups(), bench.settings.dtype);
  const std::vector<int64_t> prompts(static_cast<size_t>(sequences), prompt);
  own.reserve(plan_generation(config, context, {prompts}, *bench.backend, own), MemoryUse::generation);
  Generator generator(config, context, own, sequences);
  initialize_weights(config, 1, generator.parameters(), *bench.backend);
  bench.world->barrier();
  const std::vector<int32_t> ones(static_cast<size_t>(prompt), 1);
  std::vector<Feed> feeds;
  for (int64_t s = 0; s < sequences; s++) feeds.push_back({s, ones});
  if (bench.backend->device() != nullptr) {  // which loads kernels when they are first called
    generator.feed(feeds);
    for (const Feed& each : feeds) generator.rewind(each.sequence, 0);
    generator.finish();
  }
  const double prompt_seconds = seconds_of([&] { generator.feed(feeds); });
  const double seconds = median_seconds(tokens, [&] {
    for (Feed& each : feeds) each.tokens = {&generator.choice(each.sequence).id, 1};
    generator.feed(feeds);
  });
  generator.finish();
  // Of a forward that was timed, as the first was not.
  const double bytes = generator.bytes_read(prompt + 1, tokens) / static_cast<double>(tokens);
  const double weights =
      static_cast<double>(parameter_count(config) - config.vocabulary * config.hidden * (config.tied ? 1 : 2));
  const auto all = static_cast<double>(prompt * sequences);
  const auto copies = static_cast<double>(bench.launch.size() / mesh->shape().tensor);
  const double prompt_flops = 2 * weights * all / prompt_seconds,
               byte_rate = bench.sum_over_ranks(bytes) / copies / seconds;
  bench.say(text("prompt      ", fixed(all / prompt_seconds, 1), " tokens/s (", counted(sequences, "sequence"), " of ",
                 prompt, " tokens), ", fixed(prompt_flops / 1e9, 0),
                 " GFLOP/s = ", fixed(100 * prompt_flops / machine.product_flops, 0), "% of the products' rate"));
  bench.say(text("generation  ", fixed(static_cast<double>(sequences) / seconds, 2), " tokens/s, ",
                 fixed(byte_rate / 1e9, 1), " GB/s = ", fixed(100 * byte_rate * copies / machine.read_bytes, 0),
                 "% of the read bandwidth"));
}

}  // namespace llama_tp
