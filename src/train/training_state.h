// What a checkpoint holds beside the weights, so that a run goes on as if it had never stopped: AdamW's moments and, in
// a bf16 run, what completes the weights to f32; each in safetensors files with the weights' names and shapes, in a
// folder of its own below training_state/, where transformers does not look. And training_state/state.json. A place in
// the data is not among it: which samples a step takes depends on seed and step alone (train/batches.h).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "model/parameters.h"
#include "train/batches.h"
#include "train/training_data.h"
#include "train/training_settings.h"

namespace llama_tp {

inline const std::string state_folder = "training_state";
inline const std::string published_part, weights_part = state_folder + "/weights", rest_part = state_folder + "/rest",
                                         m_part = state_folder + "/m", v_part = state_folder + "/v";

// One tensor of every weight, and where in the checkpoint's folder its files are.
struct CheckpointPart {
  std::string folder;
  Tensor Unit::*tensor;
  DType dtype;
  std::string path_in(const std::string& checkpoint) const {
    return folder.empty() ? checkpoint : checkpoint + "/" + folder;
  }
};
// All that a run of this type saves whose published weights are of the other one. Where these are the run's own, it
// goes on from them; else its own lie in weights_part.
std::vector<CheckpointPart> checkpoint_parts(DType dtype, DType save_dtype);
// The part that a run goes on from.
inline const std::string& own_weights(DType dtype, DType save_dtype) {
  return dtype == save_dtype ? published_part : weights_part;
}

// The fixed option that says what was trained on: TrainingData::description.
inline constexpr const char* data_option = "train-file";

using NamedOptions = std::vector<std::pair<std::string, std::string>>;

struct TrainingState {
  int64_t step = 0, tokens = 0;   // that are done
  DType dtype = DType::f32;       // of the weights
  DType save_dtype = DType::f32;  // of the weights in model.safetensors
  std::string date;               // that its conversations tell (chat_template.h), "" where it is not known
  // The fixed ones say which samples step k takes: with others a resumed run would be another one. The free ones may
  // change on the way. One that is new here is unknown to checkpoints of earlier versions, which a fixed one then
  // refuses: value_of (saved_training.cpp) has to know what they were.
  NamedOptions fixed, free;
};

TrainingState describe_run(const TrainingSettings& settings, const TrainingData& data, const BatchShape& shape);

std::string path_of_state(const std::string& checkpoint);
// The contents of state.json, and back. Errors: no such file, not a state of this program, cut.
std::string state_text(const TrainingState& state);
TrainingState read_training_state(const std::string& checkpoint);
// Whether it has a training state: not one of the model alone.
bool can_be_resumed(const std::string& checkpoint);
// The date that a run's conversations tell, of a folder that it saved; "" of any other.
std::string saved_date(const std::string& folder);

}  // namespace llama_tp
