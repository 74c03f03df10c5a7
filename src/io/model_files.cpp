#include "io/model_files.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "io/safetensors_writer.h"

namespace llama_tp {

namespace {

namespace fs = std::filesystem;

constexpr int64_t largest_index = 256 << 20;

std::vector<std::string> file_names(const std::string& folder) {
  std::vector<std::string> names = names_in(folder);
  std::erase_if(names, [&](const std::string& name) { return folder_exists(folder + "/" + name); });
  std::sort(names.begin(), names.end());
  return names;
}

// Tensor → file, as the index says. Errors: not JSON, no weight_map, a tensor twice, a file outside of the folder.
std::map<std::string, std::string> read_weight_map(const std::string& path) {
  std::set<std::string> keys;
  int depth_of_map = -1;  // nlohmann drops repeated keys silently; its callback sees them
  const auto watch = [&](int depth, Json::parse_event_t event, const Json& parsed) {
    if (event != Json::parse_event_t::key) return true;
    if (depth == 1) depth_of_map = parsed == "weight_map" ? 2 : -1;
    if (depth == depth_of_map)
      require(keys.insert(parsed.get<std::string>()).second, path, ": names tensor ", parsed.get<std::string>(),
              " twice; save the model again");
    return true;
  };
  std::map<std::string, std::string> files;
  try {
    const Json index = parse_json_or_discard(read_text(path, largest_index), watch);
    files = index.at("weight_map").get<std::map<std::string, std::string>>();
  } catch (const Json::exception&) {
    fail(path,
         ": is not an index (JSON with a weight_map from tensors to files); copy it again, or delete it if there is "
         "one file only");
  }
  require(!files.empty(), path, ": its weight_map is empty; save the model again");
  for (const auto& [tensor, file] : files)
    require(fs::path(file).filename() == file, path, ": tensor ", tensor, ": ", file,
            " is not the plain name of a file of this folder");
  return files;
}

[[noreturn]] void fail_without_safetensors(const std::string& folder, const std::vector<std::string>& names) {
  // Into the same folder: the tokenizer is there, and model.safetensors is preferred from then on.
  for (const std::string& name : names)
    if (name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth") || name.ends_with(".ckpt"))
      fail(folder, ": holds only pickles (", name,
           "), which can run code when they are loaded and are refused; convert them where they are trusted: python -c "
           "\"from transformers import AutoModelForCausalLM as M; M.from_pretrained('",
           folder, "').save_pretrained('", folder, "')\"");
  fail(folder, ": holds no *.safetensors; give a Hugging Face model folder or an output folder of llama_tp train");
}

}  // namespace

void refuse_adapter(const std::string& folder) {
  require(!file_exists(folder + "/adapter_config.json"), folder,
          ": holds a PEFT adapter alone; merge it into its model first (merge_and_unload), and give the folder of the "
          "merged one");
}

bool holds_safetensors(const std::string& folder) {
  const std::vector<std::string> names = file_names(folder);
  return std::any_of(names.begin(), names.end(),
                     [](const std::string& name) { return name.ends_with(".safetensors"); });
}

ModelFiles::ModelFiles(const std::string& folder) : folder_(folder) {
  require(folder_exists(folder), folder, ": ", file_exists(folder) ? "is a file" : "no such folder",
          "; give a Hugging Face model folder or an output folder of llama_tp train");
  const std::string index = folder + "/" + index_file_name;
  if (file_exists(folder + "/model.safetensors")) {  // which transformers prefers too
    add_file("model.safetensors");
  } else if (file_exists(index)) {
    check_index(index);
  } else {
    refuse_adapter(folder);
    const std::vector<std::string> names = file_names(folder);
    for (const std::string& name : names)
      if (name.ends_with(".safetensors")) add_file(name);
    if (files_.empty()) fail_without_safetensors(folder, names);
  }
}

void ModelFiles::add_file(const std::string& name) {
  files_.emplace_back(folder_ + "/" + name);
  for (const StoredTensor& tensor : files_.back().tensors()) {
    const auto [found, is_new] = places_.emplace(tensor.name, Place{files_.size() - 1, &tensor});
    require(is_new, files_.back().path(), ": tensor ", tensor.name, " is in ", files_[found->second.file].path(),
            " too; keep one of the two");
  }
}

void ModelFiles::check_index(const std::string& path) {
  const std::map<std::string, std::string> map = read_weight_map(path);
  std::map<std::string, std::string> tensor_of_file;
  for (const auto& [tensor, file] : map) tensor_of_file.emplace(file, tensor);
  for (const auto& [file, tensor] : tensor_of_file) {
    require(file_exists(folder_ + "/" + file), path, ": names ", file, " (for ", tensor,
            "), which is not there; copy it into the folder");
    add_file(file);
  }
  for (const auto& [tensor, file] : map) {
    const auto found = places_.find(tensor);
    require(found != places_.end() && files_[found->second.file].path() == folder_ + "/" + file, path, ": tensor ",
            tensor, " is not in ", file, "; copy file and index again");
  }
}

std::vector<std::string> ModelFiles::paths() const {
  std::vector<std::string> paths;
  for (const SafetensorsFile& file : files_) paths.push_back(file.path());
  return paths;
}

std::vector<std::string> ModelFiles::names() const {
  std::vector<std::string> names;
  names.reserve(places_.size());
  for (const auto& [name, place] : places_) names.emplace_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

const StoredTensor* ModelFiles::find(std::string_view name) const {
  const auto found = places_.find(name);
  return found == places_.end() ? nullptr : found->second.tensor;
}

const ModelFiles::Place& ModelFiles::at(std::string_view name, const std::string& origin) const {
  const auto found = places_.find(name);
  require(found != places_.end(), folder_, ": tensor ", name, " is missing; ",
          files_.size() == 1 ? files_[0].path() : text("its ", files_.size(), " files"), " hold",
          files_.size() == 1 ? "s " : " ", places_.size(), " others: is this the model of ", origin, "?");
  return found->second;
}

const StoredTensor& ModelFiles::expect(std::string_view name, const std::vector<int64_t>& shape,
                                       const std::string& origin, std::optional<DType> dtype) const {
  const Place& place = at(name, origin);
  const StoredTensor& tensor = *place.tensor;
  const std::string& path = files_[place.file].path();
  require(tensor.shape == shape, path, ": tensor ", name, " has shape ", shape_text(tensor.shape), ", but ",
          shape_text(shape), " by ", origin, "; one of them belongs to another model");
  require(!dtype || tensor.dtype_name == name_of(*dtype), path, ": tensor ", name, " is ", tensor.dtype_name,
          " where the checkpoint's training state says ", name_of(dtype.value_or(DType::f32)),
          "; the file belongs to another checkpoint: copy the whole folder again");
  require(dtype || tensor.is_floating(), path, ": tensor ", name, " is ", tensor.dtype_name,
          "; weights are read as F32, BF16 or F16: convert the model");
  return tensor;
}

void ModelFiles::read(std::string_view name, const Region& region, DType dtype, void* to) const {
  const Place& place = at(name, "config.json");
  files_[place.file].read(*place.tensor, region, dtype, to);
}

}  // namespace llama_tp
