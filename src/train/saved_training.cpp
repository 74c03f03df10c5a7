#include "train/saved_training.h"

#include "base/json.h"
#include "io/safetensors_writer.h"
#include "model/checkpoint.h"
#include "model/config_reader.h"
#include "model/same_model.h"

namespace llama_tp {

namespace {

void refuse_earlier_run(const OutputFolder& output) {
  const std::vector<int64_t> steps = output.checkpoint_steps();
  if (steps.empty()) return;
  const bool goes_on = can_be_resumed(checkpoint_path(output.path(), steps.back()));
  fail(output.path(), ": holds checkpoints of an earlier run (the last is ", steps.back(), "); ",
       goes_on ? "go on from there with --resume-from-checkpoint, " : "",
       "choose another --output-dir, or remove them first");
}

bool holds_weights(const std::string& folder) {
  return file_exists(folder + "/model.safetensors") || file_exists(folder + "/" + index_file_name);
}

// "" where there is none. Errors: the newest cannot be resumed, while one before it can.
std::string latest_to_resume(const OutputFolder& output) {
  const std::string newest = newest_checkpoint(output.path()).value_or("");
  if (newest.empty() || can_be_resumed(newest)) return newest;
  const bool is_model = file_exists(newest + "/config.json") && holds_weights(newest);
  const auto steps = output.checkpoint_steps();
  for (auto step = steps.rbegin(); step != steps.rend(); ++step)
    if (const std::string earlier = checkpoint_path(output.path(), *step); can_be_resumed(earlier))
      fail(newest, ": cannot be resumed: it is ",
           is_model ? "of the model alone (--save-only-model)" : "incomplete: parts were left behind",
           "; remove all behind ", earlier, " to go on from that one",
           is_model ? text(", or start anew with --model ", newest, " and another --output-dir") : "");
  return newest;
}

// The options of a config.json; weights of either type are read, and transformers' classes are none.
Json model_options(const std::string& path, const std::string& contents) {
  Json json = parse_json_or_discard(contents);
  require(json.is_object(), path, ": is not a JSON object; copy the whole checkpoint again or resume from another one");
  for (const char* key : {"dtype", "torch_dtype", "_name_or_path", "auto_map"}) json.erase(key);
  return json;
}

void refuse_other_config(const std::string& checkpoint, const ModelConfig& config, const std::string& config_text) {
  const std::string path = checkpoint + "/config.json";
  const Json saved = model_options(path, read_text(path));
  Json ours = model_options(config.source, config_text);
  // Checkpoints of earlier versions do not name it; there a difference shows in the data.
  if (!saved.contains(chat_template_key)) ours.erase(chat_template_key);
  const auto difference = first_difference(saved, ours);
  if (!difference) return;
  require(difference->key != family_key, path,
          ": its run has another family; leave --family out, and the checkpoint's is taken");
  require(difference->key != chat_template_key, path,
          ": its run has another chat template; leave --chat-template out, and the checkpoint's is taken");
  fail(path, ": ", difference->key, " is ", difference->first, ", but ", difference->second, " in ", config.source,
       "; a run is resumed with the model that it began with: give that --config or --model");
}

// "unknown" where the checkpoint does not say.
std::string value_of(const NamedOptions& options, const std::string& name) {
  for (const auto& [option, value] : options)
    if (option == name) return value;
  return "unknown";
}

void refuse_other_run(const std::string& checkpoint, const TrainingState& saved, const TrainingState& now,
                      const TrainingData& data) {
  for (const auto& [option, ours] : now.fixed) {
    const std::string theirs = value_of(saved.fixed, option);
    if (theirs == ours || (option == data_option && theirs == data.earlier_description())) continue;
    fail(checkpoint, ": its run has --", option, " ", theirs, ", this one ", ours, "; step ", saved.step + 1,
         " would not follow on step ", saved.step, ": give the --", option,
         " of then, or start anew from its weights: --model ", checkpoint,
         " without --resume-from-checkpoint, into an --output-dir without checkpoints");
  }
}

}  // namespace

std::string find_checkpoint_to_resume(const TrainingSettings& settings, const OutputFolder& output) {
  if (settings.resume == "latest") return latest_to_resume(output);
  if (settings.resume.empty()) {
    refuse_earlier_run(output);
    return "";
  }
  require(folder_exists(settings.resume), "--resume-from-checkpoint ", settings.resume,
          ": no such folder; give a checkpoint of train, or latest for the newest in --output-dir");
  const std::string folder = resolve_model_folder(settings.resume);
  const std::optional<int64_t> step = step_in(output.path(), folder);
  if (!step) {
    refuse_earlier_run(output);
    return folder;
  }
  const int64_t newest = output.checkpoint_steps().back();
  const std::string behind = checkpoint_path(output.path(), newest);
  require(*step == newest, folder, ": ", behind, " was saved after it; ",
          can_be_resumed(behind) ? "resume from that one, or " : "", "remove it first");
  return folder;
}

FamilyPointer find_family(const TrainingSettings& settings) {
  if (!settings.family.empty()) return read_family_file(settings.family);
  const bool latest = settings.resume == "latest";
  const std::string& place = latest ? settings.output_dir : settings.resume;
  if (!folder_exists(place)) return nullptr;
  const std::string folder = latest ? newest_checkpoint(place).value_or(place) : resolve_model_folder(place);
  const std::string file = folder + "/config.json";
  return file_exists(file) ? kept_family(file) : nullptr;
}

SavedTraining::SavedTraining(const std::string& checkpoint, const ModelConfig& config, const std::string& config_text,
                             const Parameters& table, const TrainingState& now, const TrainingData& data)
    : checkpoint_(checkpoint), config_(config), saved_(read_training_state(checkpoint)), now_(now) {
  refuse_other_config(checkpoint_, config_, config_text);
  refuse_other_run(checkpoint_, saved_, now_, data);
  open_parts(table);
}

void SavedTraining::open_parts(const Parameters& table) {
  for (const CheckpointPart& part : checkpoint_parts(saved_.dtype, saved_.save_dtype)) {
    const std::string folder = part.path_in(checkpoint_);
    require(holds_weights(folder), folder,
            ": has no model.safetensors; the checkpoint is incomplete: copy it whole again, or remove it and resume "
            "from an earlier one");
    check_tensors(parts_.emplace(part.folder, folder).first->second, config_, table, part.dtype);
  }
}

std::vector<std::string> SavedTraining::changes() const {
  std::vector<std::string> lines;
  for (const auto& [option, ours] : now_.free) {
    const std::string theirs = value_of(saved_.free, option);
    if (theirs != ours) lines.push_back(text("--", option, " was ", theirs, " and is ", ours));
  }
  return lines;
}

void SavedTraining::load(const Launch& launch, HostGroup& world, Parameters& parameters, Backend& backend) {
  for (const auto& [name, files] : parts_) check_same_weights(launch, world, files);
  const ModelFiles& weights = parts_.at(own_weights(saved_.dtype, saved_.save_dtype));
  if (saved_.dtype == DType::bf16)
    load_masters(weights, parts_.at(rest_part), parameters, backend);
  else
    load_weights(weights, config_, parameters, backend);
  // What is left is the optimizer's.
  for (const CheckpointPart& part : checkpoint_parts(saved_.dtype, saved_.save_dtype))
    if (part.tensor != &Unit::value && part.tensor != &Unit::rest)
      load_tensors(parts_.at(part.folder), part.tensor, parameters, backend);
  parts_.clear();
}

}  // namespace llama_tp
