// The ledger against the system: what a run's arenas hold is what its resident memory grows by.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/mman.h>

#include <cstring>

#include "backend/device.h"
#include "io/files.h"
#include "model/checkpoint.h"
#include "model/placement.h"
#include "report/resident.h"
#include "scratch_folder.h"
#include "support/ranks.h"
#include "train/trainer.h"

namespace llama_tp {
namespace {

// 36 million parameters on one rank, 570 MB in all; more layers on more ranks: 370 MB or more a rank.
std::string config_text() {
  return text(
      R"({"model_type": "llama", "hidden_size": 512, "num_hidden_layers": )", 6 * ranks().size(),
      R"(, "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 1408, "vocab_size": 16000})");
}

// From before the arenas are reserved to behind two steps. Nearly all else has been made before: oneDNN's primitives by
// the plan, MPI's groups and windows by the mesh. What is left beside the arenas: their last huge pages, stacks of
// threads, and what MPI and the heap take on their first use.
constexpr double tolerance = 0.03;

// Without code, which comes into memory as it is used, and without what the heap keeps of memory that was freed (the
// pieces in which weights are loaded).
int64_t memory_in_use() {
  malloc_trim(0);
  return resident_memory().anonymous;
}

void expect_growth_is_the_ledgers(DType dtype) {
  const ScratchFolder scratch;
  write_text(scratch / "config.json", config_text());
  const ModelConfig config = read_model_config(scratch / "config.json");
  const auto backend = make_backend("cpu", ranks().place());
  const auto mesh = make_mesh(ranks(), config, {1, 1, ranks().size()}, *backend);
  Runtime runtime(*backend, mesh->groups(), dtype);
  const TrainerOptions options{{1, 1, 1, 64, ranks().size()}, false, false, {}};
  const MemoryPlan memory = plan_training(config, options, *backend, runtime);
  mesh->world().barrier();

  const int64_t before = memory_in_use();
  runtime.reserve(memory);
  Trainer trainer(config, options, runtime);
  initialize_weights(config, 1, trainer.parameters(), *backend);
  HostBatch batch;
  fill_batch(Dataset{}, {}, options.batch, batch);
  for (int64_t step = 1; step <= 2; step++) {
    trainer.begin();
    trainer.accumulate(batch, 1);
    trainer.finish(1);
    trainer.update({.learning_rate = 1e-3, .step = step});
  }
  const auto grown = static_cast<double>(memory_in_use() - before);
  const auto touched = static_cast<double>(runtime.ledger.peak());
  EXPECT_NEAR(grown, touched, tolerance * touched) << name_of(dtype) << " on " << ranks().size() << " ranks";
}

TEST(Resident, MemoryGrowsByWhatTheLedgerSays) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer's shadow memory grows with ours";
#endif
  for (const DType dtype : {DType::f32, DType::bf16}) expect_growth_is_the_ledgers(dtype);
}

TEST(Resident, MemoryIsTheSumOfItsParts) {
  const ResidentMemory memory = resident_memory();
  EXPECT_GT(memory.anonymous, 0);
  EXPECT_GT(memory.files, 0);
  EXPECT_EQ(memory.total, memory.anonymous + memory.files + memory.shared);
}

TEST(Resident, ThePeakStaysWhenMemoryIsGivenBack) {
  constexpr int64_t bytes = 64 << 20, counted_late = 1 << 20;  // the system counts some pages later
  const int64_t before = resident_memory().total;
  // Not the allocator's, of which sanitizers give nothing back.
  void* const taken = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(taken, MAP_FAILED);
  std::memset(taken, 'x', bytes);
  munmap(taken, bytes);
  EXPECT_LT(resident_memory().total, before + counted_late);
  EXPECT_GT(resident_memory().peak, before + bytes - counted_late);
}

}  // namespace
}  // namespace llama_tp
