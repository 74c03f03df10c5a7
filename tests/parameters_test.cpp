// The parameter table against the mathematics of the model: who holds which slice, who counts it, how much memory it
// takes; over many shapes and plans and 1 to 8 tensor-parallel ranks, with nothing allocated.
#include "model/parameters.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "io/files.h"
#include "model/plan.h"
#include "scratch_folder.h"

namespace llama_tp {
namespace {

using Json = nlohmann::ordered_json;

struct Case {
  int64_t heads, kv_heads, ffn, vocabulary;
  bool tied, biases;
  bool attention = true, mlp = true, whole_vocabulary = false;  // split by the plan?
};

constexpr int64_t hidden = 24, head_dim = 10, layers = 2;

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const bool tied : {false, true})
    for (const bool biases : {false, true})
      for (const auto& [heads, kv_heads, ffn, vocabulary] : {std::array<int64_t, 4>{8, 8, 40, 128},
                                                             {8, 2, 40, 103},
                                                             {8, 1, 56, 41},
                                                             {6, 3, 18, 32001},
                                                             {6, 1, 30, 17},
                                                             {5, 5, 35, 1000},
                                                             {7, 1, 21, 31}}) {
        all.push_back({heads, kv_heads, ffn, vocabulary, tied, biases});
        for (const int part : {0, 1, 2})
          all.push_back({heads, kv_heads, ffn, vocabulary, tied, biases, part != 0, part != 1, part == 2});
      }
  return all;
}

ModelConfig config_of(const Case& one) {
  Json plan = Json::object();
  const auto whole = [&](const char* module) { plan[module] = "replicated"; };
  if (!one.attention)
    for (const char* name : {"q", "k", "v", "o"}) whole(text("layers.*.self_attn.", name, "_proj").c_str());
  if (!one.mlp)
    for (const char* name : {"gate", "up", "down"}) whole(text("layers.*.mlp.", name, "_proj").c_str());
  if (one.whole_vocabulary)
    for (const char* name : {"embed_tokens", "lm_head"}) whole(name);
  const Json json{{"model_type", "llama"},
                  {"hidden_size", hidden},
                  {"head_dim", head_dim},
                  {"num_hidden_layers", layers},
                  {"num_attention_heads", one.heads},
                  {"num_key_value_heads", one.kv_heads},
                  {"intermediate_size", one.ffn},
                  {"vocab_size", one.vocabulary},
                  {"tie_word_embeddings", one.tied},
                  {"attention_bias", one.biases},
                  {"mlp_bias", one.biases},
                  {"tp_plan", plan}};
  const ScratchFolder scratch;
  write_text(scratch / "config.json", json.dump());
  return read_model_config(scratch / "config.json");
}

// The tables of all ranks of a size; none where the model does not divide.
using Ranks = std::vector<std::unique_ptr<Parameters>>;
Ranks tables(const ModelConfig& config, int64_t tp) {
  Ranks all;
  if (largest_tensor_parallel(config, tp) == tp)
    for (int64_t rank = 0; rank < tp; rank++) all.push_back(std::make_unique<Parameters>(config, rank, tp));
  return all;
}

// Calls claim(case, config, tables of all ranks) for each case and size.
template <class Claim>
void for_each(const Claim& claim) {
  int64_t tried = 0;
  for (const Case& one : cases()) {
    const ModelConfig config = config_of(one);
    for (int64_t tp = 1; tp <= 8; tp++) {
      const Ranks ranks = tables(config, tp);
      if (ranks.empty()) continue;
      tried++;
      SCOPED_TRACE(text(one.heads, " heads, ", one.kv_heads, " kv, ffn ", one.ffn, ", vocabulary ", one.vocabulary,
                        one.tied ? ", tied" : "", one.biases ? ", biases" : "",
                        one.attention ? "" : ", whole attention", one.mlp ? "" : ", whole mlp",
                        one.whole_vocabulary ? ", whole vocabulary" : "", ", tp ", tp));
      claim(one, config, ranks);
    }
  }
  EXPECT_GT(tried, 300);
}

