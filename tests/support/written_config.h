// A config.json of a test's own, and what the program reads of it.
#pragma once

#include <string>

#include "base/json.h"
#include "io/files.h"
#include "model/config.h"
#include "scratch_folder.h"

namespace llama_tp {

// The smallest Llama, with changes: a null removes a key.
inline OrderedJson config_json(const OrderedJson& changes = OrderedJson::object()) {
  OrderedJson json{{"model_type", "llama"},    {"hidden_size", 96},        {"num_hidden_layers", 2},
                   {"num_attention_heads", 6}, {"num_key_value_heads", 2}, {"intermediate_size", 40},
                   {"vocab_size", 103},        {"rope_theta", 500.0}};
  json.merge_patch(changes);
  return json;
}

inline ModelConfig read_config(const std::string& text) {
  const ScratchFolder scratch;
  write_text(scratch / "config.json", text);
  return read_model_config(scratch / "config.json");
}
inline ModelConfig read_config(const OrderedJson& changes = OrderedJson::object()) {
  return read_config(config_json(changes).dump());
}

// Changes by which it has such a rotary scaling.
inline OrderedJson scaling(const char* type, const OrderedJson& more) {
  OrderedJson out{{"rope_type", type}, {"factor", 8}, {"low_freq_factor", 1}, {"high_freq_factor", 4}};
  out.merge_patch(more);
  return OrderedJson{{"rope_scaling", out}};
}

}  // namespace llama_tp
