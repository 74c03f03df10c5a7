// Tuning matrix products, and runs with the file that it makes, with CUDA's runtime and cuBLASLt doubled on the emulated
// device (cuda/double.h, cuda/cublas_lt_double.h): which algorithm is chosen, that products are then computed by it and
// by no other, and what of a file is refused. What the double cannot show is how fast anything is.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "backend/device.h"
#include "backend/fill.h"
#include "bench/measurements.h"
#include "bench/scheme_run.h"
#include "bench/tuning.h"
#include "cuda/cublas_lt_double.h"
#include "cuda/double.h"
#include "io/files.h"
#include "scratch_folder.h"
#include "support/error_of.h"
#include "support/ranks.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

constexpr int64_t tokens = 12, K = 24, N = 40;

class ProductTuning : public testing::Test {
 protected:
  void TearDown() override {
    cuda_double() = {};
    cublas_lt_double() = {};
  }

  // As in a rehearsal.
  static Tensor shaped(const Shape& shape) { return {nullptr, DType::f32, shape}; }

  static int64_t scratch_of(Backend& backend, int64_t rows) {
    return backend.linear_forward_workspace(shaped({rows, K}), shaped({N, K}), shaped({N}), shaped({rows, N}));
  }

  // y[T, N] = x · wᵀ + bias on a device, as operations are: scratch is asked for, reserved and given.
  static std::vector<float> forward(Backend& backend, int64_t inputs = K) {
    Ledger ledger;
    Arena arena("memory", ledger), scratch("scratch", ledger);
    const Tensor x = shaped({tokens, inputs}), w = shaped({N, inputs}), bias = shaped({N}), y = shaped({tokens, N});
    constexpr int64_t enough = int64_t{1} << 18;
    EXPECT_LE(backend.linear_forward_workspace(x, w, bias, y), enough);
    for (Arena* each : {&scratch, &arena}) each->reserve(backend, enough);
    arena.push(Category::data, {1}, DType::f32);  // the others begin at a multiple of 256 bytes, and of no more
    const auto take = [&](const Tensor& like) {
      const Tensor tensor = arena.push(Category::transient, like.shape, like.dtype);
      fill(backend, tensor);
      return tensor;
    };
    const Tensor of_x = take(x), of_w = take(w), of_bias = take(bias), of_y = take(y);
    const Workspace workspace(backend, scratch);
    backend.linear_forward(of_x, of_w, of_bias, of_y);
    std::vector<float> result(tokens * N);
    backend.download(of_y, result.data());
    return result;
  }

  // The product above, tuned: the file, and what was said of it.
  struct Tuned {
    std::string file;
    std::vector<TimedProduct> said;
  };
  static Tuned tune(const ProductFile& before = {}) {
    const auto backend = make_backend("cuda", {});
    forward(*backend);
    Tuned tuned;
    tuned.file = backend->product_tuner()->tune(before, [&](const TimedProduct& one) { tuned.said.push_back(one); });
    return tuned;
  }

  // By which of the double's algorithms a run with this file computes the product.
  static size_t algorithm_with(const std::string& file) {
    const auto backend = make_backend("cuda", {.products = {"tuned.json", file}});
    cublas_lt_double().multiplied.clear();
    forward(*backend);
    EXPECT_EQ(cublas_lt_double().multiplied.size(), 1u);
    return cublas_lt_double().multiplied.back();
  }

  static std::string refusal_of(const std::string& file) {
    return error_of([&] { forward(*make_backend("cuda", {.products = {"tuned.json", file}})); });
  }
};

TEST_F(ProductTuning, AFasterAlgorithmIsTakenByLaterRuns) {
  cublas_lt_double().algorithms = {{.seconds = 1e-3}, {.seconds = 3e-3}, {.seconds = 0.8e-3, .workspace = 5000}};
  const Tuned tuned = tune();
  ASSERT_EQ(tuned.said.size(), 1u);
  const TimedProduct& product = tuned.said[0];
  EXPECT_EQ(product.kind, "TN float32 + bias");
  EXPECT_EQ(std::vector({product.m, product.n, product.k}), std::vector({N, tokens, K}));
  EXPECT_EQ(product.times.algorithms, 3);
  EXPECT_NEAR(product.times.first_seconds, 1e-3, 1e-8);
  EXPECT_NEAR(product.times.chosen_seconds, 0.8e-3, 1e-8);
  EXPECT_EQ(algorithm_with(tuned.file), 2u);
}