// Names and shapes of LlamaForCausalLM's state_dict.
std::map<std::string, Shape> tensors_of_transformers(const Case& one) {
  std::map<std::string, Shape> all{{"model.embed_tokens.weight", {one.vocabulary, hidden}},
                                   {"model.norm.weight", {hidden}}};
  if (!one.tied) all["lm_head.weight"] = {one.vocabulary, hidden};
  for (int64_t layer = 0; layer < layers; layer++) {
    const std::string block = text("model.layers.", layer, ".");
    const auto linear = [&](const char* name, int64_t out, int64_t in) {
      all[block + name + ".weight"] = {out, in};
      if (one.biases) all[block + name + ".bias"] = {out};
    };
    all[block + "input_layernorm.weight"] = all[block + "post_attention_layernorm.weight"] = {hidden};
    linear("self_attn.q_proj", one.heads * head_dim, hidden);
    linear("self_attn.k_proj", one.kv_heads * head_dim, hidden);
    linear("self_attn.v_proj", one.kv_heads * head_dim, hidden);
    linear("self_attn.o_proj", hidden, one.heads * head_dim);
    linear("mlp.gate_proj", one.ffn, hidden);
    linear("mlp.up_proj", one.ffn, hidden);
    linear("mlp.down_proj", hidden, one.ffn);
  }
  return all;
}

int64_t local_elements(const Parameter& row) {
  return row.axis < 0 ? row.shape.elements() : row.shape.elements() / row.shape[row.axis] * row.count;
}

TEST(Parameters, TheTableIsTransformersStateDict) {
  for_each([](const Case& one, const ModelConfig& config, const Ranks& ranks) {
    int64_t elements = 0;
    for (const auto& rank : ranks) {
      std::map<std::string, Shape> all = tensors_of_transformers(one);
      for (const Parameter& row : rank->rows()) {
        ASSERT_EQ(all.count(row.name), 1u) << row.name;
        EXPECT_EQ(row.shape, all.at(row.name)) << row.name;
        EXPECT_EQ(row.file_shape, row.shape);
        if (rank == ranks.front()) elements += row.shape.elements();
        all.erase(row.name);
      }
      EXPECT_TRUE(all.empty());
    }
    EXPECT_EQ(parameter_count(config), elements);
  });
}

TEST(Parameters, EveryElementIsHeldByItsReplicasAndCountedOnce) {
  for_each([](const Case&, const ModelConfig&, const Ranks& ranks) {
    for (size_t i = 0; i < ranks.front()->rows().size(); i++) {
      const Parameter& first = ranks.front()->rows()[i];
      const auto tp = static_cast<int64_t>(ranks.size());
      std::vector<int64_t> held(static_cast<size_t>(first.shape[std::max(first.axis, 0)])), counted(held.size());
      int64_t elements = 0;
      for (const auto& rank : ranks) {
        const Parameter& row = rank->rows()[i];
        ASSERT_GE(row.begin, 0);
        ASSERT_LE(row.begin + row.count, static_cast<int64_t>(held.size())) << row.name;
        for (int64_t at = row.begin; at < row.begin + row.count; at++) {
          held[static_cast<size_t>(at)]++;
          counted[static_cast<size_t>(at)] += row.counts_in_norm;
        }
        elements += local_elements(row);
        EXPECT_EQ(row.summed_over == GradientSum::kv_replicas, row.replicas > 1) << row.name;
      }
      const int64_t copies = first.axis < 0 ? tp : first.replicas;
      EXPECT_EQ(held, std::vector<int64_t>(held.size(), copies)) << first.name;
      EXPECT_EQ(counted, std::vector<int64_t>(held.size(), 1)) << first.name;
      EXPECT_EQ(elements, first.shape.elements() * copies) << first.name;
    }
  });
}

// Under sequence parallelism a rank's norms saw its part of the tokens. What lies inside the regions, the biases of
// row-parallel products among it, sees all tokens on every rank.
TEST(Parameters, NormsAreSummedOverTheRanksUnderSequenceParallelismAlone) {
  for_each([](const Case&, const ModelConfig& config, const Ranks& ranks) {
    const auto tp = static_cast<int64_t>(ranks.size());
    for (int64_t rank = 0; rank < tp; rank++) {
      const Parameters by_tokens(config, rank, tp, true);
      for (size_t i = 0; i < by_tokens.rows().size(); i++) {
        const Parameter &row = by_tokens.rows()[i], &whole = ranks[static_cast<size_t>(rank)]->rows()[i];
        const bool norm = row.name.find("norm") != std::string::npos;
        EXPECT_EQ(row.summed_over, norm ? GradientSum::tensor_parallel : whole.summed_over) << row.name;
        EXPECT_EQ(row.counts_in_norm, whole.counts_in_norm) << row.name;
        EXPECT_NE(whole.summed_over, GradientSum::tensor_parallel) << row.name;
      }
    }
  });
}

