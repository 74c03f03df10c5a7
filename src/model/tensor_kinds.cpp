#include "model/tensor_kinds.h"

#include <algorithm>
#include <string_view>

namespace llama_tp {

namespace {

bool is_number(const std::string& piece) {
  return !piece.empty() && std::all_of(piece.begin(), piece.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::vector<std::string> split_at(const std::string& name, const char* marks) {
  std::vector<std::string> pieces{""};
  for (const char c : name) {
    if (std::string_view(marks).find(c) != std::string_view::npos)
      pieces.emplace_back();
    else
      pieces.back() += c;
  }
  return pieces;
}

}  // namespace

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all{
      {{Part::embedding}, {"embed", "embedding", "embeddings", "tok", "wte", "emb"}, "embedding_rowwise"},
      // Models that norm what attention gives have a post_attention_norm, too, and none before it.
      {{Part::attention_norm}, {"input", "attn", "attention", "pre", "1"}, "replicated", {"post"}},
      {{Part::q}, {"q", "wq", "query", "queries"}, "colwise"},
      {{Part::k}, {"k", "wk", "key", "keys"}, "colwise"},
      {{Part::v}, {"v", "wv", "value", "values"}, "colwise"},
      {{Part::k, Part::v}, {"kv", "wkv"}, "packed_colwise"},
      {{Part::q, Part::k, Part::v}, {"qkv", "wqkv", "query"}, "packed_colwise"},
      {{Part::q_norm}, {"q", "query"}, "replicated_with_grad_allreduce"},
      {{Part::k_norm}, {"k", "key"}, "replicated_with_grad_allreduce"},
      {{Part::o}, {"o", "wo", "out", "output", "dense"}, "rowwise"},
      {{Part::mlp_norm}, {"post", "mlp", "ffn", "ff", "feed", "2"}, "replicated"},
      // w1 is the gate where w3 is up, as in Llama's own files, and up where w2 is the gate, as in Qwen's first.
      {{Part::gate}, {"gate", "w1"}, "colwise"},
      {{Part::up}, {"up", "w1", "w3", "fc", "fc1"}, "colwise"},
      {{Part::gate, Part::up}, {"gate", "w13"}, "packed_colwise"},
      {{Part::down}, {"down", "w2", "fc2", "proj"}, "rowwise"},
      {{Part::final_norm}, {"norm", "ln", "final"}, "replicated"},
      {{Part::head}, {"head", "output", "unembed", "logits"}, "colwise"}};
  return all;
}

std::vector<int64_t> shape_of(const Kind& kind, const ModelConfig& config) {
  const Part first = kind.parts.front();
  if (is_norm(first)) return {rows_of_part(config, first)};
  int64_t out = 0;
  for (const Part part : kind.parts) out += rows_of_part(config, part);
  return {out, columns_of_part(config, first)};
}

std::string joined(const std::vector<std::string>& words, const char* between) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : between) + word;
  return out;
}

std::string name_of_kind(const Kind& kind) {
  std::vector<std::string> names;
  for (const Part part : kind.parts) names.emplace_back(name_of(part));
  return joined(names, "+");
}

std::vector<std::string> templates_of(const std::string& name) {
  const std::vector<std::string> pieces = split_at(name, ".");
  std::vector<std::string> all;
  for (size_t i = 0; i < pieces.size(); i++) {
    if (!is_number(pieces[i])) continue;
    std::vector<std::string> changed = pieces;
    changed[i].assign(1, '*');
    all.push_back(joined(changed, "."));
  }
  return all;
}

std::set<std::string> words_of(const std::string& name) {
  std::set<std::string> words;
  for (std::string piece : split_at(name, "._*")) {
    for (char& c : piece) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    const size_t digits = std::min(piece.find_first_of("0123456789"), piece.size());
    words.insert({piece, piece.substr(0, digits), piece.substr(digits)});
  }
  return words;
}

}  // namespace llama_tp
