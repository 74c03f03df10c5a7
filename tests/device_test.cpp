// Which device a run takes, and what it says when it cannot have the one that was asked for.
#include "backend/device.h"

#include <gtest/gtest.h>

#include "backend/meta.h"
#include "model/runtime.h"
#include "parallel/local_communicator.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

bool has_cuda_device() { return make_backend("auto", {})->device() != nullptr; }

TEST(Device, TheCpuIsTakenWhenAskedFor) {
  const auto backend = make_backend("cpu", {.threads = 1});
  EXPECT_EQ(backend->device(), nullptr);
  EXPECT_EQ(backend->description().substr(0, 14), "cpu: 1 thread,");
}

TEST(Device, AutoTakesTheCpuWhereThereIsNoGpuAndSaysWhy) {
  if (has_cuda_device()) GTEST_SKIP() << "this machine has one";
  const std::string said = make_backend("auto", {})->description(), without = make_backend("cpu", {})->description();
  EXPECT_EQ(said.substr(0, without.size()), without);
  const std::string why = said.substr(without.size());
  EXPECT_TRUE(why == "; this build has no CUDA" || why == "; no NVIDIA driver is loaded" ||
              why.starts_with("; the NVIDIA driver shows no device"))
      << why;
}

TEST(Device, CudaWithoutADeviceIsRefusedWithTheReasonAndTheMend) {
  if (has_cuda_device()) GTEST_SKIP() << "this machine has one";
  const std::string said = error_of([] { make_backend("cuda", {}); });
  EXPECT_TRUE(said.starts_with("--backend cuda: ")) << said;
  EXPECT_NE(said.find("--backend cpu"), std::string::npos) << said;
  EXPECT_EQ(said.find('\n'), std::string::npos) << said;
}

TEST(Device, AnUnknownBackendIsRefusedWithThoseThatThereAre) {
  EXPECT_NE(error_of([] { make_backend("tpu", {}); }).find("--backend tpu: it can be auto, cpu or cuda"),
            std::string::npos);
}

// Has a MiB, and nobody may take of it.
class SmallDevice : public MetaBackend {
 public:
  using MetaBackend::MetaBackend;
  int64_t free_memory() const override { return 1 << 20; }
  void* reserve(int64_t bytes) override {
    ADD_FAILURE() << "took " << bytes;
    return nullptr;
  }
};

TEST(Device, APlanThatDoesNotFitIsRefusedBeforeAnythingIsTaken) {
  const auto cpu = make_backend("cpu", {.threads = 1});
  SmallDevice small(*cpu);
  LoneGroups lone;
  Runtime runtime(small, lone, DType::f32);
  const std::string said = error_of([&] { runtime.reserve({.state = 1 << 20, .cache = 0, .step = 1 << 19}); });
  EXPECT_NE(said.find("needs 1.50 MiB"), std::string::npos) << said;
  EXPECT_NE(said.find("but 1.00 MiB are free"), std::string::npos) << said;
  EXPECT_NE(said.find("; ranks on more machines, a smaller batch, "), std::string::npos) << said;
  EXPECT_NE(said.find("--gradient-checkpointing"), std::string::npos) << said;
  const std::string of_texts = error_of([&] { runtime.reserve({1 << 20, 1 << 20, 1 << 19}, MemoryUse::generation); });
  EXPECT_NE(of_texts.find("(weights 1.00 MiB, keys and values 1.00 MiB, a step"), std::string::npos) << of_texts;
  EXPECT_NE(of_texts.find("a smaller context (-c) or, of many prompts, a smaller --batch-size"), std::string::npos)
      << of_texts;
  EXPECT_EQ(of_texts.find("gradient"), std::string::npos) << of_texts;
}

// Else operations of the first would take scratch memory of the second, and of what is no more when that has ended.
TEST(Device, ASecondRuntimeIsRefusedWhileTheFirstLives) {
  const auto cpu = make_backend("cpu", {.threads = 1});
  LoneGroups lone;
  const auto scratch_of_an_operation = [](Runtime& runtime) {
    runtime.reserve({.state = 1 << 10, .step = 1 << 10});
    const Tensor x = runtime.state.push(Category::data, {1}, DType::f32),
                 sum = runtime.state.push(Category::data, {1}, DType::f64);
    runtime.backend.zero(x);
    runtime.backend.add_sum_of_squares(x, sum);
    return runtime.step.high_water();
  };
  {
    Runtime first(*cpu, lone, DType::f32);
    const std::string said = error_of([&] { Runtime second(*cpu, lone, DType::f32); });
    EXPECT_NE(said.find("a second runtime on one device (cpu: 1 thread"), std::string::npos) << said;
    EXPECT_GT(scratch_of_an_operation(first), 0);
  }
  Runtime next(*cpu, lone, DType::f32);
  EXPECT_GT(scratch_of_an_operation(next), 0);
}

// A collective behind the host's back is waited for when Pending is, and one that has ended is not.
TEST(Pending, WaitsForWhatGoesOn) {
  struct Counted : Pending::Work {
    void wait() override { waits++; }
    int waits = 0;
  } work;
  Pending pending(work);
  EXPECT_EQ(work.waits, 0);
  pending.wait();
  EXPECT_EQ(work.waits, 1);
  Pending().wait();
  EXPECT_EQ(work.waits, 1);
}

}  // namespace
}  // namespace llama_tp