TEST_F(ProductTuning, TheFastestIsTakenOfSeveralThatAreFaster) {
  for (const size_t fastest : {1u, 2u, 3u}) {
    cublas_lt_double().algorithms = {{.seconds = 1e-3}, {.seconds = 0.8e-3}, {.seconds = 0.8e-3}, {.seconds = 0.8e-3}};
    cublas_lt_double().algorithms[fastest].seconds = 0.7e-3;
    EXPECT_EQ(algorithm_with(tune().file), fastest);
  }
}

// A round in which something else was in the way is forgiven, a second one is not: with five calls of either algorithm in
// a round, behind the four of each that see whether it is hopeless, and turn about.
TEST_F(ProductTuning, OneRoundMayBeDisturbed) {
  constexpr size_t first_round = 8, of_round = 5;
  for (const auto& [slow_rounds, taken] : {std::pair{1u, 1u}, {2u, 0u}}) {
    cublas_lt_double() = {.algorithms = {{.seconds = 1e-3}, {.seconds = 1e-3 / 1.2}},
                          .slow_from = first_round + of_round,  // the second's first round, then its next
                          .slow_calls = slow_rounds * 6,
                          .multiplied = {}};
    EXPECT_EQ(algorithm_with(tune().file), taken) << slow_rounds;
  }
}

TEST_F(ProductTuning, TheFirstStaysWhereOthersAreNotFasterByMoreThanNoise) {
  for (const auto& others : {std::vector<DoubledAlgorithm>{{.seconds = 0.995e-3}, {.seconds = 1e-3}},
                             {{.seconds = 0.9e-3, .scatter = 0.2}},
                             {{.seconds = 1.2e-3}}}) {
    cublas_lt_double().algorithms = {{.seconds = 1e-3}};
    cublas_lt_double().algorithms.insert(cublas_lt_double().algorithms.end(), others.begin(), others.end());
    const Tuned tuned = tune();
    EXPECT_EQ(tuned.said.at(0).times.first_seconds, tuned.said.at(0).times.chosen_seconds);
    EXPECT_EQ(algorithm_with(tuned.file), 0u);
  }
}

// Nor one that drifts: whoever timed one algorithm after the other would take the later one on a device that speeds up,
// and on one that slows down miss what is faster.
TEST_F(ProductTuning, ADeviceThatDriftsMisleadsNobody) {
  for (const double drift : {-2e-3, 2e-3}) {
    SCOPED_TRACE(drift);
    cublas_lt_double() = {.algorithms = {{.seconds = 1e-3}, {.seconds = 1e-3}}, .drift = drift, .multiplied = {}};
    EXPECT_EQ(algorithm_with(tune().file), 0u);
    cublas_lt_double() = {.algorithms = {{.seconds = 1e-3}, {.seconds = 0.95e-3}}, .drift = drift, .multiplied = {}};
    EXPECT_EQ(algorithm_with(tune().file), 1u);
  }
}

// An algorithm that is slow at once costs no more of the device's time.
TEST_F(ProductTuning, AnAlgorithmThatDoesNotStartIsPassedOver) {
  cublas_lt_double().algorithms = {{.seconds = 1e-3}, {.seconds = 0.1e-3, .starts = false}, {.seconds = 0.5e-3}};
  EXPECT_EQ(algorithm_with(tune().file), 2u);
  cublas_lt_double().algorithms = {{.starts = false}, {.seconds = 0.5e-3}};
  EXPECT_NE(error_of([] { tune(); }), "");
}

// A run without a file takes it unasked; with one it would be refused.
TEST_F(ProductTuning, AFirstAlgorithmThatItsOwnCheckRefusesIsNotWritten) {
  cublas_lt_double().algorithms = {{.seconds = 1e-3, .passes_check = false}, {.seconds = 2e-3}};
  const Tuned tuned = tune();
  EXPECT_EQ(tuned.said.size(), 1u);
  EXPECT_EQ(algorithm_with(tuned.file), 0u);
}

