// The CUDA backend itself, with the kernels emulated and CUDA's runtime and cuBLASLt doubled (cuda/double.h, cuda/cublas_lt_double.h): which
// device a rank takes, what is refused, that a wait can be left, and a training step from end to end. What the double
// cannot show is CUDA's own behaviour.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "backend/cuda/cuda_uploads.h"
#include "backend/cuda/shapes.h"
#include "cuda/cuda_model.h"
#include "cuda/double.h"
#include "generate/generator.h"
#include "io/files.h"
#include "model/checkpoint.h"
#include "report/format.h"
#include "scratch_folder.h"
#include "support/error_of.h"
#include "support/small_model.h"
#include "train/training_run.h"

namespace llama_tp {
namespace {

// The major version that the tests are built with, and a driver of the one before.
constexpr int toolkit = CUDART_VERSION / 1000, older_driver = (toolkit - 1) * 1000 + 40;

class Cuda : public testing::Test {
 protected:
  void TearDown() override { cuda_double() = {}; }
};

TEST_F(Cuda, ARankTakesTheDeviceOfItsPlaceOnTheHost) {
  EXPECT_EQ(make_backend("auto", {.local_rank = 1})->description(),
            "cuda: Double, 79.1 GiB, sm_85, device 1 of 2, driver 13.0, cuBLASLt 13.1.2");
  const auto first = make_backend("cuda", {.local_rank = 0}), second = make_backend("cuda", {.local_rank = 1}),
             third = make_backend("cuda", {.local_rank = 2});
  EXPECT_NE(first->device()->identity, second->device()->identity);
  EXPECT_EQ(first->device()->identity, third->device()->identity);
}

TEST_F(Cuda, WhatCannotRunIsRefusedInOneLineWithTheMend) {
  struct Case {
    CudaDouble machine;
    std::vector<std::string> words;
  };
  for (const auto& [machine, words] :
       {Case{{.driver = 0}, {"--backend cuda: no NVIDIA driver is loaded", "--backend cpu"}},
        Case{{.devices = 0}, {"--backend cuda: the NVIDIA driver shows no device", "--backend cpu"}},
        Case{{.driver = older_driver},
             {text("--backend cuda: the NVIDIA driver of node1 knows CUDA ", toolkit - 1, ".4"),
              text("made with ", toolkit, "."), "update the driver"}},
        Case{{.runs_kernels = false},
             {"--backend cuda: cuda device 0 (Double), an sm_85, does not run", "make CUDA_ARCH=85"}},
        Case{{.majors = {7, 7}},
             {"--backend cuda: Double is an sm_75; the kernels need sm_80 (Ampere) or later", "--backend cpu"}},
        Case{{.majors = {7, 8}},
             {"--backend cuda: device 0 of node1, Double is an sm_75; the kernels need sm_80 (Ampere) or later",
              "hide it with CUDA_VISIBLE_DEVICES", "--backend cpu"}}}) {
    cuda_double() = machine;
    const std::string said = error_of([] { make_backend("cuda", {.host = "node1"}); });
    for (const std::string& word : words) EXPECT_NE(said.find(word), std::string::npos) << said;
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  }
}

TEST_F(Cuda, WhatMayHideTheDevicesIsTold) {
  const char* const before = std::getenv("CUDA_VISIBLE_DEVICES");
  const std::string kept = before != nullptr ? before : "";
  cuda_double().devices = 0;
  setenv("CUDA_VISIBLE_DEVICES", "7", 1);
  EXPECT_NE(error_of([] { make_backend("cuda", {}); }).find("no device (CUDA_VISIBLE_DEVICES is '7')"),
            std::string::npos);
  unsetenv("CUDA_VISIBLE_DEVICES");
  EXPECT_NE(error_of([] { make_backend("cuda", {}); }).find("no device (nvidia-smi tells why)"), std::string::npos);
  if (before != nullptr) setenv("CUDA_VISIBLE_DEVICES", kept.c_str(), 1);
}

TEST_F(Cuda, AutoIsTheCpuWhereNoDeviceCanRunTheKernelsButNoWayAroundABrokenOne) {
  cuda_double().driver = 0;
  EXPECT_NE(make_backend("auto", {})->description().find("; no NVIDIA driver is loaded"), std::string::npos);
  cuda_double() = {.majors = {7, 6}};
  EXPECT_NE(
      make_backend("auto", {})->description().find("; Double is an sm_75; the kernels need sm_80 (Ampere) or later"),
      std::string::npos);
  for (const CudaDouble& broken : {CudaDouble{.driver = older_driver}, CudaDouble{.majors = {7, 8}}}) {
    cuda_double() = broken;
    EXPECT_THROW(make_backend("auto", {}), Error);
  }
}

TEST_F(Cuda, WhichOfAttentionsKernelsRunIsForTypeHeadsQueriesAndGpuToSay) {
  using enum AttentionWay;
  struct Case {
    DType dtype;
    int64_t head_dim, queries;
    AttentionWay elsewhere, on_hopper;
  };
  const auto way = [](const Case& c, int64_t keys, bool on_hopper) {
    return attention_way(c.dtype, {4, 2, c.head_dim, c.queries, keys, nullptr, 1, c.queries, keys}, on_hopper);
  };
  for (const Case& c : {Case{DType::bf16, 64, 16, tiles, hopper}, Case{DType::bf16, 128, 16, tiles, hopper},
                        Case{DType::bf16, 96, 16, tiles, tiles}, Case{DType::bf16, 48, 16, rows, rows},
                        Case{DType::bf16, 64, 15, few_queries, few_queries},
                        Case{DType::bf16, 128, 15, few_queries, few_queries}, Case{DType::bf16, 96, 15, rows, rows},
                        Case{DType::f32, 64, 16, rows, rows}, Case{DType::f32, 128, 15, rows, rows}}) {
    EXPECT_EQ(way(c, 100, false), c.elsewhere) << name_of(c.dtype) << " " << c.head_dim << " " << c.queries;
    EXPECT_EQ(way(c, 100, true), c.on_hopper) << name_of(c.dtype) << " " << c.head_dim << " " << c.queries;
  }
  EXPECT_EQ(way({DType::bf16, 64, 16, tiles, hopper}, 0, true), tiles) << "no row of keys to map";
}

TEST_F(Cuda, APlanBeyondTheFreeMemoryIsRefusedWithItsFigure) {
  GoldenModel model("gqa", DType::f32);
  model.runtime.reset();
  model.backend = make_backend("cuda", {});
  model.runtime = std::make_unique<Runtime>(*model.backend, model.mesh->groups(), DType::f32);
  cuda_double().free_bytes = 1000;
  const std::string said = error_of([&] { model.trainer(); });
  EXPECT_NE(said.find("but 1000 B are free (cuda: Double"), std::string::npos) << said;
  model.runtime.reset();
}

// The device takes an upload when its turn comes: nothing is put in a place of which it has not taken what was there.
TEST_F(Cuda, AnUploadWaitsForAPlaceToBeFree) {
  struct Leaves : Watcher {
    void look(bool, std::chrono::duration<double>) override { throw Stopped(); }
  } watcher;
  const auto backend = make_backend("cuda", {});
  backend->device()->watchers.push_back(&watcher);
  const Tensor tensor{backend->reserve(sizeof(int32_t)), DType::i32, {1}};
  const int32_t value = 7;
  const auto upload_to_all_places = [&] {
    for (int64_t place = 0; place < CudaUploads::places; place++) backend->upload(&value, tensor);
  };
  upload_to_all_places();
  cuda_double().never_ends = true;
  EXPECT_THROW(backend->upload(&value, tensor), Stopped);
  cuda_double().never_ends = false;
  upload_to_all_places();
  int32_t received = 0;
  backend->download(tensor, &received);
  EXPECT_EQ(received, value);
  backend->release(tensor.data, tensor.bytes());
}

TEST_F(Cuda, WhatIsUploadedMayBeLargerThanAPlace) {
  const auto backend = make_backend("cuda", {});
  std::vector<int32_t> sent(CudaUploads::places * CudaUploads::place_bytes / sizeof(int32_t) + 3),
      received(sent.size());
  for (size_t i = 0; i < sent.size(); i++) sent[i] = static_cast<int32_t>(i * i);
  const auto bytes = static_cast<int64_t>(sent.size() * sizeof(int32_t));
  const Tensor tensor{backend->reserve(bytes), DType::i32, {static_cast<int64_t>(sent.size())}};
  backend->upload(sent.data(), tensor);
  backend->download(tensor, received.data());
  EXPECT_EQ(sent, received);
  backend->release(tensor.data, bytes);
}

// The device never ends; one who looks says that there is no point in waiting.
TEST_F(Cuda, AWaitEndsWhenAWatcherSaysSo) {
  struct Leaves : Watcher {
    void look(bool, std::chrono::duration<double>) override {
      if (++looks == 3) throw Stopped();
    }
    int looks = 0;
  } watcher;
  const auto backend = make_backend("cuda", {});
  Ledger ledger;
  Arena arena("memory", ledger);
  arena.reserve(*backend, Arena::alignment);
  const Tensor value = arena.push(Category::data, {1}, DType::f32);
  backend->device()->watchers.push_back(&watcher);
  cuda_double().never_ends = true;
  float host = 1;
  EXPECT_THROW(backend->download(value, &host), Stopped);
  EXPECT_EQ(host, 1);
  cuda_double().never_ends = false;
  backend->download(value, &host);
  EXPECT_EQ(host, 0);  // reserved memory is zeros
}

// A copy of 256 MiB within the device, which the double makes in a millisecond, reads and writes as many.
TEST_F(Cuda, TheBandwidthIsThatOfBothWaysOfACopyAndItsMemoryIsGivenBack) {
  const auto backend = make_backend("cuda", {});
  const int64_t before = backend->memory_in_use();
  EXPECT_NEAR(backend->read_bandwidth(1), 2 * 0x1p28 / 1e-3, 1e6);
  EXPECT_EQ(backend->memory_in_use(), before);
  cuda_double().free_bytes = (size_t{256} << 20) - 1;
  EXPECT_EQ(backend->read_bandwidth(1), 0) << "there is no room";
}

TEST_F(Cuda, AnErrorOfTheDeviceSaysOfWhichOne) {
  const auto backend = make_backend("cuda", {.local_rank = 1});
  cuda_double().breaks = true;
  EXPECT_EQ(error_of([&] { backend->synchronize(); }), "cuda: device 1: what was asked of it: what CUDA says");
}

// The first token runs as it is, the second is recorded, and from it on one call starts each.
TEST_F(Cuda, TokensFromARecordingAreThoseOfTransformers) {
  const nlohmann::json golden = nlohmann::json::parse(read_text("tests/goldens/models/gqa/generation.json"));
  const auto prompt = golden[0]["prompt"].get<std::vector<int32_t>>(),
             expected = golden[0]["continuation"].get<std::vector<int32_t>>();
  CudaModel model("gqa");
  EXPECT_EQ(model.greedy_tokens(prompt, expected.size()), expected);
  EXPECT_EQ(cuda_double().graphs_started, static_cast<int>(expected.size()) - 1);
}

// What is chosen behind each of some tokens that follow prompts of 250 and of 20, over the bound of 256 keys where
// another recording begins, and its probability; with two sequences and with one.
std::vector<double> choices_behind_tokens() {
  CudaModel model("gqa");
  constexpr int64_t context = 300;
  const std::vector<int32_t> prompt(250, 3), other(20, 5);
  model.reserve(plan_generation(model.config, context, {{250, 20}}, *model.backend, *model.runtime));
  Generator generator(model.config, context, *model.runtime, 2, {{.temperature = 3}, 5, true});
  load_weights(ModelFiles(model.folder), model.config, generator.parameters(), *model.backend);
  generator.feed(std::vector<Feed>{{0, prompt}, {1, other}});
  std::vector<double> all;
  for (int32_t i = 0; i < 12; i++) {
    const std::vector<int32_t> first{i}, second{i + 1};
    std::vector<Feed> feeds{{0, first}, {1, second}};
    if (i >= 9) feeds.pop_back();
    generator.feed(feeds);
    for (const Feed& feed : feeds)
      all.insert(all.end(), {static_cast<double>(generator.choice(feed.sequence).id),
                             generator.choice(feed.sequence).log_probability});
  }
  return all;
}

TEST_F(Cuda, ARecordingGivesTheBitsOfWhatItRecorded) {
  setenv("LLAMA_TP_TOKENS_AHEAD", "0", 1);
  const std::vector<double> recorded = choices_behind_tokens();
  // Each first token of 251 to 256 keys, of 257 and more, and of one sequence alone runs as it is.
  EXPECT_EQ(cuda_double().graphs_started, 12 - 3);
  setenv("LLAMA_TP_CUDA_GRAPH", "0", 1);
  EXPECT_EQ(choices_behind_tokens(), recorded);
  setenv("LLAMA_TP_CUDA_GRAPH", "maybe", 1);
  EXPECT_EQ(error_of([&] { choices_behind_tokens(); }), "LLAMA_TP_CUDA_GRAPH=maybe: it is 0 or 1");
  unsetenv("LLAMA_TP_CUDA_GRAPH");
  unsetenv("LLAMA_TP_TOKENS_AHEAD");
  EXPECT_EQ(cuda_double().graphs_started, 12 - 3);
}

// The host runs ahead of the device but for the step's loss and norm.
TEST_F(Cuda, AStepTakesNoMemoryAndWaitsForItsResultAlone) {
  CudaModel model("gqa");
  const auto trainer = model.trainer();
  const HostBatch batch = model.batch(0);
  model.backend->synchronize();  // the weights are there
  const CudaDouble before = cuda_double();
  trainer->begin(2);
  for (int forward = 0; forward < 2; forward++) trainer->accumulate(batch, model.targets);
  EXPECT_EQ(cuda_double().waits, before.waits);
  trainer->finish(model.targets);
  const int of_result = cuda_double().waits;
  EXPECT_GT(of_result, before.waits);
  trainer->update({.max_grad_norm = 1});
  EXPECT_EQ(cuda_double().waits, of_result);
  EXPECT_EQ(cuda_double().reservations, before.reservations);
}

TEST_F(Cuda, TrainingTellsWhatTheDriverCountsAtEachStepAndAtTheEndBesideThePlan) {
  const ScratchFolder folder;
  write_file(folder / "config.json", small_config().dump());
  write_file(folder / "data.jsonl", random_id_lines(2, 16, small_vocabulary));
  TrainingSettings settings;
  settings.config = folder / "config.json";
  settings.train_file = folder / "data.jsonl";
  settings.output_dir = folder / "out";
  settings.block_size = 16;
  settings.micro_batch = 1;
  settings.max_steps = 2;
  settings.backend = "cuda";
  size_t free = 0, all = 0;
  cudaMemGetInfo(&free, &all);
  const size_t context = all - free;  // and what errors of other tests have left to the end of the process
  ASSERT_GE(context, cuda_double().context_bytes);
  testing::internal::CaptureStdout();
  run_training(settings, ranks());
  const std::string said = testing::internal::GetCapturedStdout();
  EXPECT_NE(said.find(bytes_text(static_cast<int64_t>(context)) + " CUDA's context"), std::string::npos) << said;
  const auto memory = nlohmann::json::parse(read_text(folder / "out/memory.json"));
  EXPECT_EQ(memory["device"][0]["remainder_bytes"], context);
  EXPECT_EQ(memory["device"][0]["in_use_bytes"], memory["ranks"][0]["planned_bytes"].get<size_t>() + context);
  const std::vector<nlohmann::json> metrics = json_lines(read_text(folder / "out/metrics.jsonl"));
  ASSERT_EQ(metrics.size(), 2u);
  for (const nlohmann::json& step : metrics) EXPECT_EQ(step["peak_memory_bytes"], memory["device"][0]["in_use_bytes"]);
  EXPECT_EQ(memory["resident"][0]["remainder_bytes"], memory["resident"][0]["resident_bytes"]);  // no arena is in it
}

TEST_F(Cuda, LossAndEveryGradientAreThoseOfTransformers) {
  for (const char* name : {"gqa", "biases"}) {
    CudaModel model(name);
    expect_golden_gradients(model, false);
  }
}

}  // namespace
}  // namespace llama_tp
