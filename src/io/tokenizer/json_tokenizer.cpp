// tokenizer.json: added tokens are found, the text between them is normalized, cut into words and encoded by BPE.
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "base/error.h"
#include "io/files.h"
#include "io/tokenizer/bpe.h"
#include "io/tokenizer/decoder.h"
#include "io/tokenizer/json_loader.h"
#include "io/tokenizer/loaders.h"
#include "io/tokenizer/normalizer.h"
#include "io/tokenizer/post_processor.h"
#include "io/tokenizer/pre_tokenizer.h"
#include "io/tokenizer/refuse_type.h"
#include "io/tokenizer/workspace_pool.h"

namespace llama_tp {

namespace {

Bpe read_model(TokenizerFile& file, const JsonPart& root, bool spell_bytes) {
  const JsonPart model = root.at("model");
  if (model.is_null()) root.refuse("\"model\" is missing; the file is cut, or is no tokenizer.json");
  if (model.text("type", "BPE") != "BPE") refuse_type(model, "BPE");
  if (!file.has_vocabulary || !file.has_merges) {
    model.refuse("a BPE model needs \"vocab\", an object, and \"merges\", a list; one of them is missing");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (model.has(key) && !model.text(key).empty()) model.refuse(text(key, " is not supported; it must be null"));
  }
  if (model.has("dropout") && !model.is_zero("dropout")) {
    model.refuse("dropout makes ids random; set it to null");
  }
  BpeOptions options{.fuse_unknown = model.flag("fuse_unk", false),
                     .byte_fallback = model.flag("byte_fallback", false),
                     .ignore_merges = model.flag("ignore_merges", false),
                     .spell_bytes = spell_bytes};
  if (model.has("unk_token")) {
    const std::string name = model.text("unk_token");
    options.unknown = file.vocabulary.find(name);
    if (options.unknown == no_token) {
      model.refuse(text("unk_token \"", name, "\" is not in the vocabulary; add it, or set it to null"));
    }
  }
  return Bpe(std::move(file.vocabulary), std::move(file.merges), options);
}

class JsonTokenizer : public Tokenizer {
 public:
  JsonTokenizer(TokenizerFile file, const JsonPart& root, const SpecialNames& names)
      : normalizer_(root.at("normalizer")),
        pre_tokenizer_(root.at("pre_tokenizer")),
        bpe_(read_model(file, root, pre_tokenizer_.ends_in_letters())),
        decoder_(root.at("decoder")),
        frame_(read_post_processor(root.at("post_processor"))),
        size_(bpe_.vocabulary().size()) {
    if (pre_tokenizer_.needed_start() > normalizer_.known_start()) {
      root.at("pre_tokenizer")
          .refuse(
              "Metaspace with prepend_scheme \"first\" is not supported behind a normalizer that moves the start of "
              "what it is given; set prepend_scheme to always or never, or leave that normalizer out");
    }
    if (root.has("added_tokens")) {
      for (const JsonPart& component : root.list("added_tokens")) {
        add_token(AddedToken::read(component), component.where());
      }
    }
    add_tokens_beside(root, names);
    // Of two with one normalized name the lower id is found, as in Hugging Face's library.
    for (auto added = added_.rbegin(); added != added_.rend(); ++added) look_for(added->second);
    for (const std::vector<int32_t>& side : {frame_.before, frame_.behind}) {
      for (int32_t id : side) {
        if (!token_of(id)) root.at("post_processor").refuse(text("adds id ", id, ", which no token has"));
      }
    }
    if (!bos_ && !frame_.before.empty()) bos_ = frame_.before.front();
    if (!eos_ && !frame_.behind.empty()) eos_ = frame_.behind.back();
  }

  std::unique_ptr<StreamDecoder> stream_decoder(DecodeOptions options) const override;

  int64_t vocabulary_size() const override { return size_; }
  int64_t needed_rows() const override { return bpe_.vocabulary().size(); }

