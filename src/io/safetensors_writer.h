// Writes safetensors files whose layout is planned before the first byte: names, types and shapes give every offset, so
// that tensors can be written in any order and in pieces, by one process a file, without any of them being held whole.
// Past 5 GB the plan has several files, named and indexed as Hugging Face's are.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/files.h"
#include "io/safetensors_header.h"

namespace llama_tp {

// What a tensor will be.
struct PlannedTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
};

struct FilePlan {
  std::string name;  // "model-00001-of-00002.safetensors"
  std::string header;
  std::vector<StoredTensor> tensors;
  int64_t bytes = 0;  // of the whole file
};

struct SavePlan {
  std::vector<FilePlan> files;
  std::string index;  // contents of model.safetensors.index.json; empty with a single file

  int64_t bytes() const;
};

// Hugging Face's largest shard.
constexpr int64_t largest_shard_bytes = 5'000'000'000;
inline const std::string index_file_name = "model.safetensors.index.json";

// One file of the given name. Wide types come first, so that every element is aligned. Errors: a name twice.
FilePlan plan_file(const std::string& name, const std::vector<PlannedTensor>& tensors);

// model.safetensors, or model-00001-of-0000N.safetensors and an index: files are filled in the given order; a tensor
// larger than a shard has a file of its own.
SavePlan plan_model(const std::vector<PlannedTensor>& tensors, int64_t shard_bytes = largest_shard_bytes);

// Writes one planned file, which has its name once it is whole: until then a file of that name stays as it is. Not for
// two threads at once.
class SafetensorsWriter {
 public:
  // Creates folder/plan.name.partial, takes its room on the disk and writes the header; `plan` must outlive the writer.
  // Errors: a full disk (needed and free bytes), no such folder, something else than a file of that name.
  SafetensorsWriter(const std::string& folder, const FilePlan& plan);
  // What was not finished is removed.
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // Bytes [first_byte, first_byte + bytes) of a tensor; any order, each byte once.
  void write(std::string_view tensor, int64_t first_byte, const void* from, int64_t bytes);

  // Returns when the file is on the disk, and has its name. Errors: a tensor that was not written whole, named.
  void finish();

 private:
  SafetensorsWriter(const FilePlan& plan, const std::string& path);

  const FilePlan& plan_;
  const std::string path_;
  File file_;
  bool finished_ = false;
  std::map<std::string_view, size_t> by_name_;
  std::vector<int64_t> written_;  // bytes of each tensor
};

}  // namespace llama_tp
