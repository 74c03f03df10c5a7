// Text to token ids and back. load_tokenizer() reads what a Hugging Face folder holds: tokenizer.json (BPE, byte-level
// or with byte fallback), or SentencePiece's tokenizer.model. Ids are those that Hugging Face's `tokenizers` gives.
// A tokenizer does not change after loading: any number of threads may use one at the same time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llama_tp {

struct EncodeOptions {
  bool add_special_tokens = true;    // what the post-processor adds; for Llama the BOS in front
  bool parse_special_tokens = true;  // "<|eot_id|>" in the text becomes its one id; else it is text like any other
};

struct DecodeOptions {
  bool skip_special_tokens = true;  // special tokens give no text
};

// Takes ids one at a time and gives the text that they complete. A character is never cut, and the pieces in a row are
// exactly decode() of all ids, unless push_prompt() parts them. Text may come late where a later id decides over it: bytes
// that are not yet a character and, in byte-fallback BPE, a run of byte tokens, which is valid or replaced as a whole.
class StreamDecoder {
 public:
  virtual ~StreamDecoder() = default;

  // The text that this id completes, often one word, sometimes nothing. Errors: a negative id.
  std::string push(int32_t id);

  // The ids that stand before those of interest, whose text may depend on them (the space in front of a word). All text of
  // these comes out here: what follows neither brings any of it nor changes it.
  std::string push_prompt(std::span<const int32_t> ids);

  // What is still held back when no more ids come: usually nothing, U+FFFD for a character that stays incomplete.
  // The decoder is spent afterwards.
  std::string finish();

  // How many bytes are held back: with those that came, where in the text the last id ends.
  virtual size_t held() const = 0;

 protected:
  friend class Tokenizer;
  virtual void add(int32_t id) = 0;             // id >= 0
  virtual void settle() = 0;                    // no later id can change what was added
  virtual void release(std::string& text) = 0;  // appends what no later id can change
  virtual void release_all(std::string& text) = 0;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Errors: text that is not UTF-8, with the offset of the first bad byte.
  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;

  // Valid UTF-8 whatever the ids. An id without a token (a hole in the vocabulary, or past its end, as a model with a
  // padded vocabulary may sample) gives no text, as in transformers. Errors: a negative id.
  std::string decode(std::span<const int32_t> ids, DecodeOptions options = {}) const;

  // Must not outlive this tokenizer.
  virtual std::unique_ptr<StreamDecoder> stream_decoder(DecodeOptions options = {}) const = 0;

  // The highest id + 1.
  virtual int64_t vocabulary_size() const = 0;

  // The same without tokens that were added: as many embedding rows as a model needs that goes with this tokenizer. For an
  // added token it may have none, as of Llama 2 folders with a <pad> that no text contains.
  virtual int64_t needed_rows() const = 0;

  // The id of a token by its exact name in the vocabulary, such as "<|eot_id|>" or "▁the", and the other way round.
  virtual std::optional<int32_t> id_of(std::string_view token) const = 0;
  virtual std::optional<std::string> token_of(int32_t id) const = 0;

  // A token that stands for no text of its own: BOS, EOS, the marks of a chat template.
  virtual bool is_special(int32_t id) const = 0;

  // From tokenizer_config.json or special_tokens_map.json beside the tokenizer; else from what the post-processor puts
  // first and last, or from the SentencePiece model.
  std::optional<int32_t> bos() const { return bos_; }
  std::optional<int32_t> eos() const { return eos_; }

 protected:
  // Appends the ids of text that is valid UTF-8.
  virtual void encode_valid(std::string_view text, EncodeOptions options, std::vector<int32_t>& ids) const = 0;

  std::optional<int32_t> bos_, eos_;
};

// Errors: an id that is none of a model's, 0 to vocabulary − 1.
void check_ids(std::span<const int32_t> ids, int64_t vocabulary);

// tokenizer.json or tokenizer.model, one that load_tokenizer() would read; "" is no folder and holds none.
bool holds_tokenizer(const std::string& folder);

// `path`: a folder (tokenizer.json before tokenizer.model), or one of these files under any name ending in .json or
// .model. Errors name the file, the part of it, and what would mend it.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path);

}  // namespace llama_tp
