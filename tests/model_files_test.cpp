// Model folders as Hugging Face lays them out.
#include "io/model_files.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "io/checkpoint_files.h"
#include "io/safetensors_writer.h"
#include "scratch_folder.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

namespace fs = std::filesystem;

// Files of one F32 scalar a name, each holding `value`.
void write_tensors(const std::string& folder, const std::string& file, const std::vector<std::string>& names,
                   float value = 1) {
  std::vector<PlannedTensor> tensors;
  for (const std::string& name : names) tensors.push_back({name, DType::f32, {1}});
  const FilePlan plan = plan_file(file, tensors);
  SafetensorsWriter writer(folder, plan);
  for (const std::string& name : names) writer.write(name, 0, &value, sizeof value);
  writer.finish();
}

float scalar(const ModelFiles& model, const std::string& name) {
  float value = 0;
  model.read(name, {0, 1, 0, 1}, DType::f32, &value);
  return value;
}

std::string refused_model(const std::string& folder) {
  return error_of([&] { ModelFiles model(folder); });
}

TEST(ModelFiles, TensorsAreFoundInOneFileInIndexedShardsAndInFilesWithoutIndex) {
  const ScratchFolder one, indexed, loose;
  write_tensors(one.path(), "model.safetensors", {"a", "b"}, 1);
  write_tensors(one.path(), "unrelated.safetensors", {"a"}, 2);  // transformers does not look at it either
  EXPECT_EQ(scalar(ModelFiles(one.path()), "a"), 1);

  const SavePlan plan = plan_model({{"a", DType::f32, {1}}, {"b", DType::f32, {1}}}, 4);
  write_tensors(indexed.path(), plan.files[0].name, {"a"}, 3);
  write_tensors(indexed.path(), plan.files[1].name, {"b"}, 4);
  write_tensors(indexed.path(), "not-in-the-index.safetensors", {"a"}, 5);
  write_text(indexed / index_file_name, plan.index);
  EXPECT_EQ(scalar(ModelFiles(indexed.path()), "a"), 3);
  EXPECT_EQ(scalar(ModelFiles(indexed.path()), "b"), 4);
  EXPECT_EQ(ModelFiles(indexed.path()).names(), (std::vector<std::string>{"a", "b"}));

  write_tensors(loose.path(), "x.safetensors", {"a"}, 6);
  write_tensors(loose.path(), "y.safetensors", {"b"}, 7);
  EXPECT_EQ(scalar(ModelFiles(loose.path()), "b"), 7);
  EXPECT_EQ(ModelFiles(loose.path()).find("c"), nullptr);
}

TEST(ModelFiles, MissingFoldersFilesAndTensorsAreNamed) {
  const ScratchFolder scratch;
  EXPECT_TRUE(holds(refused_model(scratch / "nowhere"), "nowhere: no such folder"));
  EXPECT_TRUE(holds(refused_model(scratch.path()), "no *.safetensors"));
  write_text(scratch / "pytorch_model.bin", "x");
  EXPECT_TRUE(holds(refused_model(scratch.path()), "pickles (pytorch_model.bin)",
                    "from_pretrained('" + scratch.path() + "').save_pretrained('" + scratch.path() + "')"));
  EXPECT_TRUE(holds(refused_model(scratch / "pytorch_model.bin"), "is a file"));

  write_tensors(scratch.path(), "part.safetensors", {"a"});
  const auto index = [&](const std::string& map) { write_text(scratch / index_file_name, map); };
  index(R"({"weight_map": {"a": "part.safetensors", "b": "gone.safetensors"}})");
  EXPECT_TRUE(holds(refused_model(scratch.path()), "index.json", "gone.safetensors (for b)", "not there"));
  index(R"({"weight_map": {"a": "part.safetensors", "b": "part.safetensors"}})");
  EXPECT_TRUE(holds(refused_model(scratch.path()), "tensor b is not in part.safetensors"));
  index(R"({"weight_map": {"a": "part.safetensors", "a": "part.safetensors"}})");
  EXPECT_TRUE(holds(refused_model(scratch.path()), "tensor a twice"));
  index(R"({"weight_map": {"a": "../part.safetensors"}})");
  EXPECT_TRUE(holds(refused_model(scratch.path()), "../part.safetensors", "plain name"));
  for (const char* bad : {"{\"weight_map\": {", "[]", "{}", "{\"weight_map\": {\"a\": 1}}", "{\"weight_map\": 3}"}) {
    index(bad);
    EXPECT_TRUE(holds(refused_model(scratch.path()), "index.json: is not an index")) << bad;
  }
  index(R"({"weight_map": {}})");
  EXPECT_TRUE(holds(refused_model(scratch.path()), "empty"));

  fs::remove(scratch / index_file_name);
  const ModelFiles model(scratch.path());
  EXPECT_TRUE(
      holds(error_of([&] { model.expect("lm_head.weight", {1}, "config.json"); }), "tensor lm_head.weight is missing"));
  EXPECT_TRUE(holds(error_of([&] {
                      model.expect("a", {2, 3}, "config.json");
                    }),
                    "tensor a has shape [1], but [2, 3] by config.json; "));
  EXPECT_EQ(model.expect("a", {1}, "config.json").dtype(), DType::f32);

  write_tensors(scratch.path(), "second.safetensors", {"a"});
  EXPECT_TRUE(holds(refused_model(scratch.path()), "second.safetensors: tensor a is in", "part.safetensors too"));
}

TEST(ModelFiles, AnAdapterIsNoModel) {
  const ScratchFolder scratch;
  write_tensors(scratch.path(), "adapter_model.safetensors", {"a"});
  write_text(scratch / "adapter_config.json", "{}");
  for (const std::string& refused :
       {refused_model(scratch.path()), error_of([&] { resolve_model_folder(scratch.path()); })})
    EXPECT_TRUE(holds(refused, scratch.path() + ": holds a PEFT adapter alone", "merge_and_unload"));
  write_tensors(scratch.path(), "model.safetensors", {"b"});  // as of a model with an adapter beside it
  write_text(scratch / "config.json", "{}");
  EXPECT_EQ(scalar(ModelFiles(scratch.path()), "b"), 1);
  EXPECT_EQ(resolve_model_folder(scratch.path()), scratch.path());
}

TEST(Files, APointerOfGitLfsIsNotTakenForItsFile) {
  const ScratchFolder scratch;
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\n"
      "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
  write_text(scratch / "model.safetensors", pointer);
  EXPECT_TRUE(holds(refused_model(scratch.path()), "model.safetensors: is a pointer of Git LFS", "git lfs pull"));
  write_text(scratch / "tokenizer.json", pointer);
  EXPECT_TRUE(holds(error_of([&] { read_text(scratch / "tokenizer.json"); }), "tokenizer.json: is a pointer"));
  const std::string text = pointer + std::string(1024, ' ');  // no pointer is as long
  write_text(scratch / "text", text);
  EXPECT_EQ(read_text(scratch / "text"), text);
  write_text(scratch / "text", "version");
  EXPECT_EQ(read_text(scratch / "text"), "version");
}

}  // namespace
}  // namespace llama_tp
