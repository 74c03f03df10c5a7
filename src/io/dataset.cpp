#include "io/dataset.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/error.h"
#include "base/fingerprint.h"
#include "io/files.h"
#include "io/json_lines.h"
#include "io/lines.h"
#include "io/pack_sequences.h"
#include "io/tokenizer/utf8.h"

namespace llama_tp {

namespace {

using Kind = JsonLine::Kind;

// Documents differ in length: small shares keep the threads busy to the end.
constexpr int lines_a_share = 16;
// Room beyond what the first lines predict; memory that is reserved and never touched costs nothing.
constexpr double reserve_margin = 1.1;

// Parses all lines on all threads. The error, if any, is the first bad line's.
std::vector<JsonLine> parse_lines(const std::string& path, const std::vector<Line>& lines,
                                  const DatasetOptions& options) {
  std::vector<JsonLine> parsed(lines.size());
  std::vector<std::exception_ptr> errors(lines.size());
#pragma omp parallel for schedule(dynamic, lines_a_share)
  for (size_t i = 0; i < lines.size(); i++) {
    try {
      parsed[i] = parse_json_line(lines[i].text, options);
    } catch (...) {
      errors[i] = std::current_exception();
    }
  }
  const auto bad = std::find_if(errors.begin(), errors.end(), [](const auto& error) { return error != nullptr; });
  if (bad == errors.end()) return parsed;
  try {
    std::rethrow_exception(*bad);
  } catch (const Error& error) {
    fail(path, ": line ", lines[static_cast<size_t>(bad - errors.begin())].number, ": ", error.what());
  }
}

void add_document(Dataset& data, const std::vector<int32_t>& tokens, const DatasetOptions& options) {
  if (tokens.empty()) return;
  std::vector<int32_t>& all = data.tokens.own();
  all.insert(all.end(), tokens.begin(), tokens.end());
  if (options.eos) all.push_back(*options.eos);
  data.documents++;
}

void add_sequence(Dataset& data, const JsonLine& line, int64_t block_size) {
  const auto size = static_cast<int64_t>(line.tokens.size()), kept = std::min(size, block_size);
  // The first line with labels makes the array; before it, each token was its own.
  if (!line.labels.empty() && data.labels.empty()) data.labels = data.tokens;
  const bool has_labels = !line.labels.empty() || !data.labels.empty();
  const std::vector<int32_t>& labels = line.labels.empty() ? line.tokens : line.labels;
  std::vector<int32_t>&all_tokens = data.tokens.own(), &all_labels = data.labels.own();
  all_tokens.insert(all_tokens.end(), line.tokens.begin(), line.tokens.begin() + kept);
  if (has_labels) all_labels.insert(all_labels.end(), labels.begin(), labels.begin() + kept);
  data.starts.own().push_back(static_cast<int64_t>(data.tokens.size()));
  data.cut_samples += kept < size;
  data.cut_tokens += size - kept;
}

Dataset read_json_lines(const std::string& path, const DatasetOptions& options) {
  Dataset data;
  LineReader reader(path);
  Kind kind = Kind::blank;  // of the first line that is not blank
  for (std::vector<Line> lines = reader.next(); !lines.empty(); lines = reader.next()) {
    const bool first_batch = data.tokens.empty();
    std::vector<JsonLine> parsed = parse_lines(path, lines, options);
    for (size_t i = 0; i < lines.size(); i++) {
      if (parsed[i].kind == Kind::blank) continue;
      if (kind == Kind::blank) kind = parsed[i].kind;
      require(parsed[i].kind == kind, path, ": line ", lines[i].number, ": has ", name_of(parsed[i].kind),
              " where the lines before have ", name_of(kind), "; keep the two in files of their own");
      if (kind == Kind::text)
        add_document(data, parsed[i].tokens, options);
      else
        add_sequence(data, parsed[i], options.block_size);
    }
    if (first_batch) {
      const double batches = static_cast<double>(reader.file_bytes()) / static_cast<double>(reader.bytes_done());
      const auto room = static_cast<size_t>(static_cast<double>(data.tokens.size()) * batches * reserve_margin);
      data.tokens.own().reserve(room);
      if (!data.labels.empty()) data.labels.own().reserve(room);
    }
  }
  data.packed = kind == Kind::text;
  return data;
}

Dataset read_text_file(const std::string& path, const DatasetOptions& options) {
  Dataset data;
  data.packed = true;
  const std::string contents = read_text(path);
  if (const size_t bad = utf8::first_invalid(contents); bad < contents.size()) {
    const std::string_view before(contents.data(), bad);
    const size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
    fail(path, ": line ", std::count(before.begin(), before.end(), '\n') + 1, ": byte ", bad - line_begin + 1,
         " is not UTF-8; convert the file to UTF-8");
  }
  try {
    data.tokens = tokenize_document(utf8::without_mark(contents), options);
  } catch (const Error& error) {
    fail(path, ": ", error.what());
  }
  if (data.tokens.empty()) return data;
  if (options.eos) data.tokens.own().push_back(*options.eos);
  data.documents = 1;
  return data;
}

void cut(Dataset& data, int64_t block_size) {
  const auto size = static_cast<int64_t>(data.tokens.size());
  for (int64_t end = 0; end < size;) data.starts.own().push_back(end += std::min(block_size, size - end));
}

}  // namespace

void Dataset::set_numbers(std::span<const int64_t> numbers) {
  packed = numbers[0] != 0;
  documents = numbers[1];
  cut_samples = numbers[2];
  cut_tokens = numbers[3];
}

int64_t Dataset::longest_sample() const {
  int64_t longest = 0;
  for (int64_t i = 0; i < samples(); i++) longest = std::max(longest, static_cast<int64_t>(sample(i).tokens.size()));
  return longest;
}

int64_t Dataset::most_sequences() const {
  int64_t most = 1;
  for (int64_t i = 0; i < samples(); i++) most = std::max(most, first_sequence(i + 1) - first_sequence(i));
  return most;
}

Sample Dataset::between(int64_t first_sequence, int64_t last_sequence) const {
  const auto begin = static_cast<size_t>(starts[static_cast<size_t>(first_sequence)]);
  const auto size = static_cast<size_t>(starts[static_cast<size_t>(last_sequence)]) - begin;
  return {std::span(tokens).subspan(begin, size), std::span(labels.empty() ? tokens : labels).subspan(begin, size)};
}

Sample Dataset::sequence(int64_t index) const { return between(index, index + 1); }
Sample Dataset::sample(int64_t index) const { return between(first_sequence(index), first_sequence(index + 1)); }

Dataset read_dataset(const std::string& path, const DatasetOptions& options) {
  require(options.block_size >= 2, "--block-size ", options.block_size, " leaves nothing to predict; at least 2");
  require(!options.eos || (*options.eos >= 0 && *options.eos < options.vocabulary), "the EOS id ",
          options.eos.value_or(0), " is outside of the vocabulary of ", options.vocabulary,
          "; correct the eos_token of tokenizer_config.json beside the tokenizer");
  const bool is_text = path.ends_with(".txt");
  require(is_text || path.ends_with(".jsonl"), path, ": is not a data file by its name; .txt and .jsonl are read");
  require(File::open(path).size() > 0, path, ": is empty");
  Dataset data = is_text ? read_text_file(path, options) : read_json_lines(path, options);
  if (data.packed)
    cut(data, options.block_size);
  else if (options.packing)
    pack_sequences(data, options.block_size);
  bool something_to_predict = false;
  for (int64_t i = 0; i < data.samples() && !something_to_predict; i++)
    something_to_predict = count_targets(data, i) > 0;
  require(something_to_predict, path, ": holds ", data.tokens.size(), " tokens in ", data.samples(),
          " samples and none to predict; a sample needs two tokens and a second label that is not ", ignored_label);
  return data;
}

uint64_t fingerprint_of(const Dataset& data) {
  uint64_t hash = 0;
  each_array(data, [&](const char*, const auto& values) { hash = data_fingerprint(std::span(values), hash); });
  return hash;
}

void shifted_targets(const Sample& sample, std::span<int32_t> targets) {
  require(targets.size() == sample.labels.size() && !targets.empty(), "a sample of ", sample.labels.size(),
          " tokens has as many targets, not ", targets.size());
  std::copy(sample.labels.begin() + 1, sample.labels.end(), targets.begin());
  targets.back() = ignored_label;
}

int64_t count_targets(const Sample& sequence) {
  if (sequence.labels.empty()) return 0;
  return std::count_if(sequence.labels.begin() + 1, sequence.labels.end(),
                       [](int32_t label) { return label != ignored_label; });
}

int64_t count_targets(const Dataset& data, int64_t sample) {
  int64_t count = 0;
  for (int64_t i = data.first_sequence(sample); i < data.first_sequence(sample + 1); i++)
    count += count_targets(data.sequence(i));
  return count;
}

int64_t count_targets(const Dataset& data) {
  int64_t count = 0;
  for (int64_t i = 0; i < data.samples(); i++) count += count_targets(data, i);
  return count;
}

}  // namespace llama_tp
