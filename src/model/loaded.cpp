#include "model/loaded.h"

#include <algorithm>

#include "backend/device.h"
#include "io/checkpoint_files.h"
#include "model/checkpoint.h"
#include "model/same_model.h"

namespace llama_tp {

namespace {

DType running_dtype(std::optional<DType> wanted, DType stored) {
  if (wanted.has_value()) return *wanted;
  return stored == DType::bf16 ? DType::bf16 : DType::f32;
}

// A bf16 is the high half of an f32; in both, an exponent of ones means infinite or not a number.
template <class Bits>
bool all_finite(const std::vector<Bits>& values) {
  constexpr auto exponent = static_cast<Bits>(0x7f800000u >> (32 - 8 * sizeof(Bits)));
  return std::all_of(values.begin(), values.end(), [](Bits value) { return (value & exponent) != exponent; });
}

template <class Bits>
bool is_finite(const Tensor& tensor, Backend& backend) {
  std::vector<Bits> host(static_cast<size_t>(tensor.elements()));
  backend.download(tensor, host.data());
  return all_finite(host);
}

// Of this rank's slice; an empty one is.
bool is_finite(const Parameters& parameters, const Parameter& row, Backend& backend) {
  const Piece piece = parameters.piece(row);
  if (piece.count == 0) return true;
  const Tensor value = piece.of(parameters.unit_of(row).value);
  return value.dtype == DType::f32 ? is_finite<uint32_t>(value, backend) : is_finite<uint16_t>(value, backend);
}

}  // namespace

ModelOnRanks::ModelOnRanks(const std::string& path, std::optional<DType> dtype, const MeshOptions& mesh_options,
                           const std::string& backend_name, const Launch& launch, const std::string& family_file)
    : folder(resolve_model_folder(path)),
      config(read_model_config(folder + "/config.json", read_family_file(family_file))),
      backend(make_backend(backend_name, launch.place())),
      mesh(make_mesh(launch, config, mesh_options, *backend)),
      runtime(std::make_unique<Runtime>(*backend, mesh->groups(), running_dtype(dtype, config.dtype))) {
  check_same_checkpoint(launch, mesh->world(), path, folder);
}

void ModelOnRanks::load(const Launch& launch, Parameters& parameters) const {
  const ModelFiles files(folder);
  check_same_weights(launch, mesh->world(), files);
  load_weights(files, config, parameters, *backend);
  mesh->world().barrier();
}

void ModelOnRanks::fail_not_finite(const std::string& what, const Parameters& parameters) const {
  const std::vector<Parameter>& rows = parameters.rows();
  const auto bad = std::find_if(rows.begin(), rows.end(),
                                [&](const Parameter& row) { return !is_finite(parameters, row, *backend); });
  auto first = static_cast<double>(bad - rows.begin());
  for (const double others : mesh->world().all_gather(first)) first = std::min(first, others);
  const auto index = static_cast<size_t>(first);
  if (index < rows.size())
    fail(folder, ": the ", what, " not finite: neither is ", rows[index].name,
         "; the file is damaged, or its training had diverged: take an earlier checkpoint");
  fail(folder, ": the ", what,
       " not finite, though all weights are; do config.json's rms_norm_eps and rope_theta belong ", "to them?");
}

}  // namespace llama_tp