TEST_F(ProductTuning, AHopelessAlgorithmIsRunFourTimes) {
  cublas_lt_double().algorithms = {{.seconds = 1e-3}, {.seconds = 5e-3}};
  tune();
  EXPECT_EQ(std::count(cublas_lt_double().multiplied.begin(), cublas_lt_double().multiplied.end(), 1u), 4);
}

TEST_F(ProductTuning, OnlyAlgorithmsThatSumInF32InLittleScratchAreTried) {
  cublas_lt_double().algorithms = {{.seconds = 1e-3},
                                   {.seconds = 0.1e-3, .reduction = CUBLASLT_REDUCTION_SCHEME_INPLACE},
                                   {.seconds = 0.1e-3, .reduction = CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE},
                                   {.seconds = 0.1e-3, .workspace = size_t{64} << 20},
                                   {.seconds = 0.9e-3, .reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}};
  const Tuned tuned = tune();
  EXPECT_EQ(tuned.said.at(0).times.algorithms, 2);
  EXPECT_EQ(algorithm_with(tuned.file), 4u);
}

TEST_F(ProductTuning, TheResultIsTheSameAndItsScratchIsPlanned) {
  cublas_lt_double().algorithms = {{.seconds = 1e-3}, {.seconds = 0.5e-3, .workspace = 12345}};
  const auto untuned = make_backend("cuda", {});
  const std::vector<float> expected = forward(*untuned);
  const auto tuned = make_backend("cuda", {.products = {"tuned.json", tune().file}});
  EXPECT_EQ(forward(*tuned), expected);
  EXPECT_EQ(scratch_of(*untuned, tokens), 256);
  EXPECT_EQ(scratch_of(*tuned, tokens), 12345);
}

// What was not tuned is computed by the first heuristic, and the run says of how much that is so.
TEST_F(ProductTuning, ProductsThatAreNotInTheFileTakeTheFirstHeuristic) {
  cublas_lt_double().algorithms = {{.seconds = 1e-3}, {.seconds = 0.5e-3}};
  const auto backend = make_backend("cuda", {.products = {"tuned.json", tune().file}});
  EXPECT_NE(backend->description().find(", products: by tuned.json"), std::string::npos) << backend->description();
  forward(*backend);
  EXPECT_EQ(backend->product_tuner()->usage(), "1 of 1 by tuned.json");
  scratch_of(*backend, tokens + 1);
  EXPECT_EQ(backend->product_tuner()->usage(), "1 of 2 by tuned.json, 1 by cuBLASLt's first heuristic");
  EXPECT_EQ(make_backend("cuda", {})->product_tuner()->usage(), "");
}

TEST_F(ProductTuning, NothingIsTimedByARunThatDoesNotTune) {
  cublas_lt_double().algorithms = {{.seconds = 1e-3}, {.seconds = 0.5e-3}};
  forward(*make_backend("cuda", {}));
  EXPECT_EQ(cublas_lt_double().multiplied, std::vector<size_t>{0});
}

// Rows of 4 KiB in memory that is aligned to 256 bytes.
TEST_F(ProductTuning, AlignmentIsPromisedAsFarAsMemoryHasIt) {
  EXPECT_NO_THROW(forward(*make_backend("cuda", {}), 1024));
}

TEST_F(ProductTuning, OperandsAreGivenBack) {
  size_t free = 0, before = 0, after = 0;
  cudaMemGetInfo(&free, &before);
  tune();
  cudaMemGetInfo(&free, &after);
  EXPECT_EQ(after, before);
}

TEST_F(ProductTuning, AFileOfAnotherVersionOrOfAnotherDeviceIsRefused) {
  const std::string file = tune().file;
  cublas_lt_double().version = 130200;
  EXPECT_TRUE(holds(refusal_of(file), "tuned.json: its products were tuned on Double (8.5) with cuBLASLt 13.1.2, but ",
                    "here is Double (8.5) with cuBLASLt 13.2.0"));
  EXPECT_TRUE(holds(error_of([&] { tune({"tuned.json", file}); }), "tuned.json: its products were tuned on "));
}