// A rank's query heads h = q0 … use key/value heads h / (heads / kv_heads), which lie on the same rank, in its order.
TEST(Parameters, ARankHoldsTheKeyAndValueHeadsOfItsQueryHeads) {
  for_each([](const Case& one, const ModelConfig&, const Ranks& ranks) {
    for (const auto& rank : ranks) {
      std::map<std::string, const Parameter*> row;
      for (const Parameter& parameter : rank->rows()) row[parameter.name] = &parameter;
      const LayerLayout& layout = rank->layout(1);
      const int64_t first_query = row["model.layers.1.self_attn.q_proj.weight"]->begin / head_dim;
      for (const char* part : {"k", "v"}) {
        const Parameter& heads = *row[text("model.layers.1.self_attn.", part, "_proj.weight")];
        EXPECT_EQ(heads.count, layout.kv_heads * head_dim);
        for (int64_t h = 0; h < layout.heads; h++)
          EXPECT_EQ(heads.begin / head_dim + h / (layout.heads / layout.kv_heads),
                    (first_query + h) / (one.heads / one.kv_heads));
      }
      EXPECT_EQ(row["model.layers.1.self_attn.o_proj.weight"]->begin, first_query * head_dim);
      EXPECT_EQ(row["model.layers.1.mlp.gate_proj.weight"]->begin, row["model.layers.1.mlp.down_proj.weight"]->begin);
    }
  });
}

// The parts of a packed tensor lie in it without gap or overlap; only a vocabulary has rows that belong to nobody.
TEST(Parameters, PartsFillTheStoredTensors) {
  for_each([](const Case&, const ModelConfig&, const Ranks& ranks) {
    for (const auto& rank : ranks) {
      std::map<const Weight*, std::vector<int64_t>> filled;
      for (const Parameter& row : rank->rows()) {
        std::vector<int64_t>& rows = filled[row.weight];
        rows.resize(static_cast<size_t>(row.weight->shape[0]));
        const int64_t count = row.axis == 0 ? row.count : row.shape[0];
        ASSERT_LE(row.weight_row + count, row.weight->shape[0]) << row.name;
        for (int64_t r = row.weight_row; r < row.weight_row + count; r++) rows[static_cast<size_t>(r)]++;
        const int64_t columns = row.shape.rank() == 1 ? 0 : row.axis == 1 ? row.count : row.shape[1];
        EXPECT_EQ(row.weight->shape[1], columns) << row.name;
      }
      EXPECT_EQ(filled.size(), rank->weights().size());
      for (const auto& [weight, rows] : filled) {
        const bool vocabulary = weight == &rank->embedding() || weight == &rank->head();
        const VocabularySlice& slice = weight == &rank->embedding() ? rank->embedding_slice() : rank->head_slice();
        std::vector<int64_t> expected(rows.size(), 1);
        if (vocabulary) std::fill(expected.begin() + slice.count, expected.end(), 0);
        EXPECT_EQ(rows, expected) << weight->name;
      }
    }
  });
}

