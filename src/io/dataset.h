// Training and evaluation data as samples of tokens: one array of ids and where each sample begins.
//   .txt    the whole file is one document
//   .jsonl  a document a line, {"text": …}, or a sample a line, {"input_ids": […], "labels": […]} (labels may be
//   absent)
// Documents are joined, each followed by EOS, and packed into samples of block_size; the last one is shorter, so every
// token is used once an epoch. A sample of its own is never joined with another; what goes beyond block_size is cut
// off. Labels stand under their tokens as in Hugging Face's data; shifted_targets moves them to the position that
// predicts them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llama_tp {

// A label that counts for nothing, as torch's cross-entropy has it.
constexpr int32_t ignored_label = -100;

// Called from several threads at once.
using Tokenize = std::function<std::vector<int32_t>(std::string_view)>;

struct DatasetOptions {
  int64_t block_size = 0;      // tokens
  int64_t vocabulary = 0;      // ids are below this
  std::optional<int32_t> eos;  // what follows each document; none: documents are joined as they are
  Tokenize tokenize;           // may be empty where there is no tokenizer; then only input_ids can be read
};

// tokens and labels are of the same length.
struct Sample {
  std::span<const int32_t> tokens, labels;
};

// The arrays are plain, so that one rank can read and send them to others.
struct Dataset {
  std::vector<int32_t> tokens;
  std::vector<int32_t> labels;     // empty: each token is its own label
  std::vector<int64_t> starts{0};  // sample i is [starts[i], starts[i + 1])
  bool packed = false;             // from text
  int64_t documents = 0;           // of text, those without a token left out
  int64_t cut_samples = 0;         // that were longer than block_size,
  int64_t cut_tokens = 0;          // and what they lost

  int64_t samples() const { return static_cast<int64_t>(starts.size()) - 1; }
  int64_t longest_sample() const;
  Sample sample(int64_t index) const;
};

// Errors, with file and line: unknown ending, empty, not UTF-8 (with the byte), a line that is cut or of another type,
// ids outside of the vocabulary, labels of another length, nothing to predict in the whole file.
Dataset read_dataset(const std::string& path, const DatasetOptions& options);

// targets[t] = labels[t + 1], what position t is to predict; ignored_label at the last. targets is as long as the
// sample.
void shifted_targets(const Sample& sample, std::span<int32_t> targets);

// How many of shifted_targets are not ignored_label.
int64_t count_targets(const Sample& sample);

}  // namespace llama_tp
