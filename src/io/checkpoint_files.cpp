#include "io/checkpoint_files.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "base/error.h"
#include "base/parse_count.h"
#include "io/dataset_cache.h"
#include "io/model_files.h"
#include "io/tokenizer/tokenizer_files.h"

namespace llama_tp {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view checkpoint_prefix = "checkpoint-";
constexpr std::string_view partial_suffix = ".partial";
// An old checkpoint of the same step between two renames, where the file system cannot exchange two folders at once.
constexpr std::string_view replaced_suffix = ".replaced";
constexpr std::string_view marker_text = "{\"program\": \"llama_tp\", \"holds\": \"output of llama_tp train\"}\n";
constexpr int64_t largest_marker = 64 << 10;

std::string partial_path(const std::string& output_folder, int64_t step) {
  return text(checkpoint_path(output_folder, step), partial_suffix);
}

// The step of "checkpoint-STEP" + suffix, and only of that: no sign, no leading zero.
std::optional<int64_t> step_of(std::string_view name, std::string_view suffix = "") {
  if (!name.starts_with(checkpoint_prefix) || !name.ends_with(suffix)) return std::nullopt;
  if (name.size() <= checkpoint_prefix.size() + suffix.size()) return std::nullopt;
  const std::string_view digits =
      name.substr(checkpoint_prefix.size(), name.size() - checkpoint_prefix.size() - suffix.size());
  const std::optional<int64_t> step = parse_count(digits, 0, INT64_MAX);
  return step && std::to_string(*step) == digits ? step : std::nullopt;
}

std::vector<int64_t> steps_in(const std::string& folder) {
  std::vector<int64_t> steps;
  for (const std::string& name : names_in(folder))
    if (const auto step = step_of(name); step && folder_exists(folder + "/" + name)) steps.push_back(*step);
  std::sort(steps.begin(), steps.end());
  return steps;
}

void make_folders(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  require(!error, path, ": cannot make the folder: ", error.message(), "; choose another one, where you may write");
}

void remove_tree(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  require(!error, path, ": cannot remove it: ", error.message());
}

// Brings all that is in a folder to the disk.
void sync_tree(const std::string& folder) {
  for (const std::string& name : names_in(folder)) {
    const std::string path = folder + "/" + name;
    if (folder_exists(path))
      sync_tree(path);
    else
      File::open(path).sync();
  }
  sync_folder(folder);
}

bool is_ours(const std::string& path) {
  const std::string marker = path + "/" + output_marker_name;
  return file_exists(marker) && read_text(marker, largest_marker).find("\"llama_tp\"") != std::string::npos;
}

// True once the two folders have changed places, in one step; false where the file system cannot.
bool exchange(const std::string& a, const std::string& b) {
#ifdef RENAME_EXCHANGE
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
#else
  (void)a, (void)b;
  return false;
#endif
}

// Puts folder `from` in the place of folder `to`. What was at `to` is then at `from` or, renamed, beside it.
void replace(const std::string& from, const std::string& to) {
  if (exchange(from, to)) return;
  const std::string replaced = to + std::string(replaced_suffix);
  remove_tree(replaced);
  rename_path(to, replaced);
  if (std::rename(from.c_str(), to.c_str()) == 0) return;
  const int error = errno;
  rename_path(replaced, to);
  fail(from, ": cannot rename it to ", to, ": ", std::strerror(error));
}

void remove_half_written_data(const std::string& folder) {
  if (!folder_exists(folder)) return;
  for (const std::string& name : names_in(folder))
    if (name.starts_with(dataset_prefix) && name.ends_with(partial_suffix)) remove_tree(folder + "/" + name);
}

// Only names that no finished save has are removed; a replaced checkpoint whose successor never arrived comes back.
void clean_up(const std::string& folder) {
  remove_half_written_data(tokenized_path(folder));
  for (const std::string& name : names_in(folder)) {
    const std::string path = folder + "/" + name;
    if (step_of(name, partial_suffix)) remove_tree(path);
    if (const auto step = step_of(name, replaced_suffix)) {
      if (folder_exists(checkpoint_path(folder, *step)))
        remove_tree(path);
      else
        rename_path(path, checkpoint_path(folder, *step));
    }
  }
}

File claim(const std::string& path) {
  require(!file_exists(path), path, ": is a file; --output-dir needs a folder");
  std::error_code ignored;
  require(folder_exists(path) || !fs::is_symlink(path, ignored), path,
          ": is a link to what is not there; make the folder that it names, or choose another --output-dir");
  make_folders(path);
  const std::string marker_path = path + "/" + output_marker_name;
  const std::vector<std::string> names = names_in(path);
  // A run that was killed at its very start leaves an empty marker.
  const bool is_new = names.empty() || (names.size() == 1 && names[0] == output_marker_name);
  require(is_new || is_ours(path), path, ": is neither empty nor an output folder of llama_tp train (no ",
          output_marker_name, "); nothing in it was touched: choose another --output-dir");
  if (is_new) write_text(marker_path, std::string(marker_text));
  sync_folder(path);
  File marker = File::open(marker_path);
  require(marker.lock(), path, ": another llama_tp train is writing there; wait for it or choose another --output-dir");
  return marker;
}

// Of what is no folder here: "OWNER/NAME", as the Hugging Face hub names a model and a path may look, too. A path that is
// only misspelled at its end begins with a folder that is there.
bool may_be_of_the_hub(const std::string& path) {
  const size_t slash = path.find('/');
  return slash != std::string::npos && slash > 0 && slash + 1 < path.size() && path[0] != '.' &&
         path.find('/', slash + 1) == std::string::npos && !folder_exists(path.substr(0, slash));
}

// The Hugging Face cache keeps the files of each revision of a model in a folder below the model's.
void refuse_above_snapshots(const std::string& path) {
  const std::string snapshots = path + "/snapshots";
  if (!folder_exists(snapshots)) return;
  std::string choice;
  for (const std::string& name : names_in(snapshots)) choice += (choice.empty() ? "" : " or ") + snapshots + "/" + name;
  require(choice.empty(), path, ": is a model's folder in the Hugging Face cache, above its snapshots; give ", choice);
}

// Not through a pipe, which gives its contents once: to the tokenizer.
std::string contents_of(const std::string& path) {
  const File file = File::open(path);
  std::string contents(static_cast<size_t>(file.size()), '\0');
  file.read(contents.data(), std::ssize(contents), 0);
  return contents;
}

}  // namespace

