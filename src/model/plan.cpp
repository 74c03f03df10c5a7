#include "model/plan.h"

#include <algorithm>
#include <array>
#include <utility>

namespace llama_tp {

namespace {

// Older or shorter words for the same style.
constexpr std::array<std::pair<const char*, const char*>, 6> synonyms{{{"column", "colwise"},
                                                                       {"row", "rowwise"},
                                                                       {"colwise_rep", "colwise_gather_output"},
                                                                       {"rowwise_rep", "rowwise"},
                                                                       {"local_colwise", "colwise"},
                                                                       {"local_rowwise", "rowwise"}}};

std::string canonical(const std::string& style) {
  for (const auto& [other, word] : synonyms)
    if (style == other) return word;
  return style;
}

// The styles that a part can have, the split ones first.
std::vector<std::string> styles_of(const Module& module) {
  const Part part = module.parts.front();
  if (is_norm(part)) return {"replicated", "sequence_parallel", "replicated_with_grad_allreduce"};
  if (part == Part::embedding) return {"embedding_rowwise", "rowwise", "replicated"};
  if (part == Part::head) return {"colwise", "colwise_gather_output", "replicated"};
  if (part == Part::o || part == Part::down) return {"rowwise", "replicated"};
  if (module.parts.size() > 1) return {"packed_colwise", "replicated"};
  return {"colwise", "replicated"};
}

std::string listed(const std::vector<std::string>& words, const char* last) {
  std::string out;
  for (size_t i = 0; i < words.size(); i++) out += (i == 0 ? "" : i + 1 == words.size() ? last : ", ") + words[i];
  return out;
}

// Does a pattern of tp_plan mean this module name? With or without "model." in front and ".weight" behind; * stands for
// a number.
bool matches(const std::string& pattern, const std::string& name) {
  std::string wanted = pattern.ends_with(".weight") ? pattern.substr(0, pattern.size() - 7) : pattern;
  if (!wanted.starts_with("model.") && name.starts_with("model.")) wanted = "model." + wanted;
  size_t p = 0, n = 0;
  while (p < wanted.size() && n < name.size()) {
    if (wanted[p] == '*') {
      if (name[n] < '0' || name[n] > '9') return false;
      while (n < name.size() && name[n] >= '0' && name[n] <= '9') n++;
      p++;
    } else if (wanted[p++] != name[n++]) {
      return false;
    }
  }
  return p == wanted.size() && n == name.size();
}

bool is_split(const std::string& style) { return style.find("wise") != std::string::npos; }

void apply_override(const ModelConfig& config, const std::string& pattern, const std::string& word,
                    TensorParallelPlan& plan) {
  const std::string style = canonical(word);
  bool placed = false;
  for (size_t m = 0; m < config.family->modules.size(); m++) {
    const Module& module = config.family->modules[m];
    for (size_t layer = 0; layer < plan.styles[m].size(); layer++) {
      if (!matches(pattern, name_in_layer(module, static_cast<int64_t>(layer)))) continue;
      const std::vector<std::string> possible = styles_of(module);
      require(std::find(possible.begin(), possible.end(), style) != possible.end(), config.source, ": tp_plan[\"",
              pattern, "\"] is \"", word, "\"; ", module.name, " can be ", listed(possible, " or "));
      plan.styles[m][layer] = style;
      placed = true;
    }
  }
  if (placed) return;
  std::vector<std::string> names;
  for (const Module& module : config.family->modules) names.push_back(module.name);
  fail(config.source, ": tp_plan[\"", pattern, "\"] matches no module of the model; it has ", listed(names, " and "));
}

// Are the modules of these parts split in this layer? Errors: some are and some are not.
bool split_together(const ModelConfig& config, const TensorParallelPlan& plan, const std::vector<Part>& parts,
                    size_t layer) {
  const Module* first = nullptr;
  std::string first_style;
  for (size_t m = 0; m < config.family->modules.size(); m++) {
    const Module& module = config.family->modules[m];
    if (std::find(parts.begin(), parts.end(), module.parts.front()) == parts.end()) continue;
    const std::string& style = plan.styles[m][std::min(layer, plan.styles[m].size() - 1)];
    if (first == nullptr) {
      first = &module;
      first_style = style;
    }
    const auto number = static_cast<int64_t>(layer);
    require(is_split(style) == is_split(first_style), config.source, ": tp_plan: ", name_in_layer(module, number),
            " is ", style, " but ", name_in_layer(*first, number), " is ", first_style,
            "; these are split together or not at all");
  }
  return first != nullptr && is_split(first_style);
}

// Is this half of a block split in any layer?
bool any_layer(const TensorParallelPlan& plan, bool TensorParallelPlan::Layer::*half) {
  return std::any_of(plan.layers.begin(), plan.layers.end(), [&](const auto& layer) { return layer.*half; });
}

// Why tp is no size for this model, or "".
std::string objection(const ModelConfig& config, int64_t tp) {
  const bool attention = any_layer(config.plan, &TensorParallelPlan::Layer::attention);
  const bool mlp = any_layer(config.plan, &TensorParallelPlan::Layer::mlp);
  if (attention && config.heads % tp != 0) return text("num_attention_heads (", config.heads, ")");
  if (attention && config.kv_heads % tp != 0 && tp % config.kv_heads != 0)
    return text("num_key_value_heads (", config.kv_heads, ")");
  if (mlp && config.ffn % tp != 0) return text("intermediate_size (", config.ffn, ")");
  if ((config.plan.embedding || config.plan.head) && config.vocabulary < tp)
    return text("vocab_size (", config.vocabulary, ")");
  return "";
}

}  // namespace

bool in_block(const Module& module) { return module.name.find('*') != std::string::npos; }

std::string name_in_layer(const Module& module, int64_t layer) {
  const size_t star = module.name.find('*');
  if (star == std::string::npos) return module.name;
  return module.name.substr(0, star) + std::to_string(layer) + module.name.substr(star + 1);
}

TensorParallelPlan resolve_plan(const ModelConfig& config) {
  TensorParallelPlan plan;
  for (const Module& module : config.family->modules)
    plan.styles.emplace_back(in_block(module) ? static_cast<size_t>(config.layers) : 1, canonical(module.style));
  for (size_t m = 0; m < plan.styles.size(); m++) {
    const Module& module = config.family->modules[m];
    const std::vector<std::string> possible = styles_of(module);
    require(std::find(possible.begin(), possible.end(), plan.styles[m].front()) != possible.end(), "family ",
            config.family->name, ": ", module.name, " is \"", module.style, "\"; it can be ", listed(possible, " or "));
  }
  for (const auto& [pattern, style] : config.plan_overrides) apply_override(config, pattern, style, plan);
  for (size_t layer = 0; layer < static_cast<size_t>(config.layers); layer++)
    plan.layers.push_back({split_together(config, plan, {Part::q, Part::k, Part::v, Part::o}, layer),
                           split_together(config, plan, {Part::gate, Part::up, Part::down}, layer)});
  plan.embedding = split_together(config, plan, {Part::embedding}, 0);
  plan.head = split_together(config, plan, {Part::head}, 0);
  require(!config.tied || plan.embedding == plan.head, config.source,
          ": tp_plan: the embedding and the head are one tensor (tie_word_embeddings) and must be split alike");
  return plan;
}

std::string tensor_parallel_sizes(const ModelConfig& config) {
  const bool attention = any_layer(config.plan, &TensorParallelPlan::Layer::attention);
  const bool mlp = any_layer(config.plan, &TensorParallelPlan::Layer::mlp);
  if (!attention && !mlp) return text("at most ", config.vocabulary);
  std::vector<std::string> sizes;
  for (int64_t tp = 1; tp <= (attention ? config.heads : config.ffn); tp++)
    if (objection(config, tp).empty()) sizes.push_back(std::to_string(tp));
  return listed(sizes, " or ");
}

void check_tensor_parallel(const ModelConfig& config, int64_t tp) {
  const std::string why = objection(config, tp);
  if (why.empty()) return;
  fail(config.source, ": ", why, " cannot be split over ", tp, " ranks; --tensor-parallel can be ",
       tensor_parallel_sizes(config));
}

int64_t largest_tensor_parallel(const ModelConfig& config, int64_t ranks) {
  for (int64_t tp = ranks; tp > 1; tp--)
    if (objection(config, tp).empty()) return tp;
  return 1;
}

}  // namespace llama_tp
