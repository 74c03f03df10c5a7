#include "model/loaded.h"

#include "backend/device.h"
#include "io/checkpoint_files.h"
#include "model/checkpoint.h"

namespace llama_tp {

namespace {

DType running_dtype(std::optional<DType> wanted, DType stored) {
  if (wanted.has_value()) return *wanted;
  return stored == DType::bf16 ? DType::bf16 : DType::f32;
}

}  // namespace

ModelOnRanks::ModelOnRanks(const std::string& path, std::optional<DType> dtype, int64_t tensor_parallel,
                           const std::string& backend_name, const Launch& launch)
    : folder(resolve_model_folder(path)),
      config(read_model_config(folder + "/config.json")),
      plan(resolve_plan(config)),
      mesh(make_mesh(launch, config, plan, tensor_parallel, placement_said)),
      backend(make_backend(backend_name, launch.threads())),
      runtime(std::make_unique<Runtime>(*backend, mesh->tensor(), mesh->kv_replicas(),
                                        running_dtype(dtype, config.dtype))) {}

void ModelOnRanks::load(Parameters& parameters) const {
  load_weights(ModelFiles(folder), config, parameters, *backend);
}

}  // namespace llama_tp
