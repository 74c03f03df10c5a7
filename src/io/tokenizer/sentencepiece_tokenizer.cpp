// tokenizer.model: SentencePiece's library does the work; here its control symbols and the tokens added beside it are
// found in the text, and its decoding is made to give text id by id.
#include <sentencepiece_processor.h>

#include <new>
#include <unordered_map>

#include "base/error.h"
#include "io/files.h"
#include "io/tokenizer/character_map.h"
#include "io/tokenizer/loaders.h"
#include "io/tokenizer/sentencepiece_settings.h"
#include "io/tokenizer/space_sign.h"
#include "io/tokenizer/utf8.h"

namespace llama_tp {

namespace {

using sentencepiece::SentencePieceProcessor;

// The library needs about 90 bytes of memory for a byte of its text, so it gets a long text in pieces of about so many.
constexpr size_t piece_size = 64 << 10;

// The next space that stands behind another character and not at the text's end, from `from` (> 0) on; text.size()
// where there is none.
size_t next_cut(std::string_view text, size_t from) {
  for (size_t at = text.find(' ', from); at < text.size() - 1; at = text.find(' ', at + 1)) {
    if (text[at - 1] != ' ' && !text.substr(0, at).ends_with(space_sign)) return at;
  }
  return text.size();
}

// The model that puts no space in front of a text. A message's later values overrule those before them: here
// normalizer_spec.add_dummy_prefix = false.
std::string without_prefix(const std::string& model) { return model + std::string("\x1a\x02\x18\x00", 4); }

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(const std::string& path, const SpecialNames& names) : path_(path) {
    const bool adds_prefix = names.add_prefix_space.value_or(true);
    const std::string bytes = adds_prefix ? read_text(path) : without_prefix(read_text(path));
    constexpr const char *what = ": is not a SentencePiece model (",
                         *mend = "); the file is cut or of another kind, fetch it again";
    require(has_sound_character_maps(bytes), path, what, "its precompiled_charsmap is damaged", mend);
    const auto status = processor_.LoadFromSerializedProto(bytes);
    require(status.ok() && processor_.GetPieceSize() > 0, path, what, status.ToString(), mend);
    if (adds_prefix && !names.legacy.value_or(true)) load_without_prefix(bytes);
    size_ = processor_.GetPieceSize();
    settings_ = read_sentencepiece_settings(bytes);
    cut_before_spaces_ = can_cut_before_spaces();
    for (int id = 0; id < processor_.GetPieceSize(); ++id) {
      if (processor_.IsControl(id) || processor_.IsUnknown(id)) {
        search_.add(processor_.IdToPiece(id), {.id = id, .content = processor_.IdToPiece(id), .special = true});
      }
    }
    for (const AddedToken& token : names.added) add_token(token);
    for (AddedToken token : names.roles) {
      token.id = id_of(token.content).value_or(no_token);
      if (token.id != no_token && !is_special(token.id)) add_token(token);
    }
    bos_ = choose(names.bos, "bos_token", processor_.bos_id());
    eos_ = choose(names.eos, "eos_token", processor_.eos_id());
    if (bos_ && names.add_bos.value_or(true)) before_.push_back(*bos_);
    if (eos_ && names.add_eos.value_or(false)) behind_.push_back(*eos_);
    find_anchor();
  }

  std::unique_ptr<StreamDecoder> stream_decoder(DecodeOptions options) const override;

  int64_t vocabulary_size() const override { return size_; }
  int64_t needed_rows() const override { return processor_.GetPieceSize(); }

  std::optional<int32_t> id_of(std::string_view token) const override {
    for (const auto& [id, added] : added_) {
      if (added.content == token) return id;
    }
    // The library gives the unknown id for what it does not know.
    const int id = processor_.PieceToId(token);
    return in_model(id) && processor_.IdToPiece(id) == token ? std::optional<int32_t>(id) : std::nullopt;
  }

  std::optional<std::string> token_of(int32_t id) const override {
    const auto added = added_.find(id);
    if (added != added_.end()) return added->second.content;
    return in_model(id) ? std::optional(processor_.IdToPiece(id)) : std::nullopt;
  }

  bool is_special(int32_t id) const override {
    const auto added = added_.find(id);
    if (added != added_.end()) return added->second.special;
    return in_model(id) && (processor_.IsControl(id) || processor_.IsUnknown(id));
  }