  std::optional<int32_t> id_of(std::string_view token) const override {
    const auto added = added_ids_.find(std::string(token));
    if (added != added_ids_.end()) return added->second;
    const int32_t id = bpe_.vocabulary().find(token);
    return id == no_token ? std::nullopt : std::optional(id);
  }

  std::optional<std::string> token_of(int32_t id) const override {
    const auto added = added_.find(id);
    if (added != added_.end()) return added->second.content;
    if (!bpe_.vocabulary().contains(id)) return std::nullopt;
    return std::string(bpe_.vocabulary().name(id));
  }

  bool is_special(int32_t id) const override {
    const auto added = added_.find(id);
    return added != added_.end() && added->second.special;
  }

  // The name that decoding begins from; empty for an id without a token.
  std::string_view name_for_decoding(int32_t id) const {
    const auto added = names_found_.find(id);
    if (added != names_found_.end()) return added->second;
    return bpe_.vocabulary().contains(id) ? bpe_.vocabulary().name(id) : std::string_view();
  }

  const Decoder& decoder() const { return decoder_; }

 protected:
  void encode_valid(std::string_view text, EncodeOptions options, std::vector<int32_t>& ids) const override;

 private:
  struct Workspace {
    PreTokenizer::Workspace pre_tokenizer;
    Bpe::Workspace bpe;
  };

  // Encodes the words of the pre-tokenizer as they come.
  struct WordSink : PieceSink {
    WordSink(const Bpe& model, Bpe::Workspace& space, std::vector<int32_t>& out)
        : bpe(model), workspace(space), ids(out) {}
    void take(std::string_view word) override { bpe.encode(word, workspace, ids); }
    const Bpe& bpe;
    Bpe::Workspace& workspace;
    std::vector<int32_t>& ids;
  };

  // The library numbers a token that its vocabulary lacks by its place, whatever id the file says.
  int32_t next_id() const { return bpe_.vocabulary().count() + outside_vocabulary_; }

  bool is_added(const std::string& content) const { return added_ids_.contains(content); }

  // A token that is there already gets the new flags.
  void add_token(const AddedToken& token, const std::string& where) {
    if (token.content.empty()) return;
    constexpr const char* unique = "; ids and names must be unique";
    const std::optional<int32_t> known = id_of(token.content);
    require(!known || *known == token.id, where, ": \"", token.content, "\" is already that of id ", known.value_or(0),
            unique);
    const std::optional<std::string> name = token_of(token.id);
    require(!name || *name == token.content, where, ": id ", token.id, " is already that of \"", name.value_or(""), '"',
            unique);
    require(known || token.id == next_id(), where, ": \"", token.content, "\" has id ", token.id,
            ", but is not in model.vocab, and Hugging Face's library gives it the next free id, ", next_id(),
            "; write that, or add it to the vocabulary");
    if (!known) ++outside_vocabulary_;
    added_ids_[token.content] = token.id;
    added_[token.id] = token;
    size_ = std::max<int64_t>(size_, token.id + 1);
  }

  // What AutoTokenizer adds to tokenizer.json.
  void add_tokens_beside(const JsonPart& root, const SpecialNames& names) {
    for (AddedToken token : names.added) {
      if (is_added(token.content) && !names.added_overrules) continue;
      token.id = id_of(token.content).value_or(token.id);
      add_token(token, names.added_file);
    }
    bos_ = named(root, names.bos, "bos_token");
    eos_ = named(root, names.eos, "eos_token");
    for (const std::vector<AddedToken>* tokens : {&names.roles, &names.further}) {
      for (AddedToken token : *tokens) {
        if (is_added(token.content)) continue;
        token.id = id_of(token.content).value_or(next_id());
        add_token(token, root.where());
      }
    }
    for (const AddedToken& role : names.roles) {
      if (is_added(role.content)) added_.at(added_ids_.at(role.content)).special = true;
    }
  }

  std::optional<int32_t> named(const JsonPart& root, const std::optional<std::string>& name, const char* role) const {
    if (!name) return std::nullopt;
    const std::optional<int32_t> id = id_of(*name);
    if (!id) root.refuse(text("lacks the token \"", *name, "\", which the files beside it call the ", role));
    return id;
  }

