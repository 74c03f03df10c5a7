// config.json: every kind of bad value against its message.
#include <gtest/gtest.h>

#include "support/error_of.h"
#include "support/written_config.h"

namespace llama_tp {
namespace {

using Json = OrderedJson;

struct Refusal {
  Json changes;
  std::vector<std::string> holds;  // key, value and mend
};

std::vector<Refusal> refusals() {
  std::vector<Refusal> all{
      {{{"model_type", nullptr}}, {"model_type is missing", "llama, "}},
      {{{"model_type", 7}}, {"model_type is missing or no string", "llama, "}},
      {{{"model_type", "bert"}}, {"model_type \"bert\"", "known: ", "llama, "}},
      {{{"is_causal", false}}, {"is_causal is false", "later tokens", "make it true"}},
      {{{"hidden_act", "gelu"}},
       {"hidden_act \"gelu\" is not implemented; known: silu, swish, gelu_pytorch_tanh, gelu_new, relu2"}},
      {{{"hidden_act", 3}}, {"hidden_act is 3", "must be a string"}},
      {{{"num_key_value_heads", 4}}, {"num_key_value_heads (4)", "num_attention_heads (6)", "1, 2, 3 or 6"}},
      {{{"num_key_value_heads", 12}}, {"num_key_value_heads (12)", "1, 2, 3 or 6"}},
      {{{"hidden_size", 97}}, {"num_attention_heads (6)", "hidden_size (97)", "head_dim"}},
      {{{"head_dim", 15}}, {"head_dim (15)", "even"}},
      {{{"rms_norm_eps", 0}}, {"rms_norm_eps is 0", "between"}},
      {{{"rms_norm_eps", -1e-6}}, {"rms_norm_eps is -1e-06", "between"}},
      {{{"rms_norm_eps", "1e-6"}}, {"rms_norm_eps is \"1e-6\"", "must be a number"}},
      {{{"rope_theta", 0}}, {"rope_theta is 0", "between"}},
      {{{"rope_theta", 1e300}}, {"rope_theta is 1e+300", "between"}},
      {{{"rope_theta", {1}}}, {"rope_theta is an array", "must be a number"}},
      {{{"initializer_range", -1}}, {"initializer_range is -1", "between"}},
      {{{"attention_bias", "yes"}}, {"attention_bias is \"yes\"", "true or false"}},
      {{{"mlp_bias", 1}}, {"mlp_bias is 1", "true or false"}},
      {{{"tie_word_embeddings", 0}}, {"tie_word_embeddings is 0", "true or false"}},
      {{{"torch_dtype", "int8"}}, {"torch_dtype is int8", "bfloat16"}},
      {{{"dtype", 16}}, {"dtype is 16", "bfloat16"}},
      {{{"quantization_config", {{"quant_method", "gptq"}}}},
       {"quantization_config: the model is quantized", "take the original model", "remove quantization_config"}},
      {{{"tp_plan", "auto"}}, {"tp_plan is \"auto\"", "must map"}},
      {{{"tp_plan", {{"lm_head", 1}}}}, {"tp_plan[\"lm_head\"] is 1", "must name a style"}},
      {{{"rope_scaling", 8}}, {"rope_scaling is 8", "must be an object"}},
      {{{"rope_parameters", "yarn"}}, {"rope_parameters is \"yarn\"", "must be an object"}},
      {scaling("ntk", Json::object()), {"rope_scaling.rope_type \"ntk\"", "linear, dynamic, llama3, yarn, longrope"}},
      {{{"rope_scaling", {{"type", 1}}}}, {"rope_scaling.type is 1", "must be a string"}},
      {scaling("linear", {{"factor", nullptr}}), {"rope_scaling.factor is missing", "linear"}},
      {scaling("dynamic", {{"factor", 0}}), {"rope_scaling.factor is 0", "between"}},
      {scaling("dynamic", {{"factor", 0.5}}), {"rope_scaling.factor is 0.5", "1 or more"}},
      {scaling("llama3", {{"factor", "8"}}), {"rope_scaling.factor is \"8\"", "must be a number"}},
      {scaling("llama3", {{"factor", 1e60}}), {"rope_scaling.factor is 1e+60", "between"}},
      {scaling("llama3", {{"low_freq_factor", nullptr}}), {"rope_scaling.low_freq_factor is missing", "llama3"}},
      {scaling("llama3", {{"high_freq_factor", nullptr}}), {"rope_scaling.high_freq_factor is missing", "llama3"}},
      {scaling("llama3", {{"high_freq_factor", 1}}), {"rope_scaling.high_freq_factor (1)", "above low_freq_factor"}},
      {scaling("yarn", {{"truncate", 1}}), {"rope_scaling.truncate is 1", "true or false"}},
      {scaling("longrope", {{"short_factor", {1, 2}}}), {"rope_scaling.short_factor must be an array of 8 numbers"}},
      {scaling("longrope", {{"short_factor", {1, 1, 1, 1, 1, 1, 1, 1}}}),
       {"rope_scaling.long_factor is missing", "longrope"}},
      {scaling("llama3", {{"original_max_position_embeddings", 0.5}}),
       {"original_max_position_embeddings is 0.5", "whole number"}},
      {scaling("llama3", {{"original_max_position_embeddings", 1e300}}),
       {"original_max_position_embeddings is 1e+300", "whole number"}},
  };
  const Json huge = 20000000, unsigned_max = UINT64_MAX, zero = 0, negative = -2, real = 2.5, word = "8";
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
                          "intermediate_size", "vocab_size", "max_position_embeddings"}) {
    for (const Json& value : {zero, negative, huge, unsigned_max})
      all.push_back({{{key, value}}, {std::string(key) + " is " + value.dump(), "must lie between 1 and "}});
    for (const Json& value : {real, word})
      all.push_back({{{key, value}}, {std::string(key) + " is " + value.dump(), "whole number"}});
  }
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"})
    all.push_back({{{key, nullptr}}, {std::string(key) + " is missing", "the llama family needs it"}});
  all.push_back({{{"num_hidden_layers", 100000}}, {"num_hidden_layers is 100000", "must lie between 1 and "}});
  for (const Json& value : {Json(103), Json(-2), huge, unsigned_max})
    all.push_back({{{"pad_token_id", value}},
                   {"pad_token_id is " + value.dump(), "outside of the vocabulary of 103", "null for none"}});
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
    for (const Json& value : {real, word, Json::object()})
      all.push_back({{{key, value}}, {std::string(key) + " is ", "must be a token id"}});
  all.push_back({{{"bos_token_id", {1, 2}}}, {"bos_token_id is an array", "must be a token id"}});
  return all;
}

TEST(RefusedConfig, EveryBadValueIsRefusedWithKeyValueAndMend) {
  for (const Refusal& refusal : refusals()) {
    const std::string error = error_of([&] { read_config(refusal.changes); });
    EXPECT_TRUE(holds(error, "config.json: ")) << refusal.changes.dump();
    for (const std::string& part : refusal.holds) EXPECT_TRUE(holds(error, part)) << refusal.changes.dump();
  }
}

TEST(RefusedConfig, AModelThatIsNotQuantizedMaySayNull) {
  Json config = config_json();
  config["quantization_config"] = nullptr;
  EXPECT_NO_THROW(read_config(config.dump()));
}

TEST(RefusedConfig, AFileThatIsNoConfigurationIsRefused) {
  for (const char* text : {"", "[]", "{\"model_type\": \"llama\"", "3", "\xff"})
    EXPECT_TRUE(
        holds(error_of([&] { read_config(std::string(text)); }), "config.json: not a JSON object", "may be cut"));
  EXPECT_TRUE(holds(error_of([] { read_model_config("nowhere/config.json"); }), "nowhere/config.json", "no such file"));
}

}  // namespace
}  // namespace llama_tp
