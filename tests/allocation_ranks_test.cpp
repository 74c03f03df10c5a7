// No malloc and no mmap inside a training step, which is in all else what its rehearsal was. A choice of settings in
// which each two meet, with LLAMA_TP_TEST_ALL=1 all of them.
//
// This program defines malloc and its kin itself, so that it sees every call, of any library and thread; operator new
// ends there, too. Under AddressSanitizer, which has its own malloc, its hook takes their place.
#include <dlfcn.h>
#include <execinfo.h>
#include <gtest/gtest.h>
#include <omp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "backend/cpu/onednn.h"
#include "io/files.h"
#include "model/checkpoint.h"
#include "model/rehearsal.h"
#include "scratch_folder.h"
#include "support/golden_model.h"
#include "support/settings.h"

#if defined(__SANITIZE_ADDRESS__)
#define LLAMA_TP_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LLAMA_TP_ADDRESS_SANITIZER
#endif
#endif

namespace {

// oneDNN 2 and 3 take a list of arguments for each call and return it at its end: so much at once is theirs. Without
// AVX512 they take the buffers of a product as well.
const size_t onednn_bytes = llama_tp::OneDnn::keeps_to_workspace() ? 4096 : SIZE_MAX;

struct Taken {
  const char* by = nullptr;
  size_t bytes = 0;
  std::array<void*, 32> frames{};
  int depth = 0;
};

std::atomic<bool> watching{false};
std::atomic<size_t> taken_count{0};
std::array<Taken, 8> taken;        // the first of them
thread_local bool noting = false;  // what noting itself may take

bool is_onednn(void* address) {
  Dl_info library{};
  return dladdr(address, &library) != 0 && library.dli_fname != nullptr &&
         std::strstr(library.dli_fname, "libdnnl") != nullptr;
}

void note(const char* by, size_t bytes) {
  if (!watching || noting) return;
  noting = true;
  Taken one{by, bytes, {}, 0};
  one.depth = backtrace(one.frames.data(), static_cast<int>(one.frames.size()));
  bool onednn = false;
  for (int i = 0; i < one.depth; i++) onednn = onednn || is_onednn(one.frames[static_cast<size_t>(i)]);
  if (!onednn || bytes > onednn_bytes) {
    const size_t at = taken_count++;
    if (at < taken.size()) taken[at] = one;
  }
  noting = false;
}

}  // namespace

#ifdef LLAMA_TP_ADDRESS_SANITIZER
// sanitizer/allocator_interface.h, which not every compiler brings.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*taken)(const volatile void*, size_t),
                                                         void (*freed)(const volatile void*));
namespace {
void note_malloc(const volatile void*, size_t bytes) { note("malloc", bytes); }
const int hooked = __sanitizer_install_malloc_and_free_hooks(note_malloc, [](const volatile void*) {});
}  // namespace
#else
extern "C" {
// glibc's own, which its manual leaves to whoever replaces malloc.
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* old, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);

void* malloc(size_t bytes) noexcept {
  note("malloc", bytes);
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) noexcept {
  note("calloc", count * bytes);
  return __libc_calloc(count, bytes);
}
void* realloc(void* old, size_t bytes) noexcept {
  note("realloc", bytes);
  return __libc_realloc(old, bytes);
}
void* memalign(size_t alignment, size_t bytes) noexcept {
  note("memalign", bytes);
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) noexcept {
  note("aligned_alloc", bytes);
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** to, size_t alignment, size_t bytes) noexcept {
  note("posix_memalign", bytes);
  *to = __libc_memalign(alignment, bytes);
  return *to == nullptr ? ENOMEM : 0;
}
void* mmap(void* address, size_t bytes, int protection, int flags, int file, off_t offset) noexcept {
  note("mmap", bytes);
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, bytes, protection, flags, file, offset));
}
void* mmap64(void* address, size_t bytes, int protection, int flags, int file, off_t offset) noexcept {
  return mmap(address, bytes, protection, flags, file, offset);
}
}
#endif

