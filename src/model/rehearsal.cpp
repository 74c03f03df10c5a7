#include "model/rehearsal.h"

#include "backend/meta.h"
#include "parallel/local_communicator.h"

namespace llama_tp {

MemoryPlan rehearse(Backend& backend, const Runtime& like, const std::function<void(Runtime&)>& work) {
  MetaBackend meta(backend);
  MetaCommunicator tp(like.tp.rank(), like.tp.size()), replicas(like.kv_replicas.rank(), like.kv_replicas.size()),
      shards(like.shards.rank(), like.shards.size());
  Runtime rehearsal(meta, tp, replicas, shards, like.dtype);
  work(rehearsal);
  return rehearsal.high_water();
}

}  // namespace llama_tp
