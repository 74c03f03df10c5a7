#include "train/checkpoint_room.h"

#include <algorithm>

#include "report/format.h"

namespace llama_tp {

namespace {

int64_t bytes_of_checkpoint(const TrainingSetup& run, bool only_model) {
  return checkpoint_bytes(run.state, {only_model, run.contents.files, {}}, Parameters(run.config, 0, 1));
}

// Every so many steps (0: of none), and after the last one.
int64_t saves_to_come(const TrainingSetup& run) {
  const int64_t every = run.settings.save_steps, last = run.steps();
  if (every == 0) return 1;
  return last / every - run.state.step / every + (last % every > 0 ? 1 : 0);
}

// Of the run's own saves, when most are there: an old checkpoint goes when a new one is whole.
int64_t most_at_once(const TrainingSetup& run, int64_t saves) {
  const int64_t limit = run.settings.save_total_limit;
  if (limit == 0) return saves;
  const int64_t more = limit + 1 - std::ssize(run.output->checkpoint_steps());
  return std::min(saves, std::max<int64_t>(1, more));
}

}  // namespace

void require_room_for_a_checkpoint(const TrainingSetup& run) {
  const std::string& folder = run.output->path();
  const std::optional<int64_t> free = free_bytes(folder);
  const int64_t needed = bytes_of_checkpoint(run, run.contents.only_model), least = bytes_of_checkpoint(run, true);
  require(!free || needed <= *free, folder, ": the disk has no room for a checkpoint: ", bytes_text(needed),
          " are needed, ", bytes_text(free.value_or(0)), " are free; ",
          least < needed ? text("save only the model (--save-only-model: ", bytes_text(least), "), ") : "",
          "free some or choose another --output-dir");
}

std::vector<std::string> checkpoint_lines(const TrainingSetup& run) {
  if (!run.output) return {};
  const std::optional<int64_t> free = free_bytes(run.output->path());
  const int64_t each = bytes_of_checkpoint(run, run.contents.only_model), saves = saves_to_come(run),
                most = most_at_once(run, saves), limit = run.settings.save_total_limit;
  std::vector<std::string> lines{text("checkpoints ", bytes_text(each), " each",
                                      run.contents.only_model ? ", of the model alone" : "", "; ", with_commas(saves),
                                      " to come, ", limit > 0 ? text("the newest ", limit, " stay") : "all stay",
                                      free ? "; " + bytes_text(*free) + " are free" : "")};
  if (!run.unseen_by.empty())
    lines.push_back(
        text("            ", run.output->path(), " is not shared by ", run.unseen_by,
             run.contents.only_model ? "" : ": to go on from a checkpoint, copy it to the same place there first"));
  if (free && most > *free / each)
    lines.push_back(text("            room for ", *free / each, " of the ", with_commas(most),
                         " that will be there at once: a later save will find the disk full"));
  return lines;
}

}  // namespace llama_tp