namespace llama_tp {
namespace {

// What `work` takes: how often, and by whom the first times.
template <class Work>
size_t taken_by(const Work& work, std::string* by = nullptr) {
  std::array<void*, 1> warm;
  backtrace(warm.data(), 1);  // its first call loads a library
  taken_count = 0;
  watching = true;
  work();
  watching = false;
  if (by == nullptr) return taken_count;
  for (size_t i = 0; i < std::min(taken_count.load(), taken.size()); i++) {
    *by += std::string(taken[i].by) + " of " + std::to_string(taken[i].bytes) + " bytes by\n";
    char** const names = backtrace_symbols(taken[i].frames.data(), taken[i].depth);
    for (int frame = 0; frame < taken[i].depth; frame++) *by += std::string("    ") + names[frame] + "\n";
    std::free(names);
  }
  return taken_count;
}

TEST(Allocation, IsSeenWhicheverWayAndThreadItGoes) {
  void* volatile kept = nullptr;
  EXPECT_EQ(taken_by([&] { kept = std::malloc(10); }), 1u);
  EXPECT_EQ(taken_by([&] { kept = std::realloc(kept, 10000); }), 1u);
  std::free(kept);
  EXPECT_EQ(taken_by([&] { kept = ::operator new(10); }), 1u);
  ::operator delete(kept);
  EXPECT_EQ(taken_by([&] { kept = std::calloc(10, 10); }), 1u);
  std::free(kept);
  EXPECT_EQ(taken_by([&] { kept = std::aligned_alloc(64, 640); }), 1u);
  std::free(kept);
  std::array<void*, 3> by_thread{};
  const auto each_takes = [&] {
#pragma omp parallel num_threads(3)
    by_thread[static_cast<size_t>(omp_get_thread_num())] = std::malloc(10);
  };
  each_takes();  // starts the threads
  for (void* one : by_thread) std::free(one);
  EXPECT_EQ(taken_by(each_takes), 3u);
  for (void* one : by_thread) std::free(one);
#ifndef LLAMA_TP_ADDRESS_SANITIZER
  EXPECT_EQ(taken_by([&] { kept = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }), 1u);
  munmap(kept, 4096);
#endif
}

// Two steps, the first included: all was prepared by plan_training.
void expect_none(Trainer& trainer, const std::vector<HostBatch>& batches, Mesh& mesh, const std::string& what) {
  mesh.world().barrier();
  std::string by;
  const size_t count = taken_by(
      [&] {
        for (int64_t step = 1; step <= 2; step++) {
          trainer.begin(static_cast<int64_t>(batches.size()));
          for (const HostBatch& batch : batches) trainer.accumulate(batch, 1000);
          trainer.finish(1000);
          trainer.update({.learning_rate = 1e-3, .step = step});
        }
      },
      &by);
  EXPECT_EQ(count, 0u) << what << "\n" << by;
}

// What a step is taken with.
struct Setting {
  int model = 0;  // of those that a test names
  DType dtype = DType::f32;
  MeshOptions mesh = {};
  bool sequence_parallel = false, recompute = false;
  FsdpOptions fsdp = {};

