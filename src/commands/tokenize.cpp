// Text to token ids, or back, by the tokenizer alone.
#include <cstdio>
#include <iostream>
#include <sstream>

#include "base/json.h"
#include "base/parse_count.h"
#include "commands/commands.h"
#include "commands/options.h"
#include "io/checkpoint_files.h"
#include "io/files.h"
#include "io/tokenizer/tokenizer.h"
#include "io/tokenizer/utf8.h"
#include "parallel/launch.h"
#include "report/output.h"

namespace llama_tp {

namespace {

class Tokenizing {
 public:
  explicit Tokenizing(const Options& options) : options_(options), tokenizer_(load_tokenizer(place())) {}

  void run() const {
    if (options_.is_set("jsonl")) {
      each_line([this](const std::string& line) { json_line(line); });
    } else if (options_.given("p")) {
      convert(options_.word("p"));
    } else if (options_.given("f")) {
      located(options_.word("f"), [this] { convert(std::string(utf8::without_mark(read_text(options_.word("f"))))); });
    } else {
      each_line([this](const std::string& line) { convert(line); });
    }
    flush_stdout();
  }

 private:
  // -m: a tokenizer's file or folder, or an output folder of train.
  std::string place() const {
    const std::string given = options_.path("model");
    require(!given.empty(), "tokenize needs -m: a model folder or a tokenizer file");
    return !folder_exists(given) || holds_tokenizer(given) ? given : resolve_model_folder(given);
  }

  // An error in a text begins with where the text stands.
  template <class Work>
  static void located(const std::string& where, Work work) {
    try {
      work();
    } catch (const Error& error) {
      const std::string what = error.what();
      fail(what.starts_with(where) ? "" : where + ": ", what);
    }
  }

  template <class Take>
  void each_line(Take take) const {
    const bool from_file = options_.given("f");
    const std::string name = from_file ? options_.word("f") : "stdin";
    std::istringstream file(from_file ? read_text(name) : "");
    std::istream& lines = from_file ? file : std::cin;
    int64_t number = 0;
    for (std::string line; std::getline(lines, line);) located(text(name, ": line ", ++number), [&] { take(line); });
  }

  std::vector<int32_t> encode(const std::string& text) const {
    return tokenizer_->encode(text, {.add_special_tokens = options_.is_set("add-special-tokens")});
  }
  std::string decode(const std::vector<int32_t>& ids) const {
    return tokenizer_->decode(ids, {.skip_special_tokens = !options_.is_set("special")});
  }

  // One text to ids parted by blanks, or the other way round.
  void convert(const std::string& text) const {
    if (!options_.is_set("decode")) {
      std::string line;
      for (const int32_t id : encode(text)) {
        if (!line.empty()) line.push_back(' ');
        line += std::to_string(id);
      }
      std::printf("%s\n", line.c_str());
      return;
    }
    std::vector<int32_t> ids;
    std::istringstream words(text);
    for (std::string word; words >> word;) ids.push_back(id_from(word));
    const std::string decoded = decode(ids) + "\n";
    std::fwrite(decoded.data(), 1, decoded.size(), stdout);  // it may hold U+0000
  }

  int32_t id_from(const std::string& word) const {
    const std::optional<int64_t> id = parse_count(word, 0, INT32_MAX);
    require(id.has_value(), "tokenize --decode: \"", word, "\" is not a token id");
    return known(static_cast<int32_t>(*id));
  }
  int32_t known(int32_t id) const {
    require(id < tokenizer_->vocabulary_size(), id, " is not a token id of this tokenizer, which has 0 to ",
            tokenizer_->vocabulary_size() - 1, "; take the tokenizer that made the ids");
    return id;
  }

  void json_line(const std::string& line) const {
    const Json value = parse_json_or_discard(line);
    require(!value.is_discarded(), "is not JSON; each line holds one whole value, in UTF-8");
    if (!options_.is_set("decode")) {
      require(value.is_string(), "a line of --jsonl is one JSON string; put the text in double quotes");
      std::printf("%s\n", json_text(Json(encode(value.get<std::string>()))).c_str());
      return;
    }
    std::vector<int32_t> ids;
    require(value.is_array(), "a line of --jsonl --decode is one JSON array of ids");
    for (const Json& id : value) {
      require(id.is_number_unsigned() && id.get<uint64_t>() < (1u << 31), json_text(id), " is not a token id");
      ids.push_back(known(id.get<int32_t>()));
    }
    std::printf("%s\n", json_text(Json(decode(ids))).c_str());
  }

  const Options& options_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

// speaks: of ranks that mpirun started, all look at the options and the tokenizer, and one converts.
int tokenize(const Arguments& arguments, bool speaks) {
  Options options(
      "tokenize",
      "Text to token ids, one list a text; from -p, -f (the whole file is one text) or stdin (one text a line).",
      "./llama_tp tokenize -m Llama-3.1-8B -p \"Once upon a time\"");
  options.value("m,model", "model folder, output folder of train, tokenizer.json or tokenizer.model", "PATH");
  options.value("p", "the text", "TEXT");
  options.value("f", "a file that is one text, but for a byte order mark before it", "FILE");
  options.flag("jsonl", "one JSON string a line in, one JSON array of ids a line out; from stdin or -f");
  options.flag("decode", "the other way round: ids to text");
  options.flag("add-special-tokens", "with what the tokenizer puts around a text, such as BOS");
  options.flag("special", "with --decode: show special tokens");
  if (!options.parse(arguments, speaks)) return 0;
  require(!options.given("p") || (!options.given("f") && !options.is_set("jsonl")),
          "tokenize takes its text from -p alone, or from -f FILE or stdin, with --jsonl or without; leave one out");
  require(options.is_set("decode") ? !options.is_set("add-special-tokens") : !options.is_set("special"),
          "tokenize takes --special with --decode, --add-special-tokens without it");
  const Tokenizing tokenizing(options);
  if (speaks) tokenizing.run();
  return 0;
}

}  // namespace

int tokenize_command(const Arguments& arguments) {
  Launch launch;
  return launch.guard([&] { return tokenize(arguments, launch.rank() == 0); });
}

}  // namespace llama_tp
