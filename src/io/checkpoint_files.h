// The output folder of a training run and the checkpoints in it. A save is written to checkpoint-STEP.partial, brought
// to the disk and renamed to checkpoint-STEP, and one that goes is first named so again: whole or absent, whatever is
// killed and whenever. A folder is a run's own if it was absent or empty when the run began, or holds the marker
// llama_tp.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/files.h"

namespace llama_tp {

inline const std::string output_marker_name = "llama_tp.json";

// Holds an output folder for one run; rank 0 makes one and keeps it until the end.
class OutputFolder {
 public:
  // Makes the folder where it is absent, marks it as this program's, removes what killed runs left half-written.
  // Errors: a folder that is not empty and not this program's, another run that is using it, not writable, a full disk.
  explicit OutputFolder(const std::string& path);

  const std::string& path() const { return path_; }
  // Steps of the whole checkpoints that are there, ascending.
  std::vector<int64_t> checkpoint_steps() const;
  // Removes the oldest whole checkpoints until `count` are left, 1 or more. A removal that is cut short leaves nothing
  // that passes for a checkpoint.
  void keep_newest(int64_t count) const;

 private:
  std::string path_;
  File marker_;  // locked, so that a second run into the same folder is refused
};

std::string checkpoint_path(const std::string& output_folder, int64_t step);
// Where a run keeps its tokenized data (io/dataset_cache.h).
std::string tokenized_path(const std::string& output_folder);

// A checkpoint being written, in a folder of its own until it is whole. One rank makes it before any rank writes into
// folder(), and publishes after all have.
class PartialCheckpoint {
 public:
  // Makes the empty folder. Errors: no room, not writable.
  PartialCheckpoint(const std::string& output_folder, int64_t step);
  PartialCheckpoint(const PartialCheckpoint&) = delete;
  PartialCheckpoint& operator=(const PartialCheckpoint&) = delete;
  // Unless published, removes the half-written folder.
  ~PartialCheckpoint();

  const std::string& folder() const { return folder_; }
  // Makes a folder in it, and those on the way. Errors: no room, not writable.
  void make_folder(const std::string& name) const;

  // Brings all files to the disk and renames. A checkpoint of the same step is replaced, and exists whole until then.
  void publish();

 private:
  std::string output_folder_, folder_, final_folder_;
};

// The step of the checkpoint in output_folder that `folder` is, however its path is written; none where it is another.
std::optional<int64_t> step_in(const std::string& output_folder, const std::string& folder);

// The whole checkpoint of the highest step; none where there is none.
std::optional<std::string> newest_checkpoint(const std::string& output_folder);

// What `-m` and `--model` mean: a folder with a config.json is itself, one with checkpoints is its newest, any other is
// itself. Errors: no such folder; an output folder without a whole checkpoint; a PEFT adapter; a model's folder in the
// Hugging Face cache, above its snapshots.
std::string resolve_model_folder(const std::string& path);

// A file that every checkpoint of a run takes over as it was when the run began: by the time of a save it may have
// changed or gone, as the checkpoint that a run began from does under --save-total-limit.
struct CarriedFile {
  std::string name, contents;
};

// Those of a tokenizer (io/tokenizer/tokenizer_files.h), a file that was named under the name by which it is found, and
// generation_config.json of the model's folder, if it is there; "": of none. (config.json is written by whoever knows
// the dtype.) Errors: File::open's.
std::vector<CarriedFile> read_carried_files(const std::string& tokenizer, const std::string& model_folder);
// The *.py beside a config.json: the classes that its auto_map names, and what they import. Errors: File::open's.
std::vector<CarriedFile> read_code_files(const std::string& config_file);

}  // namespace llama_tp
