#include "train/training_state.h"

#include <algorithm>

#include "base/json.h"
#include "io/files.h"

namespace llama_tp {

namespace {

constexpr int state_version = 1;
constexpr int64_t largest_state = 1 << 20;

// The shortest text that gives the same number again.
std::string number(double value) { return json_text(OrderedJson(value)); }

OrderedJson object_of(const NamedOptions& options) {
  OrderedJson object = OrderedJson::object();
  for (const auto& [name, value] : options) object[name] = value;
  return object;
}

NamedOptions options_of(const OrderedJson& object) {
  NamedOptions options;
  for (const auto& [name, value] : object.items()) options.emplace_back(name, value.get<std::string>());
  return options;
}

}  // namespace

std::vector<CheckpointPart> checkpoint_parts(DType dtype, DType save_dtype) {
  std::vector<CheckpointPart> parts{
      {published_part, &Unit::value, save_dtype}, {m_part, &Unit::m, DType::f32}, {v_part, &Unit::v, DType::f32}};
  if (dtype != save_dtype) parts.push_back({weights_part, &Unit::value, dtype});
  if (dtype == DType::bf16) parts.push_back({rest_part, &Unit::rest, DType::i16});
  return parts;
}

TrainingState describe_run(const TrainingSettings& settings, const TrainingData& data, const BatchShape& shape) {
  TrainingState state;
  state.dtype = settings.dtype;
  state.save_dtype = settings.stored_dtype();
  state.date = settings.data.date;
  // A batch larger than the data takes all of it, however large it is.
  const int64_t batch = std::min(shape.global_batch(), data.training.samples());
  // What changes those behind it comes first: it is named.
  state.fixed = {{"seed", std::to_string(settings.seed)},
                 {"block-size", std::to_string(settings.block_size)},
                 {data_option, data.description()},
                 {"global-batch-size", std::to_string(batch)}};
  state.free = {{"dtype", std::string(torch_name_of(settings.dtype))},
                {"max-steps", std::to_string(settings.schedule.steps)},
                {"lr-scheduler-type", name_of(settings.schedule.kind)},
                {"warmup-steps", std::to_string(settings.schedule.warmup_steps)},
                {"learning-rate", number(settings.schedule.learning_rate)},
                {"weight-decay", number(settings.weight_decay)},
                {"adam-beta1", number(settings.adam_beta1)},
                {"adam-beta2", number(settings.adam_beta2)},
                {"adam-epsilon", number(settings.adam_epsilon)},
                {"max-grad-norm", number(settings.max_grad_norm)}};
  return state;
}

std::string state_text(const TrainingState& state) {
  const OrderedJson json{{"version", state_version},
                         {"step", state.step},
                         {"tokens", state.tokens},
                         {"fixed", object_of(state.fixed)},
                         {"free", object_of(state.free)},
                         {"dtype", name_of(state.dtype)},
                         {"save_dtype", name_of(state.save_dtype)},
                         {"date", state.date}};
  return json_text(json, 2) + "\n";
}

std::string path_of_state(const std::string& checkpoint) { return checkpoint + "/" + state_folder + "/state.json"; }

bool can_be_resumed(const std::string& checkpoint) { return file_exists(path_of_state(checkpoint)); }

TrainingState read_training_state(const std::string& checkpoint) {
  const std::string path = path_of_state(checkpoint);
  require(can_be_resumed(checkpoint), checkpoint, ": cannot be resumed: it has no ", state_folder,
          "/state.json, as with --save-only-model or where parts were left behind; start anew from its weights with "
          "--model ",
          checkpoint, " and another --output-dir, or copy the whole folder");
  TrainingState state;
  try {
    const OrderedJson json = parse_ordered_json_or_discard(read_text(path, largest_state));
    const int version = json.at("version").get<int>();
    require(version == state_version, path, ": is of version ", version, ", this program reads ", state_version,
            "; resume it with the program that wrote it");
    state.step = json.at("step").get<int64_t>();
    state.tokens = json.at("tokens").get<int64_t>();
    state.dtype = dtype_named(json.at("dtype").get<std::string>());
    state.save_dtype = dtype_named(json.value("save_dtype", std::string(name_of(state.dtype))));
    state.date = json.value("date", std::string());
    state.fixed = options_of(json.at("fixed"));
    state.free = options_of(json.at("free"));
  } catch (const nlohmann::json::exception&) {
    fail(path, ": is not a training state, or cut; copy the whole checkpoint again or resume from another one");
  }
  require(state.step >= 1 && state.tokens >= 0 && (state.dtype == DType::f32 || state.dtype == DType::bf16), path,
          ": step ", state.step, ", tokens ", state.tokens, " and dtype ", name_of(state.dtype),
          " are not what train saves; copy the whole checkpoint again or resume from another one");
  return state;
}

std::string saved_date(const std::string& folder) {
  return can_be_resumed(folder) ? read_training_state(folder).date : "";
}

}  // namespace llama_tp
