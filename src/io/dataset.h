// Training and evaluation data as samples of tokens: one array of ids and where each sequence begins.
//   .txt    the whole file is one document, but for a byte order mark before it
//   .jsonl  a document a line, {"text": …}, or a sequence a line: {"messages": [{"role": …, "content": …}, …]},
//           {"prompt": …, "completion": …} or {"input_ids": […], "labels": […]} (labels may be absent)
// Documents are joined, each followed by EOS, and cut into samples of block_size; the last one is shorter, so every
// token is used once an epoch. What a sequence of its own has beyond block_size is cut off. It is a sample, or, with
// packing, one of several in a sample, which do not see each other. Labels stand under their tokens as in Hugging
// Face's data; shifted_targets moves them to the position that predicts them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/operation_options.h"
#include "base/shared_list.h"
#include "io/chat/chat_template.h"

namespace llama_tp {

struct LabeledTokens {
  std::vector<int32_t> tokens, labels;  // of the same length
};

// These are called from several threads at once.
using Tokenize = std::function<std::vector<int32_t>(std::string_view)>;
using TokenizeMessages = std::function<LabeledTokens(const std::vector<Message>&)>;
using TokenizeCompletion = std::function<LabeledTokens(std::string_view prompt, std::string_view completion)>;

struct DatasetOptions {
  int64_t block_size = 0;      // tokens
  int64_t vocabulary = 0;      // ids are below this
  std::optional<int32_t> eos;  // what follows each document; none: documents are joined as they are
  Tokenize tokenize;           // these three may be empty where there is no tokenizer; then only input_ids can be read
  TokenizeMessages tokenize_messages = {};
  TokenizeCompletion tokenize_completion = {};
  bool truncation = true;  // false: a sequence beyond block_size is refused
  bool packing = false;
};

// tokens and labels are of the same length.
struct Sample {
  std::span<const int32_t> tokens, labels;
};

// Arrays and numbers are plain, so that they can be kept in a file and sent to other ranks: see each_array.
struct Dataset {
  SharedList<int32_t> tokens;
  SharedList<int32_t> labels;     // empty: each token is its own label
  SharedList<int64_t> starts{0};  // sequence i is [starts[i], starts[i + 1])
  SharedList<int64_t> blocks;     // sample i holds sequences [blocks[i], blocks[i + 1]); empty: sequence i
  bool packed = false;            // from text
  int64_t documents = 0;          // of text, those without a token left out
  int64_t cut_samples = 0;        // sequences that were longer than block_size,
  int64_t cut_tokens = 0;         // and what they lost

  // The last four as one array, and from it.
  std::vector<int64_t> numbers() const { return {packed ? 1 : 0, documents, cut_samples, cut_tokens}; }
  void set_numbers(std::span<const int64_t> numbers);

  int64_t sequences() const { return static_cast<int64_t>(starts.size()) - 1; }
  int64_t samples() const { return blocks.empty() ? sequences() : static_cast<int64_t>(blocks.size()) - 1; }
  int64_t longest_sample() const;
  // The most sequences of a sample.
  int64_t most_sequences() const;
  int64_t first_sequence(int64_t sample) const { return blocks.empty() ? sample : blocks[static_cast<size_t>(sample)]; }
  Sample sequence(int64_t index) const;
  // All sequences of a sample, one after another.
  Sample sample(int64_t index) const;

 private:
  Sample between(int64_t first_sequence, int64_t last_sequence) const;
};

// visit(name, array) for each array of a Dataset, which may be const.
template <class Data, class Visit>
void each_array(Data& data, const Visit& visit) {
  visit("tokens", data.tokens);
  visit("labels", data.labels);
  visit("starts", data.starts);
  visit("blocks", data.blocks);
}

// Of the arrays: that of the same samples, whatever file they come from.
uint64_t fingerprint_of(const Dataset& data);

// Errors, with file and line: unknown ending, empty, not UTF-8 (with the byte), a line that is cut or of another type,
// ids outside of the vocabulary, labels of another length, a conversation or a completion with nothing to learn, a
// sequence that is too long where there is no truncation, nothing to predict in the whole file.
Dataset read_dataset(const std::string& path, const DatasetOptions& options);

// targets[t] = labels[t + 1], what position t is to predict; ignored_label at the last. targets is as long as the
// sample.
void shifted_targets(const Sample& sample, std::span<int32_t> targets);

// How many of shifted_targets are not ignored_label.
int64_t count_targets(const Sample& sequence);
// Those of a sample's sequences, and of all.
int64_t count_targets(const Dataset& data, int64_t sample);
int64_t count_targets(const Dataset& data);

}  // namespace llama_tp