  int64_t sequence_ranks() const { return sequence_parallel ? *mesh.tensor : 1; }
  Values values() const {
    return {model,
            dtype == DType::bf16,
            static_cast<int>(*mesh.data),
            static_cast<int>(*mesh.fsdp),
            static_cast<int>(*mesh.tensor),
            sequence_parallel,
            recompute,
            fsdp.prefetch,
            fsdp.reshard_after_forward};
  }
  std::string name() const {
    return text(name_of(dtype), " on ", *mesh.data, " × ", *mesh.fsdp, " × ", *mesh.tensor,
                sequence_parallel ? " by tokens" : "", recompute ? " with recompute" : "",
                fsdp.prefetch ? "" : " without prefetch", fsdp.reshard_after_forward ? "" : " without resharding");
  }
};

// Every mesh of the ranks, with its tokens divided and whole.
std::vector<Setting> meshes() {
  std::vector<Setting> all;
  for (const MeshOptions& mesh : all_meshes())
    for (const bool sequence_parallel : {false, true})
      if (*mesh.tensor > 1 || !sequence_parallel) all.push_back({.mesh = mesh, .sequence_parallel = sequence_parallel});
  return all;
}

std::vector<Setting> all_settings(size_t models, const std::vector<DType>& dtypes) {
  std::vector<Setting> all;
  for (size_t model = 0; model < models; model++)
    for (const DType dtype : dtypes)
      for (Setting setting : meshes())
        for (const bool recompute : {false, true})
          for (const FsdpOptions& fsdp : {FsdpOptions{true, true}, {true, false}, {false, true}, {false, false}}) {
            // Where nothing is gathered all ways are the same.
            if (*setting.mesh.fsdp == 1 && !(fsdp.prefetch && fsdp.reshard_after_forward)) continue;
            setting.model = static_cast<int>(model), setting.dtype = dtype;
            setting.recompute = recompute, setting.fsdp = fsdp;
            all.push_back(setting);
          }
  return all;
}

struct ModelInSetting : GoldenModel {
  ModelInSetting(const std::vector<std::string>& names, const Setting& setting)
      : GoldenModel(names[static_cast<size_t>(setting.model)], setting.dtype, "config.json", setting.mesh) {
    shape.sequence_ranks = setting.sequence_ranks();
  }
};

TEST(Allocation, NoneHappensInATrainingStep) {
  const std::vector<std::string> names = divided({"kv_replicated", "biases", "rope_dynamic", "gqa_3", "gqa_8", "qwen3",
                                                  "qwen3_3", "qwen3_8", "phi3", "granite", "nemotron", "smollm3"});
  for (const Setting& setting : settings_under_test(all_settings(names.size(), {DType::f32, DType::bf16}))) {
    ModelInSetting model(names, setting);  // samples of different lengths
    const auto trainer = model.trainer(setting.recompute, 1, setting.fsdp);
    std::vector<HostBatch> batches;
    for (int64_t round = 0; round < model.rounds(); round++) batches.push_back(model.batch_of_round(round));
    expect_none(*trainer, batches, *model.mesh, model.folder + " in " + setting.name());
  }
}

// Large enough for several chunks of logits, several turns of the window that ranks share, and the threads' full teams.
// An odd number of tokens, which ranks that divide them fill up.
void expect_none_in_a_larger_model(const Setting& setting) {
  const ScratchFolder scratch;
  write_text(scratch / "config.json",
             R"({"model_type": "llama", "hidden_size": 192, "num_hidden_layers": 2, "num_attention_heads": 24,
                   "num_key_value_heads": 24, "intermediate_size": 360, "vocab_size": 50021})");
  const ModelConfig config = read_model_config(scratch / "config.json");
  const auto backend = make_backend("cpu", ranks().place());
  const auto mesh = make_mesh(ranks(), config, setting.mesh, *backend);
  Runtime runtime(*backend, mesh->groups(), setting.dtype);
  const TrainerOptions options{{1, 1, mesh->shape().data_ranks(), 799, setting.sequence_ranks()}, false, false, {}};
  runtime.reserve(plan_training(config, options, *backend, runtime));
  Trainer trainer(config, options, runtime);
  initialize_weights(config, 1, trainer.parameters(), *backend);
  Dataset data;
  for (int32_t i = 0; i < 799; i++) data.tokens.own().push_back(i * 123 % 50021);
  data.starts.own().push_back(799);
  HostBatch batch;
  fill_batch(data, {0}, options.batch, batch);
  expect_none(trainer, {batch}, *mesh, "a larger model in " + setting.name());
  EXPECT_EQ(runtime.state.high_water(), runtime.state.reserved());
  EXPECT_EQ(runtime.step.high_water(), runtime.step.reserved());
}

TEST(Allocation, NoneHappensInAStepOfALargerModel) {
  std::vector<Setting> all;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (Setting setting : meshes()) {
      if (*setting.mesh.tensor != ranks().size() && *setting.mesh.fsdp != ranks().size()) continue;
      setting.dtype = dtype;
      all.push_back(setting);
    }
  for (const Setting& setting : settings_under_test(all)) expect_none_in_a_larger_model(setting);
}

// Calls, FLOPs and bytes of every operation and collective, and the ledger: what a step adds to them.
std::vector<double> counted(const Runtime& runtime) {
  std::vector<double> all;
  for (int i = 0; i < static_cast<int>(Operation::count_); i++) {
    const Work& work = runtime.backend.work(static_cast<Operation>(i));
    for (const double value : {static_cast<double>(work.calls), work.flops, work.bytes}) all.push_back(value);
  }
  for (const Communicator* group : runtime.groups.all())
    for (int i = 0; i < static_cast<int>(Collective::count_); i++) {
      const Traffic& traffic = group->traffic(static_cast<Collective>(i));
      for (const int64_t value : {traffic.calls, traffic.bytes}) all.push_back(static_cast<double>(value));
    }
  return all;
}

std::vector<double> added_by_a_step(Trainer& trainer, const HostBatch& batch, const Runtime& runtime) {
  const std::vector<double> before = counted(runtime);
  trainer.begin();
  trainer.accumulate(batch, 10);
  trainer.finish(10);
  trainer.update({.learning_rate = 1e-3});
  std::vector<double> added = counted(runtime);
  for (size_t i = 0; i < added.size(); i++) added[i] -= before[i];
  return added;
}

void expect_run_as_rehearsed(GoldenModel& model, const Setting& setting) {
  SCOPED_TRACE(model.folder + " in " + setting.name());
  const auto trainer = model.trainer(setting.recompute, 1, setting.fsdp);
  const Runtime& run = *model.runtime;
  const HostBatch batch = model.batch_of_round(0);
  const std::vector<double> added = added_by_a_step(*trainer, batch, run);
  rehearse(*model.backend, run, [&](Runtime& rehearsal) {
    Trainer planned(model.config, {model.shape, setting.recompute, true, setting.fsdp}, rehearsal);
    EXPECT_EQ(added_by_a_step(planned, batch, rehearsal), added);
    EXPECT_EQ(rehearsal.state.high_water(), run.state.high_water());
    EXPECT_EQ(rehearsal.step.high_water(), run.step.high_water());
    EXPECT_EQ(rehearsal.ledger.at_peak(), run.ledger.at_peak());
    for (int i = 0; i < phase_count; i++)
      EXPECT_EQ(rehearsal.ledger.peak_of(static_cast<Phase>(i)), run.ledger.peak_of(static_cast<Phase>(i)));
  });
}

TEST(Rehearsal, IsTheRunInWorkTrafficAndMemoryOfEveryPhase) {
  const std::vector<std::string> names = divided({"kv_replicated", "biases", "gqa_3", "gqa_8", "qwen3", "qwen3_3",
                                                  "qwen3_8", "phi3", "granite", "nemotron", "smollm3"});
  for (const Setting& setting : settings_under_test(all_settings(names.size(), {DType::bf16}))) {
    ModelInSetting model(names, setting);
    expect_run_as_rehearsed(model, setting);
  }
}

}  // namespace
}  // namespace llama_tp