  void look_for(const AddedToken& token) {
    std::string name = token.content;
    if (token.normalized) {
      Regex::Workspace workspace;
      name = normalizer_.normalize(name, workspace);
    }
    (token.normalized ? in_normalized_ : in_text_).add(name, token);
    names_found_[token.id] = std::move(name);
  }

  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  Bpe bpe_;
  Decoder decoder_;
  SpecialFrame frame_;
  int64_t size_;
  int32_t outside_vocabulary_ = 0;  // added tokens that the vocabulary lacks
  AddedTokenSearch in_text_, in_normalized_;
  std::unordered_map<std::string, int32_t> added_ids_;
  std::map<int32_t, AddedToken> added_;
  std::unordered_map<int32_t, std::string> names_found_;  // what is looked for in the text, and decoded again
  mutable WorkspacePool<Workspace> workspaces_;
};

void JsonTokenizer::encode_valid(std::string_view text, EncodeOptions options, std::vector<int32_t>& ids) const {
  const WorkspacePool<Workspace>::Lease lease(workspaces_);
  Workspace& workspace = *lease;
  WordSink sink(bpe_, workspace.bpe, ids);
  const auto encode_normalized = [&](std::string_view normalized, bool at_start) {
    in_normalized_.for_each_part(normalized, options.parse_special_tokens,
                                 [&](std::string_view part, int32_t id, size_t offset) {
                                   if (id != no_token) return ids.push_back(id);
                                   pre_tokenizer_.run({part, at_start && offset == 0}, workspace.pre_tokenizer, sink);
                                 });
  };
  if (options.add_special_tokens) ids = frame_.before;
  in_text_.for_each_part(text, options.parse_special_tokens, [&](std::string_view part, int32_t id, size_t offset) {
    if (id != no_token) return ids.push_back(id);
    if (normalizer_.is_identity()) return encode_normalized(part, offset == 0);
    encode_normalized(normalizer_.normalize(part, workspace.pre_tokenizer.regex), offset == 0);
  });
  if (options.add_special_tokens) ids.insert(ids.end(), frame_.behind.begin(), frame_.behind.end());
}

class JsonStreamDecoder : public StreamDecoder {
 public:
  JsonStreamDecoder(const JsonTokenizer& tokenizer, bool skip_special_tokens)
      : tokenizer_(tokenizer), skip_(skip_special_tokens), chain_(tokenizer.decoder().chain(text_)) {}
  size_t held() const override { return chain_->held(); }

 protected:
  void add(int32_t id) override {
    if (skip_ && tokenizer_.is_special(id)) return;
    const std::string_view name = tokenizer_.name_for_decoding(id);
    if (!name.empty()) chain_->take(name);
  }
  void settle() override { chain_->settle(); }
  void release(std::string& text) override {
    text.append(text_);
    text_.clear();
  }
  void release_all(std::string& text) override {
    chain_->finish();
    release(text);
  }

 private:
  const JsonTokenizer& tokenizer_;
  bool skip_;
  std::string text_;  // what came out at the chain's end
  std::unique_ptr<DecoderStage> chain_;
};

std::unique_ptr<StreamDecoder> JsonTokenizer::stream_decoder(DecodeOptions options) const {
  return std::make_unique<JsonStreamDecoder>(*this, options.skip_special_tokens);
}

}  // namespace

std::unique_ptr<Tokenizer> load_json_tokenizer(const std::string& path, const SpecialNames& names) {
  TokenizerFile file = parse_tokenizer_file(read_text(path), path);
  const std::unique_ptr<nlohmann::json> rest = std::move(file.rest);
  const JsonPart root = JsonPart::of_file(*rest, path);
  const std::string version = root.text("version", "1.0");
  require(version == "1.0", path, ": version \"", version, "\" is not known; this program reads version 1.0");
  return std::make_unique<JsonTokenizer>(std::move(file), root, names);
}

}  // namespace llama_tp
