#include "io/safetensors_writer.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "base/error.h"
#include "base/json.h"

namespace llama_tp {

namespace {

// transformers refuses a file that does not say which framework's layout it has.
const std::map<std::string, std::string> format_metadata{{"format", "pt"}};

int64_t elements(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

// The path, where a file may get that name.
std::string free_path(const std::string& path) {
  require(!folder_exists(path) && (!file_exists(path) || regular_file_exists(path)), path,
          ": is no regular file; name another");
  return path;
}

// "model-00001-of-00002.safetensors"
std::string shard_name(size_t index, size_t count) {
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

std::vector<std::vector<PlannedTensor>> into_shards(const std::vector<PlannedTensor>& tensors, int64_t shard_bytes) {
  std::vector<std::vector<PlannedTensor>> shards(1);
  int64_t filled = 0;
  for (const PlannedTensor& tensor : tensors) {
    const int64_t bytes = elements(tensor.shape) * size_of(tensor.dtype);
    if (!shards.back().empty() && filled + bytes > shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(tensor);
    filled += bytes;
  }
  return shards;
}

std::string make_index(const std::vector<FilePlan>& files) {
  int64_t bytes = 0, parameters = 0;
  Json map = Json::object();
  for (const FilePlan& file : files)
    for (const StoredTensor& tensor : file.tensors) {
      bytes += tensor.bytes;
      parameters += elements(tensor.shape);
      require(map.emplace(tensor.name, file.name).second, "tensor ", tensor.name, " would be written twice");
    }
  const Json metadata{{"total_parameters", parameters}, {"total_size", bytes}};
  return json_text(Json{{"metadata", metadata}, {"weight_map", std::move(map)}}, 2) + "\n";
}

}  // namespace

int64_t SavePlan::bytes() const {
  int64_t sum = static_cast<int64_t>(index.size());
  for (const FilePlan& file : files) sum += file.bytes;
  return sum;
}

FilePlan plan_file(const std::string& name, const std::vector<PlannedTensor>& tensors) {
  FilePlan plan{name, "", {}, 0};
  for (const PlannedTensor& tensor : tensors)
    plan.tensors.push_back({tensor.name, std::string(name_of(tensor.dtype)), tensor.shape, 0, 0});
  std::stable_sort(plan.tensors.begin(), plan.tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return size_of(a.dtype()) > size_of(b.dtype());
  });
  plan.header = make_safetensors_header(name, plan.tensors, format_metadata);
  plan.bytes = static_cast<int64_t>(plan.header.size());
  for (const StoredTensor& tensor : plan.tensors) plan.bytes += tensor.bytes;
  return plan;
}

SavePlan plan_model(const std::vector<PlannedTensor>& tensors, int64_t shard_bytes) {
  SavePlan plan;
  const std::vector<std::vector<PlannedTensor>> shards = into_shards(tensors, shard_bytes);
  for (size_t i = 0; i < shards.size(); i++)
    plan.files.push_back(plan_file(shards.size() == 1 ? "model.safetensors" : shard_name(i, shards.size()), shards[i]));
  if (plan.files.size() > 1) plan.index = make_index(plan.files);
  return plan;
}

SafetensorsWriter::SafetensorsWriter(const FilePlan& plan, const std::string& path)
    : plan_(plan), path_(free_path(path)), file_(File::create(path_ + ".partial")), written_(plan.tensors.size()) {}

SafetensorsWriter::SafetensorsWriter(const std::string& folder, const FilePlan& plan)
    : SafetensorsWriter(plan, folder + "/" + plan.name) {
  for (size_t i = 0; i < plan.tensors.size(); i++) by_name_.emplace(plan.tensors[i].name, i);
  file_.reserve(plan.bytes);
  file_.write(plan.header.data(), static_cast<int64_t>(plan.header.size()), 0);
}

void SafetensorsWriter::write(std::string_view tensor, int64_t first_byte, const void* from, int64_t bytes) {
  const auto found = by_name_.find(tensor);
  require(found != by_name_.end(), file_.path(), ": tensor ", tensor, " is not one of its plan");
  const StoredTensor& planned = plan_.tensors[found->second];
  require(first_byte >= 0 && bytes >= 0 && first_byte <= planned.bytes - bytes, file_.path(), ": tensor ", tensor,
          ": bytes [", first_byte, ", ", first_byte + bytes, ") are not inside of its ", planned.bytes);
  file_.write(from, bytes, planned.offset + first_byte);
  written_[found->second] += bytes;
}

void SafetensorsWriter::finish() {
  for (size_t i = 0; i < written_.size(); i++)
    require(written_[i] == plan_.tensors[i].bytes, file_.path(), ": tensor ", plan_.tensors[i].name, ": ", written_[i],
            " of its ", plan_.tensors[i].bytes, " bytes were written");
  file_.sync();
  rename_path(file_.path(), path_);
  finished_ = true;
}

SafetensorsWriter::~SafetensorsWriter() {
  if (!finished_) std::remove(file_.path().c_str());
}

}  // namespace llama_tp
