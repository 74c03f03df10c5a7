#include "model/rehearsal.h"

#include "backend/meta.h"
#include "parallel/local_communicator.h"

namespace llama_tp {

MemoryPlan rehearse(Backend& backend, const Runtime& like, const std::function<void(Runtime&)>& work) {
  MetaBackend meta(backend);
  const auto as = [](const Communicator& group) { return MetaCommunicator(group.rank(), group.size()); };
  MetaCommunicator tensor = as(like.groups.tensor), kv_replicas = as(like.groups.kv_replicas),
                   fsdp = as(like.groups.fsdp), replicas = as(like.groups.replicas);
  Runtime rehearsal(meta, {tensor, kv_replicas, fsdp, replicas}, like.dtype);
  work(rehearsal);
  return rehearsal.high_water();
}

}  // namespace llama_tp
