// A family of models is data, a JSON file in src/model/families: which module of the checkpoint is which part of a
// block, how tensor parallelism splits it, and which options the block has. A new family is a new file there.
//
// An option is a value, or "$key" for the value of that key in config.json, or "$key|value" where the key may be
// missing.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace llama_tp {

// The parts that a model is made of. Every part but the norms is a matrix [out, in].
enum class Part : uint8_t {
  embedding,
  attention_norm,
  q,
  k,
  v,
  o,
  q_norm,
  k_norm,
  mlp_norm,
  gate,
  up,
  down,
  final_norm,
  head
};
std::string_view name_of(Part part);

struct Module {
  std::vector<Part> parts;  // more than one: packed in the file, one after another along `out`
  std::string name;         // "model.layers.*.self_attn.q_proj"; * is the layer's number
  std::string style;        // of tensor parallelism, in Hugging Face's words
};

struct Family {
  std::string name;
  std::vector<std::string> model_types;  // of config.json
  std::vector<Module> modules;
  std::map<std::string, std::string> options;  // JSON texts
};

// Every family the program knows. Errors: a family file that is malformed (a bug of the build).
const std::vector<Family>& families();
// Errors: an unknown model_type, with those that are known.
const Family& family_of_model_type(const std::string& model_type, const std::string& source);

}  // namespace llama_tp
