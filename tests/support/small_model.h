// What the tests of the commands train: a Llama of 50 thousand parameters with a small tokenizer and a few of the
// demo's texts; and the files that a run leaves.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace llama_tp {

// A folder with the golden tokenizer of Llama 3's kind, and the names of its BOS and EOS.
const std::string& small_tokenizer();
constexpr int small_tokens = 489, small_bos = 485, small_eos = 486;
constexpr int small_vocabulary = 496;  // the model has some more rows, as many models do

// A config.json; `changes` replace its keys, null removes one.
nlohmann::json small_config(const nlohmann::json& changes = nlohmann::json::object());

// The first texts of the demo's corpus, one JSON object a line as it stands there; and the texts alone, one JSON string
// a line.
std::string demo_lines(int count);
std::string demo_texts(int count);

// input_ids of this many samples, each of `length` tokens below `vocabulary`; the same every time.
std::string random_id_lines(int samples, int length, int vocabulary);

void write_file(const std::string& path, const std::string& text);
std::string whole_file(const std::string& path);
std::vector<nlohmann::json> json_lines(const std::string& text);

// Steps of the checkpoints in an output folder, ascending.
std::vector<int> checkpoint_steps(const std::string& output_folder);

struct StoredValues {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
// Every tensor of a safetensors file, as f32.
std::vector<std::pair<std::string, StoredValues>> read_tensors(const std::string& path);

// Of a sample that eval --dump-logits wrote.
struct DumpedSample {
  StoredValues logits;  // [sequence, vocabulary]
  std::vector<int32_t> ids;
};
// All of a file, in the samples' order. Errors: the file has other tensors as well.
std::vector<DumpedSample> read_dump(const std::string& path);

}  // namespace llama_tp
