#include "model/infer_family.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/json.h"
#include "model/checkpoint.h"
#include "model/shipped_configs.h"
#include "model/tensor_kinds.h"

namespace llama_tp {

namespace {

// The tensors of one module in all layers.
struct Candidate {
  std::string name;  // without ".weight"; * is the layer's number
  std::vector<int64_t> shape;
  bool bias = false;
  std::vector<const Kind*> possible;
};

class Inference {
 public:
  Inference(const ModelFiles& files, const ModelConfig& config) : files_(files), config_(config) {}

  OrderedJson run() {
    collect();
    for (Candidate& candidate : candidates_) find_possible(candidate);
    refuse_those_with([](const Candidate& candidate) { return candidate.possible.empty(); },
                      "no part of a block has the shape of");
    leave_out_optional(Part::gate, Part::up);
    leave_out_optional(Part::head, Part::embedding);
    eliminate();
    refuse_those_with([](const Candidate& candidate) { return candidate.possible.size() != 1; },
                      "neither shapes nor names tell what is what of");
    refuse_missing();
    return {{"modules", modules()}, {"options", options()}};
  }

 private:
  // Modules by name; those that occur once a layer become one with a *.
  void collect() {
    std::set<std::string> biases;
    std::map<std::string, std::set<std::string>> members;  // template → names
    std::vector<std::string> weights, others;
    for (const std::string& name : files_.names()) {
      if (name.ends_with("rotary_emb.inv_freq")) continue;
      const size_t dot = std::min(name.rfind('.'), name.size());
      const std::string module = name.substr(0, dot), last = name.substr(dot);
      if (last == ".bias")
        biases.insert(module);
      else
        (last == ".weight" ? weights : others).push_back(last == ".weight" ? module : name);
    }
    require(others.empty(), files_.folder(), ": no .weight and no .bias: ", joined(others, ", "),
            "; such tensors have no place in a block");
    for (const std::string& module : weights)
      for (const std::string& pattern : templates_of(module)) members[pattern].insert(module);
    std::map<std::string, Candidate> found;
    for (const std::string& module : weights) {
      std::string pattern = module;
      for (const std::string& one : templates_of(module))
        if (static_cast<int64_t>(members[one].size()) == config_.layers) pattern = one;
      const StoredTensor& tensor = *files_.find(module + ".weight");
      const auto [place, added] = found.try_emplace(pattern, Candidate{pattern, tensor.shape, false, {}});
      require(place->second.shape == tensor.shape, files_.folder(), ": ", module, ".weight is ",
              shape_text(tensor.shape), ", but ", shape_text(place->second.shape),
              " in another layer; layers must be alike");
      place->second.bias |= biases.contains(module);
    }
    for (const auto& [pattern, candidate] : found) candidates_.push_back(candidate);
  }

  void find_possible(Candidate& candidate) const {
    const bool in_block = candidate.name.find('*') != std::string::npos;
    const std::set<std::string> words = words_of(candidate.name.substr(in_block ? candidate.name.find('*') : 0));
    const auto has_one_of = [&](const std::vector<std::string>& some) {
      return std::any_of(some.begin(), some.end(), [&](const std::string& word) { return words.contains(word); });
    };
    std::vector<const Kind*> named;
    for (const Kind& kind : kinds()) {
      if (in_block == outside_blocks(kind.parts.front()) || shape_of(kind, config_) != candidate.shape) continue;
      if (has_one_of(kind.never)) continue;
      candidate.possible.push_back(&kind);
      if (has_one_of(kind.words)) named.push_back(&kind);
    }
    if (!named.empty()) candidate.possible = named;
  }

  // A block may lack the optional part, but not the other of the same shape: one tensor for both is the other.
  void leave_out_optional(Part optional, Part other) {
    const auto is = [](const Candidate& candidate, Part part) {
      return std::any_of(candidate.possible.begin(), candidate.possible.end(), [&](const Kind* kind) {
        return std::find(kind->parts.begin(), kind->parts.end(), part) != kind->parts.end();
      });
    };
    Candidate* only = nullptr;
    for (Candidate& candidate : candidates_) {
      if (!is(candidate, optional) && !is(candidate, other)) continue;
      if (only != nullptr) return;
      only = &candidate;
    }
    if (only == nullptr) return;
    std::erase_if(only->possible, [&](const Kind* kind) { return kind->parts == Parts{optional}; });
    if (!only->possible.empty()) return;
    for (const Kind& kind : kinds())
      if (kind.parts == Parts{other}) only->possible.push_back(&kind);
  }

  // What is certain of one tensor is ruled out for the others, until nothing more follows.
  void eliminate() {
    for (bool changed = true; changed;) {
      changed = false;
      for (const Candidate& certain : candidates_) {
        if (certain.possible.size() != 1) continue;
        for (Candidate& other : candidates_)
          if (&other != &certain)
            changed |= std::erase_if(other.possible, [&](const Kind* kind) {
                         return std::any_of(kind->parts.begin(), kind->parts.end(), [&](Part part) {
                           const Parts& taken = certain.possible.front()->parts;
                           return std::find(taken.begin(), taken.end(), part) != taken.end();
                         });
                       }) > 0;
      }
    }
  }

