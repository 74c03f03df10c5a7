// What every way to generate has in common: a model on its ranks, rank 0's tokenizer, what ends a text, how
// tokens are chosen, and a generator made for the prompts.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "generate/generator.h"
#include "generate/settings.h"
#include "io/chat/chat_template.h"
#include "io/tokenizer/tokenizer.h"
#include "model/loaded.h"

namespace llama_tp {

class Session {
 public:
  // Errors: the folder's; a tokenizer with more ids than the model.
  Session(const GenerationSettings& settings, const Launch& launch);

  bool leads() const { return launch_.rank() == 0; }
  void say(const std::string& line) const;                    // rank 0, to stderr
  static void write(const std::string& piece);                // to stdout, at once
  const Tokenizer& tokenizer() const { return *tokenizer_; }  // rank 0's
  const ModelOnRanks& model() const { return model_; }

  // Rank 0's ids, on every rank.
  std::vector<int32_t> exchange(std::vector<int32_t> ids) const;

  // The text of -p, or that of -f's file without the newline that ends it.
  struct Prompt {
    std::string text, where;
  };
  Prompt prompt() const;
  // A prompt's ids, at least BOS; rank 0. Errors begin with `where`.
  std::vector<int32_t> encode(const std::string& prompt, const std::string& where) const;
  // Errors: a message holds the name of a special token, which a template would take for the token itself, and there is
  // no --special. Rank 0.
  void refuse_special(const std::string& message) const;
  // The chat template of --chat-template, else the one that config.json keeps, else the tokenizer's; what it names ends
  // a turn. Rank 0.
  ChatTemplate find_chat();

  // The context for prompts of which the longest, that of `where`, has so many tokens. Errors: it does not fit.
  int64_t settle_context(int64_t longest_prompt, const std::string& where = "") const;
  // The tokens that are read of the text of a prompt of so many in a context: fewer where longrope changes its frequencies,
  // by which the keys in the cache were not rotated.
  int64_t room_of(int64_t prompt, int64_t context) const;
  // Reserves `memory` and loads the weights; tells what the run is. Collective, as all below.
  void open(int64_t context, int64_t sequences, const MemoryPlan& memory);
  Generator& generator() { return *generator_; }

  // What follows the tokens that a sequence was fed. Errors: logits that are not finite.
  const Choice& choice(int64_t sequence = 0);
  // in_conversation: of a text that is a turn of one.
  bool is_end(int32_t id, bool in_conversation) const;
  // That the context is full, and what then helps.
  std::string full_context() const;

 private:
  void introduce(int64_t context, int64_t sequences, const MemoryPlan& memory) const;

  const GenerationSettings& settings_;
  const Launch& launch_;
  ModelOnRanks model_;
  GenerationConfig config_;  // the model's
  Sampling sampling_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<int32_t> ends_, turn_ends_;  // of any text; of turns besides, by the chat template
  std::unique_ptr<Generator> generator_;
};

}  // namespace llama_tp
