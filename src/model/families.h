// A family of models is data, a JSON file in src/model/families: which module of the checkpoint is which part of a
// block, how tensor parallelism splits it, and which options the block has. A new family is a new file there.
//
// "like" names another family: its modules and options hold where the file gives none of its own; without it, llama's
// options. A module replaces those that hold one of its parts; one whose name is null only takes them away.
//
// An option is a value, or "$key" for the value of that key in config.json ("$object.key" inside of an object;
// rope_parameters stands for rope_scaling where that counts), or several such and a value, "$key|$other|value", of which
// the first that is there counts. "$sqrt(key)" is the root of a key's number.
//
// "only" gives the values that the family has of a key of config.json, where others would be another block.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
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
bool is_norm(Part part);
bool outside_blocks(Part part);

struct Module {
  std::vector<Part> parts;  // more than one: packed in the file, one after another along `out`
  std::string name;         // "model.layers.*.self_attn.q_proj"; * is the layer's number
  std::string style;        // of tensor parallelism, in Hugging Face's words
};

struct Family {
  std::string name;
  std::vector<std::string> model_types;  // of config.json
  std::vector<Module> modules;
  std::map<std::string, std::string> only;     // JSON texts, of arrays
  std::map<std::string, std::string> options;  // JSON texts
  std::string text;                            // the file it was read from; "" for one that the program brings along
};

using FamilyPointer = std::shared_ptr<const Family>;

// Every family that the program brings along. Errors: a family file that is malformed (a bug of the build).
const std::vector<FamilyPointer>& families();
// A family from the text of such a file; `source` names it in messages. Errors: not JSON, something missing, an unknown
// part or option.
FamilyPointer parse_family(const std::string& text, const std::string& source);
// The same from a file, for a model that no family lists; null for "", which leaves it to model_type. Errors: also no
// such file.
FamilyPointer read_family_file(const std::string& file);
// What a family file that inspect --infer writes is like.
FamilyPointer unlisted_family();

// Errors: an unknown model_type, with those that are known.
FamilyPointer family_of_model_type(const std::string& model_type, const std::string& source);
// "llama, mistral, …"
std::string known_model_types();

}  // namespace llama_tp
