// What a Hugging Face config.json says of a model, checked and in one struct. The family (model/families.h) tells which
// of its keys mean what; nothing after this file looks at config.json or asks for a family's name.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "io/chat/chat_template.h"
#include "model/families.h"

namespace llama_tp {

enum class RopeKind : uint8_t { standard, linear, dynamic, llama3, yarn, longrope };

// Rotary frequencies and how they are stretched for long contexts (transformers' modeling_rope_utils).
struct RopeConfig {
  RopeKind kind = RopeKind::standard;
  double theta = 10000;
  double factor = 1;
  double low_frequency_factor = 1, high_frequency_factor = 4;  // llama3
  double fast_rotations = 32, slow_rotations = 1;              // yarn: in the original context; kept, stretched
  bool whole_bounds = true;                        // yarn: between them a ramp from a whole index to another
  std::vector<float> short_factors, long_factors;  // longrope: [rotary_dim / 2], up to the original length or past it
  int64_t original_max_positions = 0;              // of all kinds but standard and linear
  double magnitude = 1;                            // of the rotated elements (yarn, longrope)
  std::vector<std::string> unread;                 // keys of config.json: "rope_scaling.attn_factor"
};

// Which modules are split over the tensor-parallel ranks and how. What is split together must agree: q/k/v colwise with o
// rowwise, gate/up colwise with down rowwise, or all replicated.
struct TensorParallelPlan {
  struct Layer {
    bool attention = true, mlp = true;  // split?
  };
  std::vector<Layer> layers;
  bool embedding = true, head = true;
  // The style of a module in a layer, in Hugging Face's words; one outside of the blocks has a single entry.
  std::vector<std::vector<std::string>> styles;  // [module of the family][layer, or 0]
};

struct ModelConfig {
  FamilyPointer family;
  std::string source;  // the file it was read from, for messages

  int64_t hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0, vocabulary = 0, max_positions = 0;
  NormOptions norm;
  bool norm_bias = false;
  ActivationOptions activation;
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool qk_norm = false;             // an RMSNorm on each head of q and k before they rotate
  int64_t rotary_dim = 0;           // the first elements of each head that rotate; the rest stays
  std::vector<bool> rotary_layers;  // does each layer rotate its queries and keys?
  std::vector<int64_t> windows;     // of each layer's attention (AttentionOptions::window): one size, or 0
  float attention_scale = 1;        // of q·k
  // What a block adds to the residual stream, what the embedding gives and what the head gives are multiplied by these.
  float residual_multiplier = 1, embedding_multiplier = 1, logits_multiplier = 1;
  bool embedding_multiplier_rounded = false;  // to the run's type
  bool tied = false;                          // the head is the embedding
  RopeConfig rope;
  double initializer_range = 0.02;
  DType dtype = DType::f32;  // of the weights as config.json states it
  std::optional<int64_t> bos_id, pad_id;
  std::vector<int64_t> eos_ids;
  std::vector<std::string> unmet_ids;  // "eos_token_id 151643": that begin or end no text, outside of the vocabulary
  std::vector<std::string> unread;     // keys of config.json that the family does not take, nor anything else
  ChatTemplateChoice chat_template;    // that the file keeps (saved_config_text)
  bool names_code = false;             // auto_map: classes that transformers takes from files beside config.json
  std::vector<std::string> dropouts;   // keys of config.json that ask for some: no operation here drops anything
  // A TP plan in config.json: module pattern → style, in the order of the file.
  std::vector<std::pair<std::string, std::string>> plan_overrides;
  TensorParallelPlan plan;  // resolve_plan of all this

  int64_t q_width() const { return heads * head_dim; }
  int64_t kv_width() const { return kv_heads * head_dim; }
  // Of the layers that have one.
  int64_t window() const { return *std::max_element(windows.begin(), windows.end()); }
};

// Reads and checks config.json, a file or the name of a shipped one, in either spelling (rope_theta and rope_scaling,
// or rope_parameters; torch_dtype or dtype). Errors: a value missing, of the wrong type, 0, negative, huge, not
// implemented, or not fitting another: one line with key, value and mend; and resolve_plan's. family: null: the one
// that the file keeps (saved_config_text), else that model_type names.
ModelConfig read_model_config(const std::filesystem::path& file, FamilyPointer family = nullptr);
// The same with an empty plan, for what splits no module: a tp_plan goes by names that only the right family has.
ModelConfig read_config_without_plan(const std::filesystem::path& file, FamilyPointer family = nullptr);

// Lines that name what of config.json was left out: of the rotary part what nothing reads, ids that no text holds, and
// what a family that a file gave does not take: it may be what makes the model another.
std::vector<std::string> left_out_of(const ModelConfig& config);

// config.json for a checkpoint of this program: the file as it was read, with the dtype of the weights as they are
// written now, with the family that a file gave, and with the name of a chat template where one is given. Where a family
// is the program's own transformers has its classes, too: auto_map, which names others in files beside config.json, is
// left out.
std::string saved_config_text(const ModelConfig& config, DType dtype, const std::string& chat_template = "");
// The family in such a config.json; null where it has none, or is not JSON. Errors: what is kept is no family.
FamilyPointer kept_family(const std::filesystem::path& file);
// The chat template in one; none where it has none, or is not JSON. Errors: what is kept is no name.
ChatTemplateChoice kept_chat_template(const std::filesystem::path& file);

// The shape of a part's weight, [rows, columns]; of a norm, [rows].
int64_t rows_of_part(const ModelConfig& config, Part part);
int64_t columns_of_part(const ModelConfig& config, Part part);

}  // namespace llama_tp
