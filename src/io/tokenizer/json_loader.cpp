#include "io/tokenizer/json_loader.h"

#include <vector>

#include "base/error.h"
#include "base/json.h"

namespace llama_tp {

using nlohmann::json;

namespace {

// Merges as written, until the vocabulary is complete: left and right one behind the other in one string.
struct WrittenMerges {
  struct Lengths {
    uint32_t left, right;
  };
  std::string characters;
  std::vector<Lengths> lengths;
};

// Receives the parser's events. Where it stands is told by the containers around it: `depth_` counts them, and
// `table_` names the large table that it is in, if any.
class Receiver : public json::json_sax_t {
 public:
  Receiver(TokenizerFile& file, WrittenMerges& merges, const std::string& path)
      : file_(file), merges_(merges), path_(path) {}

  bool null() override { return scalar(json()); }
  bool boolean(bool value) override { return scalar(json(value)); }
  bool number_integer(number_integer_t value) override {
    if (in_vocabulary()) refuse_id(text(value));
    return scalar(json(value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    return in_vocabulary() ? add_token(value) : scalar(json(value));
  }
  bool number_float(number_float_t value, const string_t& written) override {
    if (in_vocabulary()) refuse_id(written);
    return scalar(json(value));
  }
  bool binary(binary_t&) override { return true; }  // JSON text has none
  bool string(string_t& value) override {
    if (table_ == Table::merges) return merge_text(value);
    if (in_vocabulary()) refuse_id("a string");
    return scalar(json(std::move(value)));
  }

  bool key(string_t& value) override {
    key_ = std::move(value);
    return true;
  }

  bool start_object(std::size_t) override {
    if (in_vocabulary()) refuse_id("an object");
    if (table_ == Table::merges) refuse_merge();
    if (table_ == Table::none && at_model_key("vocab")) return enter(Table::vocabulary), file_.has_vocabulary = true;
    return open(json::object());
  }
  bool start_array(std::size_t) override {
    if (in_vocabulary()) refuse_id("a list");
    if (table_ == Table::merges) return start_pair();
    if (table_ == Table::none && at_model_key("merges")) return enter(Table::merges), file_.has_merges = true;
    if (table_ == Table::none && at_model_key("vocab")) return enter(Table::skipped);  // of another kind of model
    return open(json::array());
  }
  bool end_object() override { return close(); }
  bool end_array() override {
    if (table_ == Table::merges && depth_ == table_depth_ + 1) end_pair();
    return close();
  }

  bool parse_error(std::size_t position, const std::string&, const json::exception&) override {
    fail(path_, ": not valid JSON at byte ", position, "; the file is cut or damaged, fetch it again");
  }

 private:
  enum class Table { none, vocabulary, merges, skipped };

  bool in_vocabulary() const { return table_ == Table::vocabulary; }

  // Directly inside the object "model" of the outermost object, at this key.
  bool at_model_key(std::string_view key) const { return open_.size() == 2 && in_model_ && key_ == key; }

  bool enter(Table table) {
    table_ = table;
    table_depth_ = ++depth_;
    return true;
  }

  bool open(json container) {
    ++depth_;
    if (table_ == Table::skipped) return true;
    if (open_.size() == 1) in_model_ = key_ == "model";
    open_.push_back(&place(std::move(container)));
    return true;
  }

  bool close() {
    if (table_ == Table::none) open_.pop_back();
    if (depth_ == table_depth_) table_ = Table::none, table_depth_ = 0;
    --depth_;
    return true;
  }

  bool scalar(json value) {
    if (in_vocabulary()) refuse_id(value.type_name());
    if (table_ == Table::merges) refuse_merge();
    if (table_ == Table::none) place(std::move(value));
    return true;
  }

  json& place(json value) {
    if (open_.empty()) return *file_.rest = std::move(value);
    json& parent = *open_.back();
    if (parent.is_array()) return parent.emplace_back(std::move(value));
    return parent[key_] = std::move(value);
  }

  bool add_token(uint64_t id) {
    if (id > static_cast<uint64_t>(Vocabulary::highest_id)) refuse_id(text(id));
    const auto token = static_cast<int32_t>(id);
    switch (file_.vocabulary.add(key_, token)) {
      case Vocabulary::Added::yes:
        return true;
      case Vocabulary::Added::name_taken:
        fail(path_, ": model.vocab: \"", key_, "\" comes twice; the file is damaged, fetch it again");
      case Vocabulary::Added::id_taken:
        fail(path_, ": model.vocab: id ", id, " belongs to \"", file_.vocabulary.name(token), "\" and to \"", key_,
             "\"; ids must differ");
    }
    return false;
  }

  [[noreturn]] void refuse_id(std::string_view found) const {
    fail(path_, ": model.vocab: the id of \"", key_, "\" is ", found, "; it must be an integer from 0 to ",
         Vocabulary::highest_id);
  }
  [[noreturn]] void refuse_merge() const {
    fail(path_, ": model.merges[", merges_.lengths.size(), "]: must be \"left right\" or [\"left\", \"right\"]");
  }

  // "left right", or one half of a pair.
  bool merge_text(const std::string& value) {
    if (depth_ == table_depth_ + 1) {
      if (halves_ < 2) half_length_[halves_] = static_cast<uint32_t>(value.size());
      ++halves_;
      merges_.characters.append(value);
      return true;
    }
    const size_t space = value.find(' ');
    if (space == std::string::npos || value.find(' ', space + 1) != std::string::npos) refuse_merge();
    merges_.characters.append(value, 0, space).append(value, space + 1);
    merges_.lengths.push_back({static_cast<uint32_t>(space), static_cast<uint32_t>(value.size() - space - 1)});
    return true;
  }
  bool start_pair() {
    if (depth_ != table_depth_) refuse_merge();
    ++depth_;
    halves_ = 0;
    return true;
  }
  void end_pair() {
    if (halves_ != 2) refuse_merge();
    merges_.lengths.push_back({half_length_[0], half_length_[1]});
  }

  TokenizerFile& file_;
  WrittenMerges& merges_;
  const std::string& path_;
  std::vector<json*> open_;  // the containers of the tree around this place; a child may move, its parents do not
  std::string key_;
  bool in_model_ = false;
  Table table_ = Table::none;
  int64_t depth_ = 0, table_depth_ = 0;
  uint32_t half_length_[2] = {0, 0};
  int halves_ = 0;
};

void resolve_merges(const WrittenMerges& written, const std::string& path, TokenizerFile& file) {
  file.merges = MergeTable(written.lengths.size());
  const auto id_of = [&](std::string_view name, size_t rank, std::string_view role) {
    const int32_t id = file.vocabulary.find(name);
    require(id != no_token, path, ": model.merges[", rank, "]: ", role, " \"", name,
            "\" is not in model.vocab; vocabulary and merges must be of one tokenizer");
    return id;
  };
  std::string_view rest = written.characters;
  for (size_t rank = 0; rank < written.lengths.size(); ++rank) {
    const auto [left, right] = written.lengths[rank];
    const int32_t left_id = id_of(rest.substr(0, left), rank, "the left part");
    const int32_t right_id = id_of(rest.substr(left, right), rank, "the right part");
    const int32_t result = id_of(rest.substr(0, left + right), rank, "the result");
    file.merges.set(left_id, right_id, {static_cast<uint32_t>(rank), result});
    rest.remove_prefix(left + right);
  }
}

}  // namespace

TokenizerFile parse_tokenizer_file(std::string_view bytes, const std::string& path) {
  TokenizerFile file;
  file.rest = std::make_unique<json>();
  WrittenMerges merges;
  Receiver receiver(file, merges, path);
  parse_json_events(bytes, receiver);
  require(file.rest->is_object(), path, ": holds JSON of type ", file.rest->type_name(),
          "; a tokenizer.json is an object");
  // Of another kind of model where one is missing; whoever reads the rest says so.
  if (file.has_vocabulary && file.has_merges) resolve_merges(merges, path, file);
  return file;
}

}  // namespace llama_tp
