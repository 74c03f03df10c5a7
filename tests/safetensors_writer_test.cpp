// What the safetensors writer leaves, when it is done and when it is not.
#include "io/safetensors_writer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>

#include "io/files.h"
#include "scratch_folder.h"
#include "support/error_of.h"
#include "support/read_floats.h"

namespace llama_tp {
namespace {

TEST(SafetensorsWriter, WritesInAnyOrderWhatTheReaderReads) {
  const ScratchFolder scratch;
  const FilePlan plan = plan_file("model.safetensors", {{"half", DType::bf16, {3}},
                                                        {"wide \"\\ü", DType::f32, {2, 3}},
                                                        {"scalar", DType::f32, {}},
                                                        {"none", DType::f32, {0, 5}}});
  const float wide[6] = {1, 2, 3, 4, 5, 6}, scalar = 7;
  const bf16 half[3] = {to_bf16(8), to_bf16(9), to_bf16(10)};
  SafetensorsWriter writer(scratch.path(), plan);
  writer.write("scalar", 0, &scalar, 4);
  writer.write("wide \"\\ü", 16, wide + 4, 8);
  writer.write("half", 0, half, 6);
  writer.write("wide \"\\ü", 0, wide, 16);
  writer.finish();

  const SafetensorsFile file(scratch / "model.safetensors");
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  EXPECT_EQ(read_floats(file, "wide \"\\ü", {0, 2, 0, 3}), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(read_floats(file, "scalar", {0, 1, 0, 1}), std::vector<float>{7});
  EXPECT_EQ(read_floats(file, "half", {1, 3, 0, 1}), (std::vector<float>{9, 10}));
  EXPECT_EQ(File::open(scratch / "model.safetensors").size(), plan.bytes);
  // The format's alignment: data begins at a multiple of 8, and elements lie at multiples of their size.
  EXPECT_EQ(plan.header.size() % 8, 0u);
  for (const StoredTensor& tensor : plan.tensors) EXPECT_EQ(tensor.offset % size_of(tensor.dtype()), 0) << tensor.name;
}

TEST(SafetensorsWriter, AFileOfThatNameStaysAsItIsUntilTheNewOneIsWhole) {
  const ScratchFolder scratch;
  const FilePlan plan = plan_file("model.safetensors", {{"a", DType::f32, {1}}});
  const auto files = [&] {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(scratch.path())) names.insert(entry.path().filename());
    return names;
  };
  const float value = 3;
  write_text(scratch / "model.safetensors", "older");
  {
    SafetensorsWriter writer(scratch.path(), plan);
    EXPECT_THROW(writer.finish(), Error);
    EXPECT_EQ(files(), (std::set<std::string>{"model.safetensors", "model.safetensors.partial"}));
  }
  const FilePlan too_large = plan_file("model.safetensors", {{"a", DType::u8, {int64_t{1} << 60}}});
  EXPECT_THROW(SafetensorsWriter(scratch.path(), too_large), Error);
  EXPECT_EQ(files(), std::set<std::string>{"model.safetensors"});
  EXPECT_EQ(read_text(scratch / "model.safetensors"), "older");
  {
    SafetensorsWriter writer(scratch.path(), plan);
    writer.write("a", 0, &value, 4);
    writer.finish();
  }
  EXPECT_EQ(files(), std::set<std::string>{"model.safetensors"});
  EXPECT_EQ(read_floats(SafetensorsFile(scratch / "model.safetensors"), "a", {0, 1, 0, 1}), std::vector<float>{3});
  {
    SafetensorsWriter writer(scratch.path(), plan);
    writer.write("a", 0, &value, 4);
    std::filesystem::remove(scratch / "model.safetensors");
    std::filesystem::create_directory(scratch / "model.safetensors");
    EXPECT_TRUE(holds(error_of([&] { writer.finish(); }), "cannot rename it to", "model.safetensors: Is a directory"));
  }
  const FilePlan device = plan_file("null", {{"a", DType::f32, {1}}});
  EXPECT_TRUE(holds(error_of([&] { SafetensorsWriter writer("/dev", device); }), "/dev/null", "no regular file"));
}

TEST(SafetensorsWriter, AnUnfinishedTensorAndBytesOutsideOfOneAreErrors) {
  const ScratchFolder scratch;
  const FilePlan plan = plan_file("model.safetensors", {{"a", DType::f32, {2}}, {"b", DType::f32, {1}}});
  const float values[2] = {1, 2};
  SafetensorsWriter writer(scratch.path(), plan);
  writer.write("a", 0, values, 8);
  EXPECT_TRUE(holds(error_of([&] { writer.write("b", 0, values, 8); }), "tensor b", "inside of its 4"));
  EXPECT_TRUE(holds(error_of([&] { writer.write("b", -1, values, 1); }), "tensor b"));
  EXPECT_TRUE(holds(error_of([&] { writer.write("c", 0, values, 8); }), "tensor c", "plan"));
  EXPECT_TRUE(holds(error_of([&] { writer.finish(); }), "tensor b: 0 of its 4 bytes"));
  EXPECT_TRUE(holds(error_of([&] { plan_file("x", {{"a", DType::f32, {1}}, {"a", DType::f32, {1}}}); }), "tensor a"));
}

// What the reader refuses, as Hugging Face's library does, is not written.
TEST(SafetensorsWriter, AHeaderIsAtMostWhatReadersTake) {
  const auto planned = [](int64_t name) {
    return plan_file("logits", {{std::string(static_cast<size_t>(name), 'a'), DType::f32, {1}}});
  };
  const int64_t besides = std::ssize(planned(8).header) - 8 - 8;  // of the text, its name left out
  const int64_t longest = safetensors_largest_header - besides;
  EXPECT_EQ(std::ssize(planned(longest).header), 8 + safetensors_largest_header);
  EXPECT_TRUE(holds(error_of([&] { planned(longest + 8); }),
                    "logits: its header, of 1 tensors, would take 100000008 bytes",
                    "at most 100000000 are allowed: write fewer"));
}

// /proc has no blocks at all, of which a file system with 0 free ones would be full.
TEST(Files, FreeSpaceIsNotKnownWhereTheFileSystemDoesNotTell) {
  const ScratchFolder scratch;
  EXPECT_GT(free_bytes(scratch.path()).value_or(0), 0);
  EXPECT_EQ(free_bytes("/proc/self"), std::nullopt);
  EXPECT_EQ(free_bytes(scratch / "none"), std::nullopt);
}

TEST(SafetensorsWriter, AFullDiskIsNamedWithTheBytesNeededAndFreeBeforeAnythingIsWritten) {
  const ScratchFolder scratch;
  const int64_t too_many = free_bytes(scratch.path()).value() + (int64_t{1} << 40);
  const FilePlan plan = plan_file("model.safetensors", {{"a", DType::u8, {too_many}}});
  EXPECT_TRUE(holds(error_of([&] { SafetensorsWriter writer(scratch.path(), plan); }), "model.safetensors",
                    "the disk is full", std::to_string(plan.bytes), "are needed", "are free"));
  // /dev/full refuses every write as a full disk does.
  EXPECT_TRUE(
      holds(error_of([&] { File::create("/dev/full").write("abc", 3, 0); }), "/dev/full", "3 bytes are needed"));
  EXPECT_TRUE(holds(error_of([&] { File::create(scratch / "no/such/folder"); }), "folder does not exist"));
}

TEST(SafetensorsWriter, PastTheLargestShardFilesAreNamedAndIndexedAsHuggingFaces) {
  const SavePlan one = plan_model({{"a", DType::bf16, {1000}}, {"b", DType::bf16, {500}}}, 3000);
  ASSERT_EQ(one.files.size(), 1u);
  EXPECT_EQ(one.files[0].name, "model.safetensors");
  EXPECT_EQ(one.index, "");

  const SavePlan plan = plan_model(
      {{"a", DType::bf16, {1000}}, {"b", DType::f32, {10, 250}}, {"c", DType::bf16, {50}}, {"d", DType::bf16, {1451}}},
      3000);
  ASSERT_EQ(plan.files.size(), 4u);  // 2000; 10000 alone; 100; 2902, two bytes too many beside c
  EXPECT_EQ(plan.files[0].name, "model-00001-of-00004.safetensors");
  EXPECT_EQ(plan.files[3].name, "model-00004-of-00004.safetensors");
  EXPECT_EQ(plan.index, R"({
  "metadata": {
    "total_parameters": 5001,
    "total_size": 15002
  },
  "weight_map": {
    "a": "model-00001-of-00004.safetensors",
    "b": "model-00002-of-00004.safetensors",
    "c": "model-00003-of-00004.safetensors",
    "d": "model-00004-of-00004.safetensors"
  }
}
)");
  EXPECT_TRUE(holds(error_of([] { plan_model({{"a", DType::u8, {4}}, {"a", DType::u8, {4}}}, 4); }), "tensor a"));
}

}  // namespace
}  // namespace llama_tp