 protected:
  void encode_valid(std::string_view text, EncodeOptions options, std::vector<int32_t>& ids) const override {
    if (options.add_special_tokens) ids = before_;
    search_.for_each_part(text, options.parse_special_tokens, [&](std::string_view part, int32_t id, size_t offset) {
      if (id != no_token) return ids.push_back(id);
      encode_part(part, offset, ids);
    });
    if (options.add_special_tokens) ids.insert(ids.end(), behind_.begin(), behind_.end());
  }

 private:
  friend class SentencePieceStreamDecoder;

  // Whether text that is cut in front of a space, behind another character, has the ids of the whole: what the library
  // makes of the two sides must be the two sides of what it makes of the whole, and nothing may merge across. Sums of a
  // unigram model's scores are rounded from the text's beginning on; pieces that are not in use are split again by what
  // else stands in the text.
  bool can_cut_before_spaces() const {
    if (!settings_.byte_pairs || settings_.space_as_suffix || settings_.rewrites_characters ||
        settings_.remove_extra_whitespaces || !settings_.escape_whitespaces ||
        !is_text(processor_.PieceToId(space_sign)))
      return false;
    for (int id = 0; id < processor_.GetPieceSize(); ++id) {
      const std::string& piece = processor_.IdToPiece(id);
      const bool spaces_begin = next_border(piece, 0) == piece.size() && piece.find(' ') == std::string::npos;
      if (!spaces_begin || processor_.IsUnused(id)) return false;
    }
    return true;
  }

  // `offset`: where the part begins in the text.
  void encode_part(std::string_view part, size_t offset, std::vector<int32_t>& ids) const {
    std::vector<int32_t> piece_ids;
    for (size_t begin = 0, end; begin < part.size(); begin = end) {
      end = cut_before_spaces_ && part.size() - begin > piece_size ? next_cut(part, begin + piece_size) : part.size();
      std::string_view piece = part.substr(begin, end - begin);
      const SentencePieceProcessor& encoder = encoder_of(piece, offset + begin);
      const bool has_prefix = &encoder == &processor_ && settings_.dummy_prefix;
      if (begin > 0 && has_prefix) piece.remove_prefix(1);  // the library puts that space in front
      encode_piece(encoder, piece, piece_ids);
      ids.insert(ids.end(), piece_ids.begin(), piece_ids.end());
    }
  }

  void encode_piece(const SentencePieceProcessor& encoder, std::string_view piece, std::vector<int32_t>& ids) const {
    try {
      const auto status = encoder.Encode(piece, &ids);
      require(status.ok(), path_, ": SentencePiece cannot encode the text: ", status.ToString());
    } catch (const std::bad_alloc&) {
      fail(path_, ": out of memory for ", piece.size(), " bytes of text that cannot be cut; SentencePiece needs about ",
           "90 for each of them; give shorter texts, or the same model's tokenizer.json");
    }
  }

  void load_without_prefix(const std::string& model) {
    const auto status = without_prefix_.emplace().LoadFromSerializedProto(without_prefix(model));
    require(status.ok(), path_, ": cannot be used with legacy false in tokenizer_config.json (", status.ToString(),
            ")");
  }

  // Not to be legacy is to have "▁" in front of the text alone, and not where it begins with a space.
  const SentencePieceProcessor& encoder_of(std::string_view part, size_t offset) const {
    const bool has_prefix = offset == 0 && !part.starts_with(' ') && !part.starts_with(space_sign);
    return !without_prefix_ || has_prefix ? processor_ : *without_prefix_;
  }

  bool in_model(int32_t id) const { return 0 <= id && id < processor_.GetPieceSize(); }

  bool is_text(int id) const {
    return !processor_.IsControl(id) && !processor_.IsByte(id) && !processor_.IsUnknown(id);
  }

  void add_token(const AddedToken& token) {
    const std::optional<std::string> name = token_of(token.id);
    require(!name || *name == token.content, path_, ": id ", token.id, " is \"", *name, "\", but \"", token.content,
            "\" in the files beside it; they are of another tokenizer");
    search_.add(token.content, token);
    added_[token.id] = token;
    size_ = std::max<int64_t>(size_, token.id + 1);
  }

