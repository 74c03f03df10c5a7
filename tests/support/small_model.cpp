#include "support/small_model.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "io/safetensors.h"
#include "scratch_folder.h"

namespace llama_tp {

using Json = nlohmann::json;

const std::string& small_tokenizer() {
  static const ScratchFolder folder;
  const std::string names = folder / "tokenizer_config.json";
  if (!std::filesystem::exists(names)) {
    std::filesystem::copy("tests/goldens/tokenizers/llama3/tokenizer.json", folder.path());
    write_file(names, R"({"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"})");
  }
  return folder.path();
}

Json small_config(const Json& changes) {
  Json config{{"architectures", {"LlamaForCausalLM"}},
              {"model_type", "llama"},
              {"vocab_size", small_vocabulary},
              {"hidden_size", 32},
              {"intermediate_size", 64},
              {"num_hidden_layers", 2},
              {"num_attention_heads", 8},
              {"num_key_value_heads", 4},
              {"max_position_embeddings", 256},
              {"rms_norm_eps", 1e-5},
              {"initializer_range", 0.1},
              {"tie_word_embeddings", false},
              {"bos_token_id", small_bos},
              {"eos_token_id", small_eos},
              {"torch_dtype", "float32"}};
  config.merge_patch(changes);
  return config;
}

std::string demo_lines(int count) {
  std::ifstream file("data/demo/train.jsonl");
  std::string lines;
  int taken = 0;
  for (std::string line; taken < count && std::getline(file, line); taken++) lines += line + "\n";
  require(taken == count, "data/demo/train.jsonl: fewer than ", count, " lines");
  return lines;
}

std::string demo_texts(int count) {
  std::string texts;
  for (const Json& line : json_lines(demo_lines(count))) texts += line["text"].dump() + "\n";
  return texts;
}

std::string random_id_lines(int samples, int length, int vocabulary) {
  std::string lines;
  uint64_t state = 1;
  for (int sample = 0; sample < samples; sample++) {
    Json ids = Json::array();
    for (int i = 0; i < length; i++) {
      state = state * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX
      ids.push_back((state >> 33) % static_cast<uint64_t>(vocabulary));
    }
    lines += Json{{"input_ids", ids}}.dump() + "\n";
  }
  return lines;
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  require(file.flush().good(), path, ": cannot be written");
}

std::string whole_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  require(file.good(), path, ": cannot be read");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<Json> json_lines(const std::string& text) {
  std::vector<Json> parsed;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) parsed.push_back(Json::parse(line));
  return parsed;
}

std::vector<int> checkpoint_steps(const std::string& output_folder) {
  const std::string prefix = "checkpoint-";
  std::vector<int> steps;
  for (const auto& entry : std::filesystem::directory_iterator(output_folder)) {
    const std::string name = entry.path().filename();
    if (name.starts_with(prefix) && name.find('.') == std::string::npos)
      steps.push_back(std::stoi(name.substr(prefix.size())));
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

namespace {

template <class Value>
std::vector<Value> values_of(const SafetensorsFile& file, const StoredTensor& tensor, DType dtype) {
  const Region region = whole(tensor);
  std::vector<Value> values(static_cast<size_t>(region.rows() * region.columns()));
  file.read(tensor, region, dtype, values.data());
  return values;
}

const StoredTensor& tensor_named(const SafetensorsFile& file, const std::string& name) {
  const auto found = std::ranges::find(file.tensors(), name, &StoredTensor::name);
  require(found != file.tensors().end(), file.path(), ": has no ", name);
  return *found;
}

}  // namespace

std::vector<DumpedSample> read_dump(const std::string& path) {
  const SafetensorsFile file(path);
  std::vector<DumpedSample> samples;
  for (size_t i = 0; i < file.tensors().size() / 2; i++) {
    const StoredTensor &logits = tensor_named(file, text("logits.", i)),
                       &ids = tensor_named(file, text("input_ids.", i));
    samples.push_back(
        {{logits.shape, values_of<float>(file, logits, DType::f32)}, values_of<int32_t>(file, ids, DType::i32)});
  }
  require(file.tensors().size() == 2 * samples.size(), path, ": has more than logits and ids");
  return samples;
}

std::vector<std::pair<std::string, StoredValues>> read_tensors(const std::string& path) {
  const SafetensorsFile file(path);
  std::vector<std::pair<std::string, StoredValues>> tensors;
  for (const StoredTensor& tensor : file.tensors())
    tensors.emplace_back(tensor.name, StoredValues{tensor.shape, values_of<float>(file, tensor, DType::f32)});
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  return tensors;
}

}  // namespace llama_tp
