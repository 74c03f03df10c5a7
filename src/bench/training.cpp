#include "bench/measurements.h"
#include "bench/scheme_run.h"
#include "report/format.h"
#include "report/resident.h"

namespace llama_tp {

void bench_training(const Bench& bench, const MachineRates& machine) {
  const SchemeResult result = run_usual_scheme(bench);
  const BatchShape& batch = result.batch;
  const double seconds = result.seconds(), flops = model_flops(bench.config, batch) / seconds;
  const double resident = bench.most_of_ranks(static_cast<double>(resident_memory().peak));
  bench.say(text("training    ", with_commas(static_cast<int64_t>(static_cast<double>(result.tokens()) / seconds)),
                 " tokens/s (", batch.global_batch(), " × ", batch.block_size, " tokens in ", fixed(seconds, 3),
                 " s), ", fixed(flops / 1e9, 0), " GFLOP/s = ", fixed(100 * flops / machine.product_flops, 0),
                 "% of the products' rate; ", fixed(100 * result.communication() / seconds, 0),
                 "% in collectives; planned ", bytes_text(result.fullest().reserved), ", resident ",
                 bytes_text(static_cast<int64_t>(resident)), " a rank"));
}

}  // namespace llama_tp