  std::optional<int32_t> choose(const std::optional<std::string>& name, const char* role, int in_file) const {
    if (!name) return in_file < 0 ? std::nullopt : std::optional<int32_t>(in_file);
    const std::optional<int32_t> id = id_of(*name);
    require(id.has_value(), path_, ": lacks the token \"", *name, "\", which the files beside it call the ", role);
    return id;
  }

  // How the library decodes a token depends on whether text came before it. The anchor is a token that stands for any
  // such text.
  void find_anchor() {
    for (int id = 0; id < processor_.GetPieceSize(); ++id) {
      if (!is_text(id)) continue;
      anchor_ = id;
      anchor_text_ = decode_in_model({id});
      if (!anchor_text_.empty()) return;
    }
    fail(path_, ": holds no token with text of its own; the model is of no use");
  }

  std::string decode_in_model(const std::vector<int>& ids) const {
    std::string text;
    const auto status = processor_.Decode(ids, &text);
    require(status.ok(), path_, ": SentencePiece cannot decode: ", status.ToString());
    return text;
  }

  std::string path_;
  SentencePieceProcessor processor_;
  SentencePieceSettings settings_;
  bool cut_before_spaces_ = false;
  std::optional<SentencePieceProcessor> without_prefix_;  // the same model; there if it is not legacy
  int64_t size_ = 0;
  AddedTokenSearch search_;
  std::unordered_map<int32_t, AddedToken> added_;  // by the files beside the model
  std::vector<int32_t> before_, behind_;
  int anchor_ = -1;
  std::string anchor_text_;
};

class SentencePieceStreamDecoder : public StreamDecoder {
 public:
  SentencePieceStreamDecoder(const SentencePieceTokenizer& tokenizer, bool skip_special_tokens)
      : tokenizer_(tokenizer), skip_(skip_special_tokens) {}
  size_t held() const override { return bytes_.size(); }

 protected:
  void add(int32_t id) override {
    const bool special = tokenizer_.is_special(id);
    if (special && skip_) return;
    if (special || !tokenizer_.in_model(id)) return add_name(id);
    pending_.push_back(id);
    if (tokenizer_.processor_.IsByte(id)) {
      const std::string piece = tokenizer_.processor_.IdToPiece(id);  // "<0xE2>"
      bytes_.push_back(static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16)));
    } else {
      bytes_.clear();
    }
  }

  void settle() override { decode_pending(); }

  void release(std::string& text) override {
    if (utf8::cut_length(bytes_) == 0) decode_pending();
    text.append(text_);
    text_.clear();
  }

  void release_all(std::string& text) override {
    decode_pending();
    text.append(text_);
    text_.clear();
  }

 private:
  // A token outside the library's text: its name, as it is.
  void add_name(int32_t id) {
    const std::optional<std::string> name = tokenizer_.token_of(id);
    if (!name) return;
    decode_pending();
    pending_.clear();
    text_.append(*name);
    begun_ = true;
  }

  void decode_pending() {
    if (pending_.empty()) return;
    if (begun_) pending_.insert(pending_.begin(), tokenizer_.anchor_);
    const std::string decoded = tokenizer_.decode_in_model(pending_);
    const size_t known = begun_ ? tokenizer_.anchor_text_.size() : 0;
    text_.append(decoded, known);
    bytes_.clear();
    begun_ = begun_ || !decoded.empty();
    // A leading space that was dropped stays pending: the next one is kept because of it.
    if (begun_) pending_.clear();
  }

  const SentencePieceTokenizer& tokenizer_;
  bool skip_;
  bool begun_ = false;        // some text came out
  std::vector<int> pending_;  // not decoded yet
  std::string bytes_;         // the byte tokens at its end
  std::string text_;          // decoded, not released yet
};

std::unique_ptr<StreamDecoder> SentencePieceTokenizer::stream_decoder(DecodeOptions options) const {
  return std::make_unique<SentencePieceStreamDecoder>(*this, options.skip_special_tokens);
}

}  // namespace

std::unique_ptr<Tokenizer> load_sentencepiece_tokenizer(const std::string& path, const SpecialNames& names) {
  return std::make_unique<SentencePieceTokenizer>(path, names);
}

}  // namespace llama_tp