OutputFolder::OutputFolder(const std::string& path) : path_(path), marker_(claim(path)) { clean_up(path_); }

std::vector<int64_t> OutputFolder::checkpoint_steps() const { return steps_in(path_); }

void OutputFolder::keep_newest(int64_t count) const {
  const std::vector<int64_t> steps = checkpoint_steps();
  const int64_t extra = static_cast<int64_t>(steps.size()) - std::max<int64_t>(1, count);
  for (int64_t i = 0; i < extra; i++) {
    const int64_t step = steps[static_cast<size_t>(i)];
    const std::string leaving = partial_path(path_, step);
    remove_tree(leaving);
    rename_path(checkpoint_path(path_, step), leaving);
    sync_folder(path_);
    remove_tree(leaving);
  }
}

std::string checkpoint_path(const std::string& output_folder, int64_t step) {
  return text(output_folder, "/", checkpoint_prefix, step);
}

std::string tokenized_path(const std::string& output_folder) { return output_folder + "/tokenized"; }

PartialCheckpoint::PartialCheckpoint(const std::string& output_folder, int64_t step)
    : output_folder_(output_folder),
      folder_(partial_path(output_folder, step)),
      final_folder_(checkpoint_path(output_folder, step)) {
  remove_tree(folder_);
  make_folders(folder_);
}

void PartialCheckpoint::make_folder(const std::string& name) const { make_folders(folder_ + "/" + name); }

PartialCheckpoint::~PartialCheckpoint() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);  // once published there is none
}

void PartialCheckpoint::publish() {
  sync_tree(folder_);
  if (folder_exists(final_folder_))
    replace(folder_, final_folder_);
  else
    rename_path(folder_, final_folder_);
  sync_folder(output_folder_);
  remove_tree(folder_);  // the old one, where it was exchanged
  remove_tree(final_folder_ + std::string(replaced_suffix));
}

std::optional<int64_t> step_in(const std::string& output_folder, const std::string& folder) {
  std::error_code ignored;
  for (const int64_t step : steps_in(output_folder))
    if (fs::equivalent(folder, checkpoint_path(output_folder, step), ignored)) return step;
  return std::nullopt;
}

std::optional<std::string> newest_checkpoint(const std::string& output_folder) {
  const std::vector<int64_t> steps = steps_in(output_folder);
  if (steps.empty()) return std::nullopt;
  return checkpoint_path(output_folder, steps.back());
}

std::string resolve_model_folder(const std::string& path) {
  const bool exists = folder_exists(path) || file_exists(path);
  require(exists || !may_be_of_the_hub(path), path,
          ": no such folder; a model of the Hugging Face hub is fetched by: hf download ", path, " --local-dir ",
          path.substr(path.find('/') + 1), "; then give that folder");
  require(folder_exists(path), path, ": ", exists ? "is a file" : "no such folder",
          "; give a Hugging Face model folder or an output folder of llama_tp train");
  if (file_exists(path + "/config.json")) return path;
  if (const std::optional<std::string> newest = newest_checkpoint(path)) return *newest;
  require(!is_ours(path), path, ": this output folder of llama_tp train holds no whole checkpoint yet");
  refuse_above_snapshots(path);
  refuse_adapter(path);
  return path;
}

std::vector<CarriedFile> read_carried_files(const std::string& tokenizer, const std::string& model_folder) {
  std::vector<CarriedFile> files;
  for (const std::string& file : tokenizer_files(tokenizer)) {
    const std::string found = file.ends_with(".model") ? "tokenizer.model" : "tokenizer.json";
    files.push_back({file == tokenizer ? found : fs::path(file).filename().string(), contents_of(file)});
  }
  const std::string name = "generation_config.json", file = model_folder + "/" + name;
  if (!model_folder.empty() && file_exists(file)) files.push_back({name, contents_of(file)});
  return files;
}

std::vector<CarriedFile> read_code_files(const std::string& config_file) {
  std::vector<CarriedFile> files;
  const std::string folder = fs::absolute(config_file).parent_path().string();
  for (const std::string& name : names_in(folder))
    if (const std::string path = folder + "/" + name; name.ends_with(".py") && regular_file_exists(path))
      files.push_back({name, contents_of(path)});
  return files;
}

}  // namespace llama_tp
