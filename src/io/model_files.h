// The tensors of a Hugging Face model folder, wherever they lie: in model.safetensors, in the shards that
// model.safetensors.index.json names, or in whatever *.safetensors there are. Slices are read by name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/safetensors.h"

namespace llama_tp {

// Of a folder without weights of a model. Errors: it holds a PEFT adapter.
void refuse_adapter(const std::string& folder);

// Lie any *.safetensors in it?
bool holds_safetensors(const std::string& folder);

class ModelFiles {
 public:
  // Opens and checks every file. Errors: a missing folder, no safetensors (pickles are refused, with the way to convert
  // them), an adapter, an index that names a missing file or tensor, a tensor in two files, any bad file.
  explicit ModelFiles(const std::string& folder);

  const std::string& folder() const { return folder_; }

  // Of the files.
  std::vector<std::string> paths() const;

  // All names, sorted.
  std::vector<std::string> names() const;

  // nullptr where no file has it.
  const StoredTensor* find(std::string_view name) const;

  // The tensor, of exactly this shape and type (none: any that is floating). origin: what both follow from, for messages.
  // Errors: missing; another shape; another type.
  const StoredTensor& expect(std::string_view name, const std::vector<int64_t>& shape, const std::string& origin,
                             std::optional<DType> dtype = {}) const;

  // As SafetensorsFile::read. Errors: also a missing tensor.
  void read(std::string_view name, const Region& region, DType dtype, void* to) const;

 private:
  struct Place {
    size_t file;
    const StoredTensor* tensor;
  };

  void add_file(const std::string& name);
  void check_index(const std::string& path);
  const Place& at(std::string_view name, const std::string& origin) const;

  std::string folder_;
  std::vector<SafetensorsFile> files_;
  std::unordered_map<std::string_view, Place> places_;  // views of the names in files_
};

}  // namespace llama_tp