  template <class Condition>
  void refuse_those_with(const Condition& condition, const char* what) const {
    std::vector<std::string> names;
    for (const Candidate& candidate : candidates_) {
      if (!condition(candidate)) continue;
      std::vector<std::string> kinds_of;
      for (const Kind* kind : candidate.possible) kinds_of.push_back(name_of_kind(*kind));
      names.push_back(candidate.name + ".weight " + shape_text(candidate.shape) +
                      (kinds_of.empty() ? "" : " (" + joined(kinds_of, " or ") + ")"));
    }
    require(names.empty(), files_.folder(), ": ", what, " ", joined(names, ", "),
            "; write the family by hand, as docs/families.md shows");
  }

  void refuse_missing() const {
    std::vector<std::string> missing;
    for (const Part part : {Part::embedding, Part::attention_norm, Part::q, Part::k, Part::v, Part::o, Part::mlp_norm,
                            Part::up, Part::down, Part::final_norm})
      if (!has(part)) missing.emplace_back(name_of(part));
    require(missing.empty(), files_.folder(), ": no tensor for ", joined(missing, ", "),
            ", which every model here has; one without needs code, as docs/families.md says");
  }

  OrderedJson modules() const {
    OrderedJson all = OrderedJson::array();
    for (const Kind& kind : kinds())
      for (const Candidate& candidate : candidates_) {
        if (candidate.possible.front() != &kind) continue;
        OrderedJson parts = OrderedJson::array();
        for (const Part part : kind.parts) parts.push_back(name_of(part));
        all.push_back(
            {{"part", parts.size() == 1 ? parts[0] : parts}, {"name", candidate.name}, {"style", kind.style}});
      }
    if (!has(Part::gate)) all.push_back({{"part", "gate"}, {"name", nullptr}});
    return all;
  }

  bool has(Part part) const { return with(part) != nullptr; }
  const Candidate* with(Part part) const {
    for (const Candidate& candidate : candidates_) {
      const Parts& parts = candidate.possible.front()->parts;
      if (std::find(parts.begin(), parts.end(), part) != parts.end()) return &candidate;
    }
    return nullptr;
  }

  // Have these parts biases? Errors: some have and some have not.
  bool biased(const Parts& parts) const {
    const Candidate* first = nullptr;
    for (const Part part : parts) {
      const Candidate* candidate = with(part);
      if (candidate == nullptr) continue;
      if (first == nullptr) first = candidate;
      require(candidate->bias == first->bias, files_.folder(), ": of ", first->name, " and ", candidate->name,
              " one has a bias and one has none; a block has both or neither");
    }
    return first != nullptr && first->bias;
  }

  OrderedJson options() const {
    const Parts norms{Part::attention_norm, Part::mlp_norm, Part::final_norm, Part::q_norm, Part::k_norm};
    for (const Part part : norms)
      require(!has(part) || !with(part)->bias, files_.folder(), ": ", has(part) ? with(part)->name : "",
              ".bias: a norm with a bias is a LayerNorm, of which a file does not show whether 1 is added to its "
              "weight; write the family by hand, as docs/families.md shows");
    return {{"qkv_bias", biased({Part::q, Part::k, Part::v})},
            {"o_bias", biased({Part::o})},
            {"mlp_bias", biased({Part::gate, Part::up, Part::down})},
            {"gated", has(Part::gate)},
            {"qk_norm", has(Part::q_norm)},
            {"tied", !has(Part::head)}};
  }

  const ModelFiles& files_;
  const ModelConfig& config_;
  std::vector<Candidate> candidates_;
};

// Models differ in what they do with logits_scaling: Granite divides by it, HyperCLOVAX multiplies.
std::string assumed_of(const OrderedJson& config) {
  std::string assumed =
      "norms multiply by w, not by 1 + w; q and k are normed before they rotate; the pairs that rotate are (i, i + "
      "d/2); "
      "the embedding is not scaled unless a key says so; what is packed lies in the order q, k, v and gate, up";
  if (config.contains("logits_scaling")) assumed += "; the logits are divided by logits_scaling, not multiplied";
  return assumed;
}

// A module a line, and the options on one.
std::string file_text(const OrderedJson& family) {
  std::string text = "{\n  \"family\": " + json_text(family["family"]) + ",\n  \"like\": " + json_text(family["like"]) +
                     ",\n  \"modules\": [\n";
  for (const OrderedJson& module : family["modules"])
    text += "    " + json_text(module) + (&module == &family["modules"].back() ? "\n" : ",\n");
  return text + "  ],\n  \"options\": " + json_text(family["options"]) + "\n}\n";
}

}  // namespace

InferredFamily infer_family(const ModelFiles& files, const std::filesystem::path& config_file) {
  const FamilyPointer base = unlisted_family();
  const OrderedJson config = parse_ordered_json_or_discard(config_text(config_file.string()));
  const OrderedJson found = Inference(files, read_config_without_plan(config_file, base)).run();
  OrderedJson family{{"family", config.contains("model_type") ? config["model_type"] : OrderedJson("unlisted")},
                     {"like", base->name},
                     {"modules", found["modules"]},
                     {"options", found["options"]}};
  InferredFamily result{file_text(family), assumed_of(config)};
  const ModelConfig read = read_model_config(config_file, parse_family(result.text, "the family found"));
  check_tensors(files, read, Parameters(read, 0, 1));
  return result;
}

}  // namespace llama_tp
