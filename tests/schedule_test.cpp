// Learning rates against what transformers' get_…_schedule_with_warmup give, whose lambdas are written here as they
// stand in its source; step k here has its rate of step k − 1.
#include "train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "scratch_folder.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

double of_transformers(const std::string& kind, double step, double warmup, double all) {
  if (step < warmup) return step / std::max(1.0, warmup);
  if (kind == "constant") return 1;
  if (kind == "linear") return std::max(0.0, (all - step) / std::max(1.0, all - warmup));
  const double progress = (step - warmup) / std::max(1.0, all - warmup), half_a_cycle = 0.5;
  return std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * half_a_cycle * 2 * progress)));
}

TEST(Schedule, EveryStepHasTheRateOfTransformersOneBefore) {
  for (const char* kind : {"constant", "linear", "cosine"})
    for (const int64_t warmup : {0, 1, 4, 10, 12})
      for (const int64_t steps : {1, 2, 10, 1000})
        for (int64_t k = 1; k <= steps + 2; k++) {
          const Schedule schedule{schedule_named(kind), 3e-4, warmup, steps};
          const double expected = of_transformers(kind, static_cast<double>(k - 1), static_cast<double>(warmup),
                                                  static_cast<double>(steps));
          EXPECT_NEAR(schedule.rate(k), 3e-4 * expected, 1e-18) << kind << " " << warmup << " " << steps << " " << k;
        }
}

// Printed by transformers 5.23 (learning rate 8, ten steps): the formulas above are its own.
TEST(Schedule, RatesThatTransformersPrinted) {
  struct Printed {
    const char* kind;
    int64_t warmup;
    std::vector<double> rates;
  };
  const std::vector<Printed> all{
      {"constant", 4, {0, 2, 4, 6, 8, 8, 8, 8, 8, 8, 8, 8}},
      {"linear", 0, {8, 7.2, 6.4, 5.6, 4.8, 4, 3.2, 2.4, 1.6, 0.8, 0, 0}},
      {"linear",
       4,
       {0, 2, 4, 6, 8, 6.666666666666667, 5.333333333333333, 4, 2.6666666666666665, 1.3333333333333333, 0}},
      {"linear", 10, {0, 0.8, 1.6, 2.4, 3.2, 4, 4.8, 5.6, 6.4, 7.2, 0, 0}},
      {"cosine",
       0,
       {8, 7.8042260651806146, 7.2360679774997898, 6.3511410091698925, 5.2360679774997898, 4, 2.7639320225002106,
        1.6488589908301079, 0.76393202250021064, 0.19577393481938588, 0}},
      {"cosine", 4, {0, 2, 4, 6, 8, 7.4641016151377553, 6, 4, 2, 0.53589838486224517, 0, 0.53589838486224561}}};
  for (const Printed& printed : all)
    for (size_t i = 0; i < printed.rates.size(); i++) {
      const Schedule schedule{schedule_named(printed.kind), 8, printed.warmup, 10};
      EXPECT_NEAR(schedule.rate(static_cast<int64_t>(i) + 1), printed.rates[i], 1e-14) << printed.kind << " " << i;
    }
}

TEST(Schedule, AnUnknownWordIsRefusedWithThoseThatAreKnown) {
  EXPECT_TRUE(holds(error_of([] { schedule_named("polynomial"); }), "--lr-scheduler-type polynomial",
                    "constant, linear or cosine"));
}

}  // namespace
}  // namespace llama_tp
