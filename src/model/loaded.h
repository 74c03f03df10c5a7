// What commands that only run a model have in common: its folder resolved and read, its mesh, its device.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "model/parameters.h"
#include "model/placement.h"
#include "model/runtime.h"

namespace llama_tp {

struct ModelOnRanks {
  // dtype: of the run; none: that of the checkpoint (f16 runs as f32). family_file: "" for the family that config.json
  // names. Errors: the folder's, the config's, make_mesh's,
  // check_same_checkpoint's.
  ModelOnRanks(const std::string& path, std::optional<DType> dtype, const MeshOptions& mesh_options,
               const std::string& backend_name, const Launch& launch, const std::string& family_file);

  // Fills the weights from the folder, on all ranks: what they do next they begin together. Errors: load_weights',
  // check_same_weights'.
  void load(const Launch& launch, Parameters& parameters) const;
  // The end of a run that made numbers which are not finite: names the first weight that is not, if there is one.
  // Collective.
  [[noreturn]] void fail_not_finite(const std::string& what, const Parameters& parameters) const;

  std::string folder;
  ModelConfig config;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Mesh> mesh;
  std::unique_ptr<Runtime> runtime;
};

}  // namespace llama_tp
