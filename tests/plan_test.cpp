// The tensor-parallel plan: what a tp_plan of config.json may say, and which sizes a model can be split over.
#include "model/plan.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "io/files.h"
#include "scratch_folder.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

using Json = nlohmann::ordered_json;

// Twelve query heads on four key/value heads, an ffn of 60, two layers.
ModelConfig config_with(const Json& changes) {
  Json json{{"model_type", "llama"},     {"hidden_size", 96},        {"num_hidden_layers", 2},
            {"num_attention_heads", 12}, {"num_key_value_heads", 4}, {"intermediate_size", 60},
            {"vocab_size", 103}};
  json.merge_patch(changes);
  const ScratchFolder scratch;
  write_text(scratch / "config.json", json.dump());
  return read_model_config(scratch / "config.json");
}
TensorParallelPlan plan_with(const Json& tp_plan, bool tied = false) {
  return config_with({{"tp_plan", tp_plan}, {"tie_word_embeddings", tied}}).plan;
}

// {module in a layer: style} of everything that is split.
std::map<std::string, std::string> split_modules(const TensorParallelPlan& plan) {
  std::map<std::string, std::string> split;
  const FamilyPointer family = family_of_model_type("llama", "");
  const std::vector<Module>& modules = family->modules;
  for (size_t m = 0; m < modules.size(); m++)
    for (size_t layer = 0; layer < plan.styles[m].size(); layer++)
      if (plan.styles[m][layer] != "replicated")
        split[name_in_layer(modules[m], static_cast<int64_t>(layer))] = plan.styles[m][layer];
  return split;
}

