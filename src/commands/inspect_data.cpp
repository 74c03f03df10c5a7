#include "commands/inspect_data.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "commands/data_options.h"
#include "io/checkpoint_files.h"
#include "io/tokenizer/utf8.h"
#include "model/config.h"
#include "report/format.h"
#include "report/output.h"
#include "train/training_state.h"

namespace llama_tp {

namespace {

// What stands before and behind a stretch of text.
struct Style {
  const char *begin, *end;
};
constexpr Style learned_in_colour{"\x1b[32m", "\x1b[0m"}, masked_in_colour{"\x1b[2m", "\x1b[0m"};
constexpr Style learned_in_marks{"⟦", "⟧"}, masked_in_marks{"", ""};

// With control characters other than the ends of lines and tabs written out, which a terminal would obey: those below
// the space, delete, and U+0080 to U+009F, in UTF-8 a byte 0xC2 and another.
std::string visible(const std::string& text) {
  constexpr unsigned delete_character = 0x7f;
  std::string out;
  for (size_t i = 0; i < text.size(); i++) {
    const unsigned c = static_cast<unsigned char>(text[i]),
                   next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    const bool is_pair = c == 0xC2 && next >= 0x80 && next < 0xA0;
    const bool is_control = is_pair || (c < ' ' && c != '\n' && c != '\t') || c == delete_character;
    std::array<char, 5> code{};
    if (is_control) std::snprintf(code.data(), code.size(), "\\x%02x", is_pair ? next : c);
    out += is_control ? std::string(code.data()) : std::string(1, text[i]);
    if (is_pair) i++;
  }
  return out;
}

// A stretch of text that is learned or masked as a whole begins here.
struct Border {
  size_t at;
  bool learned;
};

// The text of all ids, cut where labels begin or end; inside a character before it.
std::vector<Border> find_borders(const Sample& sequence, const Tokenizer& tokenizer, std::string& text) {
  const std::unique_ptr<StreamDecoder> decoder = tokenizer.stream_decoder({.skip_special_tokens = false});
  std::vector<Border> borders;
  for (size_t i = 0; i < sequence.tokens.size(); i++) {
    const bool learned = i > 0 && sequence.labels[i] != ignored_label;  // nothing predicts the first
    if (borders.empty() || borders.back().learned != learned)
      borders.push_back({text.size() + decoder->held(), learned});
    text += decoder->push(sequence.tokens[i]);
  }
  text += decoder->finish();
  size_t before = 0;
  for (Border& border : borders) {
    border.at = std::clamp(border.at, before, text.size());
    border.at -= utf8::cut_length(std::string_view(text).substr(0, border.at));
    before = border.at;
  }
  return borders;
}

std::string shown(const Sample& sequence, const Tokenizer& tokenizer, bool in_colour) {
  std::string text, line;
  const std::vector<Border> borders = find_borders(sequence, tokenizer, text);
  for (size_t i = 0; i < borders.size(); i++) {
    const Style style = borders[i].learned ? (in_colour ? learned_in_colour : learned_in_marks)
                                           : (in_colour ? masked_in_colour : masked_in_marks);
    const size_t begin = borders[i].at, end = i + 1 < borders.size() ? borders[i + 1].at : text.size();
    line += style.begin + visible(text.substr(begin, end - begin)) + style.end;
  }
  return line;
}

void print_sample(const Dataset& data, int64_t sample, const Tokenizer& tokenizer, bool in_colour) {
  const int64_t first = data.first_sequence(sample), last = data.first_sequence(sample + 1);
  for (int64_t i = first; i < last; i++) {
    const Sample sequence = data.sequence(i);
    const std::string place = last - first > 1 ? text(", sequence ", i - first + 1, " of ", last - first) : "";
    std::printf("sample %lld%s: %s, of which %s learned\n%s\n\n", static_cast<long long>(sample) + 1, place.c_str(),
                counted(static_cast<int64_t>(sequence.tokens.size()), "token").c_str(),
                with_commas(count_targets(sequence)).c_str(), shown(sequence, tokenizer, in_colour).c_str());
  }
}

void print_sums(const std::string& file, const Dataset& data) {
  const auto tokens = static_cast<int64_t>(data.tokens.size()), learned = count_targets(data);
  std::printf("%s: %s of %s, %s, of which %s (%s%%) are learned", file.c_str(),
              counted(data.samples(), "sample").c_str(), counted(data.sequences(), "sequence").c_str(),
              counted(tokens, "token").c_str(), with_commas(learned).c_str(),
              fixed(100.0 * static_cast<double>(learned) / static_cast<double>(tokens), 1).c_str());
  if (data.cut_samples > 0)
    std::printf("; %s lost %s beyond --block-size", counted(data.cut_samples, "sequence").c_str(),
                counted(data.cut_tokens, "token").c_str());
  std::printf("\n");
}

}  // namespace

void declare_inspect_data(Options& options) {
  options.value("data", "a data file of train, to see what of it is learned and what is masked", "FILE");
  options.value("tokenizer", "folder or file of the tokenizer (default: the model's)", "PATH");
  options.value("samples", "how many to show; 0: all", "N", "3");
  options.value("block-size", "the most tokens of a sample", "N", "1024");
  declare_reading(options);
}

void inspect_data(const Options& options, bool in_colour) {
  options.refuse({"infer", "json", "config", "tensor-parallel", "rank"}, " is not for --data; leave one of them out");
  const std::string folder = options.given("model") ? resolve_model_folder(options.path("model")) : "";
  const std::string place = options.given("tokenizer") ? options.path("tokenizer") : folder;
  require(!place.empty(), "inspect --data needs -m DIR, or --tokenizer PATH");
  DataTokenizerOptions reading = data_options(options);
  if (!folder.empty()) reading.date = saved_date(folder);
  const bool has_config = !folder.empty() && file_exists(folder + "/config.json");
  ModelConfig config;
  if (has_config) config = read_config_without_plan(folder + "/config.json", read_family_file(options.word("family")));
  reading.chat_template = reading.chat_template.or_else(config.chat_template);
  const DataTokenizer tokenizer(place, reading);
  if (!has_config) config.vocabulary = tokenizer.tokenizer().vocabulary_size();
  const Dataset data =
      read_dataset(options.word("data"),
                   with_reading(options, tokenizer.dataset_options(options.integer("block-size", 2), config.vocabulary,
                                                                   config.eos_ids, folder)));
  const int64_t wanted = options.integer("samples", 0);
  const int64_t count = wanted == 0 ? data.samples() : std::min(wanted, data.samples());
  for (int64_t i = 0; i < count; i++) print_sample(data, i, tokenizer.tokenizer(), in_colour);
  print_sums(options.word("data"), data);
  flush_stdout();
}

}  // namespace llama_tp
