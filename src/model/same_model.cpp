#include "model/same_model.h"

#include <algorithm>

#include "base/fingerprint.h"
#include "base/json.h"

namespace llama_tp {

namespace {

constexpr int64_t looked_at_bytes = 4096;  // of a tensor: a page, which is what a disk reads

// Of the first rows of a tensor, or the first columns of a row that is longer.
Region beginning_of(const StoredTensor& tensor) {
  const int64_t elements = looked_at_bytes / size_of(tensor.dtype()), columns = std::min(elements, tensor.columns());
  return {0, std::clamp<int64_t>(elements / std::max<int64_t>(1, columns), 1, tensor.rows()), 0, columns};
}

uint64_t fingerprint_of_beginning(const ModelFiles& files, const StoredTensor& tensor) {
  // One of another type is none of a model's; loading says so.
  if (tensor.bytes == 0 || !(tensor.is_floating() || tensor.dtype_name == name_of(DType::i16))) return 0;
  const Region region = beginning_of(tensor);
  std::string bytes(static_cast<size_t>(region.rows() * region.columns() * size_of(tensor.dtype())), '\0');
  files.read(tensor.name, region, tensor.dtype(), bytes.data());
  return data_fingerprint(bytes);
}

// By name, what must be the same of each tensor.
Json describe(const ModelFiles& files) {
  Json tensors = Json::object();
  for (const std::string& name : files.names()) {
    const StoredTensor& tensor = *files.find(name);
    tensors[name] =
        text(tensor.dtype_name, " ", shape_text(tensor.shape), " ", fingerprint_of_beginning(files, tensor));
  }
  return tensors;
}

}  // namespace

void check_same_config(const Launch& launch, HostGroup& world, const ModelConfig& config) {
  const std::string ours = saved_config_text(config, config.dtype), theirs = world.broadcast(ours, 0);
  const auto difference = first_difference(parse_json(ours), parse_json(theirs));
  if (!difference) return;
  fail(config.source, ": ", difference->key, " is ", difference->first, ", but ", difference->second, " for rank 0 on ",
       launch.host_of(0), "; copy one model to all hosts");
}

void check_same_checkpoint(const Launch& launch, HostGroup& world, const std::string& asked,
                           const std::string& folder) {
  // Hosts may have their folders in other places: what lies behind the path that was asked for must agree.
  const std::vector<std::string> folders = world.all_gather(folder),
                                 found = world.all_gather(folder.substr(asked.size()));
  for (int rank = 1; rank < world.size(); rank++) {
    const auto at = static_cast<size_t>(rank);
    require(found[at] == found[0], "rank ", rank, " on ", launch.host_of(rank), " found ", folders[at], ", rank 0 on ",
            launch.host_of(0), " ", folders[0],
            "; name the checkpoint: a training saves there, or the hosts' folders differ");
  }
}

void check_same_weights(const Launch& launch, HostGroup& world, const ModelFiles& files) {
  if (world.size() == 1) return;
  const Json ours = describe(files);
  const auto difference = first_difference(ours, parse_json(world.broadcast(json_text(ours), 0)));
  if (!difference) return;
  fail(files.folder(), ": tensor ", difference->key, " is not that of rank 0 on ", launch.host_of(0),
       ", which has another file there; copy one model to all hosts");
}

}  // namespace llama_tp
