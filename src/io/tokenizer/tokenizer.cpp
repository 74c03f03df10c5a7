#include "io/tokenizer/tokenizer.h"

#include "base/error.h"
#include "io/files.h"
#include "io/tokenizer/loaders.h"
#include "io/tokenizer/tokenizer_files.h"
#include "io/tokenizer/utf8.h"

namespace llama_tp {

namespace fs = std::filesystem;

namespace {

void require_id(int32_t id) { require(id >= 0, "token id ", id, " is negative; ids count from 0"); }

// The tokenizer's own file of a folder, or none.
std::optional<fs::path> file_in(const fs::path& folder) {
  for (const char* name : own_tokenizer_names)
    if (file_exists((folder / name).string())) return folder / name;
  return std::nullopt;
}

fs::path find_file(const fs::path& path) {
  if (!folder_exists(path.string())) {
    require(file_exists(path.string()), path.string(),
            ": no such file or folder; give a folder with tokenizer.json or ",
            "tokenizer.model, or one of these files");
    return path;
  }
  if (const std::optional<fs::path> file = file_in(path)) return *file;
  fail(path.string(), ": holds neither tokenizer.json nor tokenizer.model; put the model's tokenizer there, or name ",
       "another folder");
}

}  // namespace

bool holds_tokenizer(const std::string& folder) { return !folder.empty() && file_in(folder).has_value(); }

std::string StreamDecoder::push(int32_t id) {
  require_id(id);
  std::string text;
  add(id);
  release(text);
  return text;
}

std::string StreamDecoder::push_prompt(std::span<const int32_t> ids) {
  std::string text;
  for (const int32_t id : ids) text += push(id);
  settle();
  release(text);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  release_all(text);
  return text;
}

void check_ids(std::span<const int32_t> ids, int64_t vocabulary) {
  for (const int32_t id : ids)
    require(id >= 0 && id < vocabulary, "the tokenizer gives id ", id, ", but the model has ids 0 to ", vocabulary - 1,
            "; leave out what was added to the tokenizer and not to the model");
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  const size_t bad = utf8::first_invalid(text);
  require(bad == text.size(), "text to tokenize: not UTF-8 at byte ", bad,
          "; convert it, for example with iconv -t UTF-8");
  std::vector<int32_t> ids;
  encode_valid(text, options, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, DecodeOptions options) const {
  const std::unique_ptr<StreamDecoder> stream = stream_decoder(options);
  for (int32_t id : ids) {
    require_id(id);
    stream->add(id);
  }
  return stream->finish();
}

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& path) {
  const fs::path file = find_file(path);
  const SpecialNames names = read_special_names(folder_beside(file.string()));
  if (file.extension() == ".json") return load_json_tokenizer(file.string(), names);
  if (file.extension() == ".model") return load_sentencepiece_tokenizer(file.string(), names);
  fail(file.string(),
       ": is neither a tokenizer.json nor a tokenizer.model by its name; it must end in .json or .model");
}

}  // namespace llama_tp
