#include "io/data_tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "base/fingerprint.h"
#include "io/chat/chat_tokens.h"
#include "io/files.h"
#include "io/tokenizer/tokenizer_files.h"

namespace llama_tp {

namespace {

// Ids as labels from `first` on.
LabeledTokens learned_from(std::vector<int32_t> ids, size_t first) {
  LabeledTokens labeled{ids, std::move(ids)};
  std::fill_n(labeled.labels.begin(), std::min(first, labeled.labels.size()), ignored_label);
  return labeled;
}

}  // namespace

DataTokenizer::DataTokenizer(const std::string& place, const DataTokenizerOptions& options)
    : place_(place), options_(options) {
  if (place.empty()) return;
  tokenizer_ = load_tokenizer(place);
  try {
    chat_ = find_chat_template(folder_beside(place), *tokenizer_, options.chat_template);
    if (!options.date.empty()) chat_->set_today(options.date);
  } catch (const Error& error) {
    if (!options.chat_template.name.empty()) throw;
    no_chat_ = error.what();
  }
}

DatasetOptions DataTokenizer::dataset_options(int64_t block_size, int64_t vocabulary,
                                              const std::vector<int64_t>& eos_ids, const std::string& source) const {
  DatasetOptions options{block_size, vocabulary, {}, {}};
  if (tokenizer_ == nullptr) return options;
  require(tokenizer_->needed_rows() <= vocabulary, place_, ": the tokenizer has ids up to ",
          tokenizer_->needed_rows() - 1, ", but ", source, " has vocab_size ", vocabulary,
          "; take the tokenizer that belongs to the model");
  options.eos = tokenizer_->eos();
  if (!options.eos && !eos_ids.empty()) options.eos = static_cast<int32_t>(eos_ids[0]);
  options.tokenize = [this](std::string_view document) {
    return tokenizer_->encode(document, {.add_special_tokens = false});
  };
  options.tokenize_messages = [this](const std::vector<Message>& messages) { return tokenize_messages(messages); };
  options.tokenize_completion = [this, eos = options.eos](std::string_view prompt, std::string_view completion) {
    return tokenize_completion(prompt, completion, eos);
  };
  return options;
}

std::string DataTokenizer::fingerprint() const {
  std::string all = text(place_.empty() ? "none" : "", options_.assistant_only_loss);
  // A template is the words around a conversation, the date among them.
  if (chat_) all += chat_->render({{"user", "?"}, {"assistant", "!"}}, false).text;
  if (chat_) all += chat_->name();
  for (const std::string& file : tokenizer_files(place_)) all += read_text(file);
  return std::to_string(llama_tp::fingerprint(all));
}

LabeledTokens DataTokenizer::tokenize_messages(const std::vector<Message>& messages) const {
  require(chat_.has_value(), "has messages, but ", no_chat_);
  ChatTokens tokens = tokenize_chat(*tokenizer_, chat_->render(messages, false));
  LabeledTokens labeled = learned_from(std::move(tokens.ids), 0);
  for (size_t i = 0; i < labeled.labels.size() && options_.assistant_only_loss; i++)
    if (!tokens.learned[i]) labeled.labels[i] = ignored_label;
  return labeled;
}

// The two are tokenized as one text, with the BOS that the tokenizer puts in front and EOS behind. A token that holds
// the end of the prompt and the beginning of the completion is learned.
LabeledTokens DataTokenizer::tokenize_completion(std::string_view prompt, std::string_view completion,
                                                 std::optional<int32_t> eos) const {
  const std::string whole = text(prompt, completion);
  const std::vector<int32_t> own = tokenizer_->encode(whole, {.add_special_tokens = false});
  std::vector<int32_t> ids = tokenizer_->encode(whole);
  const auto in_front = std::search(ids.begin(), ids.end(), own.begin(), own.end()) - ids.begin();
  const size_t first = static_cast<size_t>(in_front) + token_at(*tokenizer_, whole, prompt.size(), own);
  if (eos && (ids.empty() || ids.back() != *eos)) ids.push_back(*eos);
  return learned_from(std::move(ids), options_.assistant_only_loss ? first : 0);
}

}  // namespace llama_tp
