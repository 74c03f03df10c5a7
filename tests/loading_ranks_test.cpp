// Loading: a rank reads of a model of 400 MB the bytes of its slice and no others, and never holds more than the slice
// and the staging.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "backend/device.h"
#include "generate/generator.h"
#include "io/files.h"
#include "model/checkpoint.h"
#include "model/placement.h"
#include "model/write_parameters.h"
#include "scratch_folder.h"
#include "support/ranks.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

// Rows of the row-parallel weights are 16 KiB long: what lies between two of a rank's is then never worth reading
// along.
constexpr int64_t hidden = 1024, layers = 4, wide = 8192, kv_width = 512, vocabulary = 16000;
constexpr char config_json[] =
    R"({"model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 64,
        "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 8192, "vocab_size": 16000})";

int64_t slice_bytes(int64_t ranks) {
  const int64_t block = 2 * wide * hidden + 2 * kv_width * hidden + 3 * wide * hidden,
                norms = (2 * layers + 1) * hidden;
  return ((layers * block + 2 * vocabulary * hidden) / ranks + norms) * size_of(DType::bf16);
}

// Header and holes: a file system gives zeros where nothing was written, and the reader cannot tell.
void write_hollow_model(const std::string& folder, const ModelConfig& config) {
  const Parameters whole(config, 0, 1);
  const SavePlan plan = plan_model(planned_tensors(whole, DType::bf16));
  ASSERT_EQ(plan.files.size(), 1U);
  write_text(folder + "/" + plan.files[0].name, plan.files[0].header);
  std::filesystem::resize_file(folder + "/" + plan.files[0].name, static_cast<uintmax_t>(plan.bytes()));
}

// The number behind a name in a file of /proc/self, proc(5).
int64_t process_number(const std::string& file, const std::string& name) {
  std::ifstream in("/proc/self/" + file);
  for (std::string word; in >> word;)
    if (int64_t value = 0; word == name && in >> value) return value;
  ADD_FAILURE() << "/proc/self/" << file << " has no " << name;
  return 0;
}
int64_t bytes_read() { return process_number("io", "rchar:"); }
int64_t resident() { return process_number("status", "VmRSS:") << 10; }
int64_t most_resident() { return process_number("status", "VmHWM:") << 10; }
void forget_most_resident() { std::ofstream("/proc/self/clear_refs") << "5"; }

// The header, /proc itself.
constexpr int64_t beside_the_weights = 256 << 10;
// What threads and MPI take on first use; the weights are read into place.
constexpr int64_t beside_the_slice = int64_t{64} << 20;

TEST(Loading, ARankReadsItsSliceAndHoldsNoMore) {
  const ScratchFolder scratch;
  write_text(scratch / "config.json", config_json);
  const ModelConfig config = read_model_config(scratch / "config.json");
  write_hollow_model(scratch / "", config);
  const auto backend = make_backend("cpu", ranks().place());
  const auto mesh = make_mesh(ranks(), config, {1, 1, ranks().size()}, *backend);
  Runtime runtime(*backend, mesh->groups(), DType::bf16);
  runtime.reserve(plan_generation(config, 8, {{4}}, *backend, runtime));
  Generator generator(config, 8, runtime, 1);
  mesh->world().barrier();

  forget_most_resident();
  const int64_t resident_before = resident(), read_before = bytes_read();
  load_weights(ModelFiles(scratch / ""), config, generator.parameters(), *backend);
  const int64_t read = bytes_read() - read_before, grown = most_resident() - resident_before;

  const int64_t slice = slice_bytes(ranks().size());
  EXPECT_GE(read, slice);
  EXPECT_LE(read, slice + beside_the_weights);
  EXPECT_GT(grown, slice / 2);  // the slice did come into memory meanwhile: the comparison says something
#ifndef __SANITIZE_ADDRESS__    // its shadow memory grows with ours
  EXPECT_LE(grown, slice + beside_the_slice);
#endif
}

// The others do not see the folder, as where it is on a disk of rank 0's host.
TEST(Saving, TheRanksThatSeeTheFolderWriteAllOfItsFiles) {
  const ScratchFolder scratch;
  write_text(scratch / "config.json", small_config().dump());
  const ModelConfig config = read_model_config(scratch / "config.json");
  const auto backend = make_backend("cpu", ranks().place());
  const auto mesh = make_mesh(ranks(), config, {1, 1, {}}, *backend);
  Runtime runtime(*backend, mesh->groups(), DType::f32);
  runtime.reserve(plan_generation(config, 8, {{4}}, *backend, runtime));
  Generator generator(config, 8, runtime, 1);
  initialize_weights(config, 1, generator.parameters(), *backend);
  const SavePlan plan = plan_model(planned_tensors(generator.parameters(), DType::f32), 1 << 14);
  ASSERT_GT(plan.files.size(), 4U);

  const std::string folder = ranks().rank() == 0 ? scratch / "" : "/no/such/folder";
  write_parameters(generator.parameters(), &Unit::value, DType::f32, plan, folder, *backend, mesh->copy_host(), {0});
  mesh->world().barrier();
  if (ranks().rank() > 0) return;
  for (const FilePlan& file : plan.files)
    EXPECT_EQ(SafetensorsFile(scratch / file.name).tensors().size(), file.tensors.size());
}

}  // namespace
}  // namespace llama_tp
