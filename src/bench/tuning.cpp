#include "bench/tuning.h"

#include "io/files.h"
#include "report/format.h"

namespace llama_tp {

namespace {

constexpr TableWidths product_widths{.label = 36, .cell = 9};

std::string row_of(const TimedProduct& product) {
  const ProductTimes& times = product.times;
  const double flops = 2.0 * static_cast<double>(product.m) * static_cast<double>(product.n * product.k);
  const auto rate = [&](double seconds) { return fixed(flops / seconds / 1e12, 1); };
  return product_widths.line("  " + product.kind,
                             {std::to_string(product.m), std::to_string(product.n), std::to_string(product.k),
                              std::to_string(times.algorithms), rate(times.first_seconds), rate(times.chosen_seconds),
                              fixed(times.first_seconds / times.chosen_seconds, 3)});
}

}  // namespace

void check_tuning(const Bench& bench, const ProductFile& before) {
  ProductTuner* const tuner = bench.backend->product_tuner();
  require(tuner != nullptr, "--tune-products: the CPU backend has no products to choose for (",
          bench.backend->description(), "); leave it out, or take --backend cuda");
  tuner->check(before);
}

void bench_tuning(const Bench& bench, const std::string& path, const ProductFile& before) {
  bench.say("products, in TFLOP/s by the first heuristic and by what was chosen");
  bench.say(product_widths.line("", {"m", "n", "k", "tried", "first", "chosen", "ratio"}));
  int64_t count = 0;
  const std::string text_of_file = bench.backend->product_tuner()->tune(before, [&](const TimedProduct& product) {
    count++;
    bench.say(row_of(product));
  });
  replace_text(path, text_of_file);
  bench.say(text("products    ", count, " in ", path, "; later runs take them with --products ", path));
}

}  // namespace llama_tp
