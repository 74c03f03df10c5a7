// What turns a data file's texts into tokens and labels: a tokenizer and, for conversations, a chat template.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/dataset.h"
#include "io/tokenizer/tokenizer.h"

namespace llama_tp {

struct DataTokenizerOptions {
  ChatTemplateChoice chat_template = {};
  bool assistant_only_loss = true;  // false: all tokens of a conversation and of a prompt are learned, too
  std::string date = {};            // that a template tells, as today(); "": the clock's
};

class DataTokenizer {
 public:
  // place: of the tokenizer, a folder or a file; "": there is none. Errors: load_tokenizer's; a chat template that was
  // chosen and is not known. One that is missing is an error only for who has conversations.
  DataTokenizer(const std::string& place, const DataTokenizerOptions& options);

  // For reading data of a model with so many ids and with these ends of a text, of which the first is EOS where the
  // tokenizer names none; its config is `source`. Must not outlive this. Errors: the tokenizer has more ids.
  DatasetOptions dataset_options(int64_t block_size, int64_t vocabulary, const std::vector<int64_t>& eos_ids,
                                 const std::string& source) const;

  // Another text wherever another tokenizer, template or option would give other tokens or labels.
  std::string fingerprint() const;

  const Tokenizer& tokenizer() const { return *tokenizer_; }

 private:
  LabeledTokens tokenize_messages(const std::vector<Message>& messages) const;
  LabeledTokens tokenize_completion(std::string_view prompt, std::string_view completion,
                                    std::optional<int32_t> eos) const;

  std::string place_;
  DataTokenizerOptions options_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> chat_;
  std::string no_chat_;  // why there is no template
};

}  // namespace llama_tp