// Bytes that the library does not take for this product, and a way of adding that it would take.
TEST_F(ProductTuning, AnAlgorithmThatIsNotFitIsRefusedWithItsProduct) {
  cublas_lt_double().algorithms = {{.seconds = 1e-3}, {.seconds = 0.5e-3}};
  const std::string file = tune().file;
  std::string damaged = file;
  damaged.replace(file.find("\"algorithm\":\"") + 13, 2, "77");
  EXPECT_EQ(refusal_of(damaged),
            "tuned.json: its algorithm for the product TN float32 + bias, m 40, n 12, k 24: cuBLASLt does not take it "
            "(status 7); tune it again with bench --tune-products, or leave --products out");
  cublas_lt_double().algorithms[1].reduction = CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
  EXPECT_TRUE(holds(refusal_of(file), "it adds parts of sums otherwise than in f32"));
  cublas_lt_double().algorithms[1] = {.workspace = size_t{33} << 20};
  EXPECT_TRUE(holds(refusal_of(file), "it needs 34603008 bytes of scratch, of which there are 33554432"));
}

TEST_F(ProductTuning, AFileKeepsItsOtherProducts) {
  cublas_lt_double().algorithms = {{.seconds = 1e-3}, {.seconds = 0.5e-3}};
  std::string file = tune().file;
  // As if it were of another shape, and in it by its first algorithm.
  file.replace(file.find("\"n\":12"), 6, "\"n\":13");
  const std::string both = tune({"tuned.json", file}).file;
  const auto products = nlohmann::json::parse(both)["products"];
  ASSERT_EQ(products.size(), 2u);
  std::set<int> extents;
  for (const auto& product : products) extents.insert(product["n"].get<int>());
  EXPECT_EQ(extents, (std::set<int>{12, 13}));
  EXPECT_EQ(algorithm_with(both), 1u);
}

// ---- the command's part of it, on a model

struct TuningBench : ProductTuning {
  TuningBench() { write_file(folder_ / "config.json", small_config().dump()); }

  Bench bench(const std::string& backend = "cuda") const {
    BenchSettings settings;
    settings.config = folder_ / "config.json";
    settings.backend = backend;
    settings.block_size = 16;
    settings.steps = 1;
    return {settings, ranks()};
  }

  ScratchFolder folder_;
};

TEST_F(TuningBench, EveryProductOfAStepIsTunedAndThenUsed) {
  cublas_lt_double().algorithms = {{.seconds = 1e-3}, {.seconds = 0.5e-3}};
  const std::string path = folder_ / "tuned.json";
  testing::internal::CaptureStdout();
  {
    const Bench untuned = bench();
    check_tuning(untuned, {});
    run_usual_scheme(untuned);
    for (const size_t algorithm : cublas_lt_double().multiplied) ASSERT_EQ(algorithm, 0u);
    bench_tuning(untuned, path, {});
  }
  const std::string said = testing::internal::GetCapturedStdout();
  EXPECT_NE(said.find("later runs take them with --products " + path), std::string::npos) << said;
  std::istringstream lines(said);
  std::set<size_t> widths;
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("  ")) widths.insert(line.size());
  EXPECT_EQ(widths.size(), 1u) << said;
  Bench tuned = bench("cpu");
  tuned.backend = make_backend("cuda", {.products = {path, read_text(path)}});
  cublas_lt_double().multiplied.clear();
  run_usual_scheme(tuned);
  EXPECT_FALSE(cublas_lt_double().multiplied.empty());
  for (const size_t algorithm : cublas_lt_double().multiplied) ASSERT_EQ(algorithm, 1u);
  const auto count = std::to_string(nlohmann::json::parse(read_text(path))["products"].size());
  EXPECT_EQ(tuned.backend->product_tuner()->usage(), count + " of " + count + " by " + path);
}

TEST_F(TuningBench, TheCpuBackendHasNothingToTune) {
  const Bench on_cpu = bench("cpu");
  EXPECT_TRUE(holds(error_of([&] { check_tuning(on_cpu, {}); }),
                    "--tune-products: the CPU backend has no products to choose for (cpu: ", "take --backend cuda"));
}

}  // namespace
}  // namespace llama_tp
