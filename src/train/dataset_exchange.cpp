#include "train/dataset_exchange.h"

#include <cstring>

namespace llama_tp {

namespace {

template <class T>
void exchange_array(std::vector<T>& values, HostGroup& group) {
  const bool root = group.rank() == 0;
  const std::string bytes = group.broadcast(
      root ? std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)) : std::string(), 0);
  if (root) return;
  values.resize(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
}

}  // namespace

void exchange(Dataset& data, HostGroup& group) {
  if (group.size() == 1) return;
  exchange_array(data.tokens, group);
  exchange_array(data.labels, group);
  exchange_array(data.starts, group);
  exchange_array(data.blocks, group);
  std::vector<int64_t> counts{data.packed ? 1 : 0, data.documents, data.cut_samples, data.cut_tokens};
  exchange_array(counts, group);
  data.packed = counts[0] != 0;
  data.documents = counts[1];
  data.cut_samples = counts[2];
  data.cut_tokens = counts[3];
}

}  // namespace llama_tp