// Sixteen bytes an element, in f32 (weight, gradient, m, v) and in bf16 (2 + 2 for the rest of the master + 4 + 4 + 4),
// each stored tensor rounded up to 128 elements; of a unit's shards, each to 128 elements again.
TEST(Parameters, MemoryIsSixteenBytesAnElementOfTheRanksSlices) {
  for_each([](const Case& one, const ModelConfig&, const Ranks& ranks) {
    const auto up = [](int64_t n, int64_t to) { return (n + to - 1) / to * to; };
    const auto tp = static_cast<int64_t>(ranks.size());
    const int64_t a = one.attention ? tp : 1, m = one.mlp ? tp : 1, v = one.whole_vocabulary ? 1 : tp;
    const int64_t q = one.heads / a * head_dim, kv = std::max<int64_t>(1, one.kv_heads / a) * head_dim, f = one.ffn / m;
    const int64_t vocabulary_rows = up((one.vocabulary + v - 1) / v, 16);
    // Units: the vocabulary's, the blocks, the norms.
    std::vector<std::vector<int64_t>> units(one.tied ? 1 : 2, {vocabulary_rows * hidden});
    for (int64_t layer = 0; layer < layers; layer++) {
      units.push_back({(q + 2 * kv) * hidden, hidden * q, 2 * f * hidden, hidden * f});
      if (one.biases)
        for (const int64_t n : {q + 2 * kv, hidden, 2 * f, hidden}) units.back().push_back(n);
    }
    units.emplace_back(1 + 2 * layers, hidden);
    for (const auto& rank : ranks)
      for (const DType dtype : {DType::f32, DType::bf16})
        for (const Holds holds : {Holds::weights, Holds::training_state})
          for (const int shards : {1, 3}) {
            const bool trains = holds == Holds::training_state;
            int64_t elements = 0;
            for (const std::vector<int64_t>& unit : units) {
              int64_t whole = 0;
              for (const int64_t n : unit) whole += up(n, 128);
              elements += up(whole, 128 * shards) / shards;
            }
            Ledger ledger;
            Arena state("state", ledger);
            rank->allocate(state, dtype, holds, {shards - 1, shards});
            EXPECT_EQ(state.high_water(), elements * (trains ? 16 : size_of(dtype)));
            for (const Unit& unit : rank->units()) {
              EXPECT_EQ(unit.gradient.exists() && unit.m.exists() && unit.v.exists(), trains);
              EXPECT_EQ(unit.rest.exists(), trains && dtype == DType::bf16);
            }
            if (shards > 1) continue;
            for (const Weight& weight : rank->weights()) EXPECT_EQ(weight.value.shape, weight.shape);
          }
  });
}

// Of the elements of each parameter's slice every one lies in one shard, at a place of its own.
TEST(Parameters, ShardsDivideEachSliceWithoutGapOrOverlap) {
  for_each([](const Case&, const ModelConfig&, const Ranks& ranks) {
    for (const int shards : {1, 2, 3, 8}) {
      Ledger ledger;
      Arena state("state", ledger);
      Parameters& rank = *ranks.back();
      rank.allocate(state, DType::f32, Holds::weights, {0, shards});
      for (const Parameter& row : rank.rows()) {
        int64_t next = 0;
        for (int shard = 0; shard < shards; shard++) {
          const Piece piece = rank.piece(row, shard);
          if (piece.count == 0) continue;
          const Weight& weight = *row.weight;
          const int64_t first = weight.offset + (row.weight_row * row.slice_columns());
          EXPECT_EQ(piece.begin, next) << row.name;
          EXPECT_EQ(shard * rank.unit_of(row).shard_elements() + piece.at, first + piece.begin) << row.name;
          EXPECT_LE(piece.at + piece.count, rank.unit_of(row).shard_elements()) << row.name;
          next += piece.count;
        }
        EXPECT_EQ(next, row.slice_rows() * row.slice_columns()) << row.name;
      }
    }
  });
}

TEST(Parameters, DecayIsForMatricesOnly) {
  Case one = cases().front();
  one.biases = true;
  const Ranks ranks = tables(config_of(one), 2);
  for (const Parameter& row : ranks.front()->rows()) EXPECT_EQ(row.weight->decays, row.shape.rank() == 2) << row.name;
}

// As transformers has them: a norm's factor, which is w or 1 + w, is 1, and of the heads it is w in every family.
TEST(Parameters, NormsBeginAsFactorsOfOne) {
  for (const auto& [kind, initial] : {std::pair{"rms", Initial::ones},
                                      {"rms_1p", Initial::zeros},
                                      {"layer_norm", Initial::ones},
                                      {"layer_norm_1p", Initial::zeros}}) {
    const Json family{{"family", "x"}, {"like", "qwen3"}, {"options", {{"norm", kind}}}};
    const ModelConfig config =
        read_model_config("tests/goldens/models/qwen3/config.json", parse_family(family.dump(), "x.json"));
    const Parameters parameters(config, 0, 1);
    for (const Parameter& row : parameters.rows()) {
      if (!row.name.ends_with("norm.weight")) continue;
      const bool of_heads = row.name.ends_with("q_norm.weight") || row.name.ends_with("k_norm.weight");
      EXPECT_EQ(row.initial, of_heads ? Initial::ones : initial) << kind << ' ' << row.name;
    }
  }
}

}  // namespace
}  // namespace llama_tp
