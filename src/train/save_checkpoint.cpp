#include "train/save_checkpoint.h"

#include <memory>

#include "model/write_parameters.h"

namespace llama_tp {

namespace {

std::vector<CheckpointPart> checkpoint_parts(DType dtype, DType save_dtype, bool only_model) {
  std::vector<CheckpointPart> parts = checkpoint_parts(dtype, save_dtype);
  if (only_model) std::erase_if(parts, [](const CheckpointPart& part) { return part.folder != published_part; });
  return parts;
}

}  // namespace

void save_checkpoint(const std::string& output_folder, const TrainingState& state, const CheckpointContents& contents,
                     const Parameters& parameters, Backend& backend, const Mesh& mesh) {
  const bool leads = mesh.world().rank() == 0;
  const std::vector<CheckpointPart> parts = checkpoint_parts(state.dtype, state.save_dtype, contents.only_model);
  std::unique_ptr<PartialCheckpoint> partial;
  if (leads) {
    partial = std::make_unique<PartialCheckpoint>(output_folder, state.step);
    for (const CheckpointPart& part : parts)
      if (!part.folder.empty()) partial->make_folder(part.folder);
  }
  // The others hear of the folder once it is there.
  const std::string folder = mesh.world().broadcast(leads ? partial->folder() : "", 0);
  // Data-parallel ranks hold the same: those of the first copy write.
  if (mesh.copy_index() == 0)
    for (const CheckpointPart& part : parts)
      write_model(parameters, part.tensor, part.dtype, part.path_in(folder), backend, mesh.copy_host(),
                  contents.writers);
  mesh.world().barrier();
  if (leads) {
    if (!contents.only_model) write_text(path_of_state(folder), state_text(state));
    for (const CarriedFile& file : contents.files) write_text(folder + "/" + file.name, file.contents);
    partial->publish();
  }
  mesh.world().barrier();
}

int64_t tensor_file_bytes(DType dtype, DType save_dtype, bool only_model, const Parameters& parameters) {
  int64_t bytes = 0;
  for (const CheckpointPart& part : checkpoint_parts(dtype, save_dtype, only_model))
    bytes += plan_model(planned_tensors(parameters, part.dtype)).bytes();
  return bytes;
}

int64_t checkpoint_bytes(const TrainingState& state, const CheckpointContents& contents, const Parameters& parameters) {
  int64_t bytes = tensor_file_bytes(state.dtype, state.save_dtype, contents.only_model, parameters);
  if (!contents.only_model) bytes += std::ssize(state_text(state));
  for (const CarriedFile& file : contents.files) bytes += std::ssize(file.contents);
  return bytes;
}

void save_gradients(const std::string& path, const Parameters& parameters, Backend& backend, const Mesh& mesh) {
  if (mesh.copy_index() != 0) return;
  SavePlan files;
  files.files.push_back(plan_file(name_of_file(path), planned_tensors(parameters, DType::f32)));
  write_parameters(parameters, &Unit::gradient, DType::f32, files, folder_of_file(path), backend, mesh.copy_host(),
                   {0});
}

}  // namespace llama_tp