// Megatron's: the projections in by rows of the weight, those out by columns, the vocabulary over the ranks.
std::map<std::string, std::string> megatron(int64_t layers) {
  std::map<std::string, std::string> split{{"model.embed_tokens", "embedding_rowwise"}, {"lm_head", "colwise"}};
  for (int64_t layer = 0; layer < layers; layer++) {
    const std::string block = "model.layers." + std::to_string(layer) + ".";
    for (const char* in : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"})
      split[block + in] = "colwise";
    for (const char* out : {"self_attn.o_proj", "mlp.down_proj"}) split[block + out] = "rowwise";
  }
  return split;
}

TEST(Plan, WithoutATpPlanItIsMegatrons) {
  const TensorParallelPlan plan = plan_with(nullptr);
  EXPECT_EQ(split_modules(plan), megatron(2));
  EXPECT_TRUE(plan.embedding && plan.head);
  for (const auto& layer : plan.layers) EXPECT_TRUE(layer.attention && layer.mlp);
}

TEST(Plan, ThePlanOfTransformersAndItsOlderWordsMeanTheSame) {
  // configuration_llama.py's base_model_tp_plan has no "model." in front; lm_head is LlamaForCausalLM's.
  const Json ours{{"layers.*.self_attn.q_proj", "colwise"},
                  {"layers.*.self_attn.k_proj", "colwise"},
                  {"layers.*.self_attn.v_proj", "colwise"},
                  {"layers.*.self_attn.o_proj", "rowwise"},
                  {"layers.*.mlp.gate_proj", "colwise"},
                  {"layers.*.mlp.up_proj", "colwise"},
                  {"layers.*.mlp.down_proj", "rowwise"},
                  {"embed_tokens", "embedding_rowwise"},
                  {"lm_head", "colwise"},
                  {"norm", "replicated"}};
  EXPECT_EQ(split_modules(plan_with(ours)), megatron(2));
  for (const auto& [word, other] : std::map<std::string, std::string>{{"colwise", "column"},
                                                                      {"rowwise", "row"},
                                                                      {"colwise ", "local_colwise"},
                                                                      {"rowwise ", "local_rowwise"},
                                                                      {"rowwise  ", "rowwise_rep"}}) {
    Json spelled;
    for (const auto& [module, style] : ours.items()) {
      const std::string same = word.substr(0, word.find(' '));
      spelled["model." + module + ".weight"] = style == same ? other : style.get<std::string>();
    }
    spelled["lm_head"] = spelled["model.lm_head.weight"];
    spelled.erase("model.lm_head.weight");
    EXPECT_EQ(split_modules(plan_with(spelled)), megatron(2)) << other;
  }
  for (const char* word : {"colwise_rep", "colwise_gather_output"}) {
    const TensorParallelPlan plan = plan_with({{"lm_head", word}});
    EXPECT_EQ(split_modules(plan).at("lm_head"), "colwise_gather_output");
    EXPECT_TRUE(plan.head);
  }
}

const Json mlp_whole{{"layers.*.mlp.gate_proj", "replicated"},
                     {"layers.*.mlp.up_proj", "replicated"},
                     {"layers.*.mlp.down_proj", "replicated"}};
const Json attention_whole{{"model.layers.*.self_attn.q_proj", "replicated"},
                           {"model.layers.*.self_attn.k_proj", "replicated"},
                           {"layers.*.self_attn.v_proj", "replicated"},
                           {"layers.*.self_attn.o_proj", "replicated"}};
const Json vocabulary_whole{{"embed_tokens", "replicated"}, {"lm_head", "replicated"}};

Json joined(Json a, const Json& b) {
  a.update(b);
  return a;
}

TEST(Plan, HalvesOfABlockCanStayWholeAndALayerCanDifferFromTheRest) {
  const TensorParallelPlan attention_only = plan_with(mlp_whole);
  for (const auto& layer : attention_only.layers) EXPECT_TRUE(layer.attention && !layer.mlp);
  EXPECT_TRUE(attention_only.embedding && attention_only.head);
  const TensorParallelPlan blocks_only = plan_with(vocabulary_whole);
  EXPECT_FALSE(blocks_only.embedding || blocks_only.head);

  Json second = mlp_whole;  // of all layers, then the first one split again: later entries win
  for (const char* in : {"gate_proj", "up_proj"}) second[std::string("model.layers.0.mlp.") + in] = "column";
  second["model.layers.0.mlp.down_proj"] = "row";
  const TensorParallelPlan plan = plan_with(second);
  EXPECT_TRUE(plan.layers[0].mlp);
  EXPECT_FALSE(plan.layers[1].mlp);
  Json first;  // and the other way round
  for (const auto& [module, style] : second.items())
    if (module.find('*') == std::string::npos) first[module] = style;
  EXPECT_FALSE(plan_with(joined(first, mlp_whole)).layers[0].mlp);
}

TEST(Plan, WhatCannotBeIsRefusedByName) {
  struct Case {
    Json tp_plan;
    bool tied;
    std::vector<std::string> holds;
  };
  const std::vector<Case> cases{
      {{{"layers.*.self_attn.q_proj", "diagonal"}},
       false,
       {"tp_plan[\"layers.*.self_attn.q_proj\"] is \"diagonal\"", "can be colwise or replicated"}},
      {{{"layers.*.self_attn.o_proj", "colwise"}}, false, {"o_proj\"] is \"colwise\"", "can be rowwise or replicated"}},
      {{{"embed_tokens", "colwise"}}, false, {"\"embed_tokens\"", "embedding_rowwise, rowwise or replicated"}},
      {{{"norm", "rowwise"}}, false, {"\"norm\"", "model.norm can be replicated"}},
      {{{"layers.*.attention.wq", "colwise"}}, false, {"layers.*.attention.wq", "matches no module", "q_proj"}},
      {{{"layers.2.mlp.up_proj", "colwise"}}, false, {"layers.2.mlp.up_proj", "matches no module"}},
      {{{"layers.x.mlp.up_proj", "colwise"}}, false, {"layers.x.mlp.up_proj", "matches no module"}},
      {{{"layers.1*.mlp.up_proj", "colwise"}}, false, {"layers.1*.mlp.up_proj", "matches no module"}},
      {{{"layers.*.mlp.up", "colwise"}}, false, {"layers.*.mlp.up\"", "matches no module"}},
      {{{"layers.1.self_attn.o_proj", "replicated"}},
       false,
       {"model.layers.1.self_attn.o_proj is replicated", "model.layers.1.self_attn.q_proj is colwise", "together"}},
      {{{"layers.*.mlp.down_proj", "replicated"}},
       false,
       {"model.layers.0.mlp.down_proj is replicated", "model.layers.0.mlp.gate_proj is colwise", "together"}},
      {{{"embed_tokens", "replicated"}}, true, {"tie_word_embeddings", "split alike"}}};
  for (const Case& one : cases) {
    const std::string error = error_of([&] { plan_with(one.tp_plan, one.tied); });
    EXPECT_TRUE(holds(error, "config.json: tp_plan"));
    for (const std::string& part : one.holds) EXPECT_TRUE(holds(error, part));
  }
}

// The rule by itself: what is split must divide; key/value heads may also be fewer, shared by equally many ranks each.
TEST(Plan, TheSizesThatWorkAreThoseThatDivide) {
  struct Case {
    Json tp_plan;
    bool attention, mlp, vocabulary;
  };
  for (const Case& one :
       {Case{Json::object(), true, true, true}, Case{mlp_whole, true, false, true},
        Case{attention_whole, false, true, true}, Case{joined(attention_whole, mlp_whole), false, false, true},
        Case{joined(joined(attention_whole, mlp_whole), vocabulary_whole), false, false, false}}) {
    const ModelConfig config = config_with({{"tp_plan", one.tp_plan}});
    int64_t largest = 1;
    for (int64_t tp = 1; tp <= 130; tp++) {
      const bool works = (!one.attention || (12 % tp == 0 && (4 % tp == 0 || tp % 4 == 0))) &&
                         (!one.mlp || 60 % tp == 0) && (!one.vocabulary || tp <= 103);
      if (works) largest = tp;
      EXPECT_EQ(largest_tensor_parallel(config, tp), largest);
      if (works)
        check_tensor_parallel(config, tp);
      else
        EXPECT_TRUE(holds(error_of([&] { check_tensor_parallel(config, tp); }),
                          "config.json: ", text(" cannot be split over ", tp, " ranks")));
    }
  }
}

TEST(Plan, ARefusedSizeIsAnsweredWithTheValueAndAllThatWork) {
  const auto error = [](const Json& changes, int64_t tp) {
    const ModelConfig config = config_with(changes);
    return error_of([&] { check_tensor_parallel(config, tp); });
  };
  EXPECT_TRUE(holds(error(Json::object(), 5), "num_attention_heads (12)", "over 5 ranks", "can be 1, 2, 4 or 12"));
  EXPECT_TRUE(holds(error(Json::object(), 6), "num_key_value_heads (4)", "can be 1, 2, 4 or 12"));
  EXPECT_TRUE(holds(error({{"intermediate_size", 62}}, 4), "intermediate_size (62)", "can be 1 or 2"));
  EXPECT_TRUE(holds(error({{"vocab_size", 3}}, 4), "vocab_size (3)", "can be 1 or 2"));
  EXPECT_TRUE(holds(error({{"tp_plan", attention_whole}}, 7), "intermediate_size (60)",
                    "can be 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30 or 60"));
  EXPECT_TRUE(holds(error({{"tp_plan", joined(attention_whole, mlp_whole)}}, 104), "vocab_size (103)", "at most 103"));
}

}  // namespace
}  // namespace llama_tp
