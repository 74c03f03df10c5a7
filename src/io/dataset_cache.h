// A data file once tokenized, kept beside a run's output: the next run on the same contents reads the arrays instead.
#pragma once

#include <string>

#include "io/dataset.h"

namespace llama_tp {

// The begin of the names of its files.
inline constexpr const char* dataset_prefix = "tokenized-";

// Of one data file.
class DatasetCache {
 public:
  // folder: where tokenized-KEY.safetensors are; made when the first is kept.
  explicit DatasetCache(std::string folder) : folder_(std::move(folder)) {}

  // read_dataset, or what it gave for the same contents and options. tokenizer: a text that is another one wherever the
  // tokens would be (DataTokenizer::fingerprint). Changes nothing on the disk.
  Dataset read(const std::string& path, const DatasetOptions& options, const std::string& tokenizer);
  // Keeps what was read, unless it comes from here. Where that fails, or what was kept was damaged, the run does without:
  // returns what to say of it, else "".
  std::string keep(const Dataset& data) const;

  // The file that spared the work, or "".
  std::string hit() const { return is_hit_ ? folder_ + "/" + name_ : ""; }

 private:
  std::string folder_, name_, trouble_;
  bool is_hit_ = false;
};

}  // namespace llama_tp
