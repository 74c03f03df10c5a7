#include "train/dataset_exchange.h"

#include "parallel/host_values.h"

namespace llama_tp {

void exchange(Dataset& data, HostGroup& group) {
  if (group.size() == 1) return;
  broadcast_values(group, data.tokens);
  broadcast_values(group, data.labels);
  broadcast_values(group, data.starts);
  broadcast_values(group, data.blocks);
  std::vector<int64_t> counts{data.packed ? 1 : 0, data.documents, data.cut_samples, data.cut_tokens};
  broadcast_values(group, counts);
  data.packed = counts[0] != 0;
  data.documents = counts[1];
  data.cut_samples = counts[2];
  data.cut_tokens = counts[3];
}

}  // namespace llama_tp
