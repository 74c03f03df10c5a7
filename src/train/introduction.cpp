#include "train/introduction.h"

#include "report/format.h"
#include "train/checkpoint_room.h"
#include "train/describe_samples.h"

namespace llama_tp {

namespace {

const std::string indent(12, ' ');

using Lines = std::vector<std::string>;

void append(Lines& lines, const Lines& more) { lines.insert(lines.end(), more.begin(), more.end()); }

Lines model_lines(const TrainingSetup& run) {
  const std::string& origin = run.origin();
  Lines lines{text("model       ", with_commas(parameter_count(run.config)), " parameters (", run.config.family->name,
                   ", ", run.config.layers, " layers × ", run.config.hidden, "), ",
                   origin.empty() ? "random weights" : "from " + origin)};
  for (const std::string& key : run.config.dropouts)
    lines.push_back(text(indent, key, " of ", run.config.source, " is not applied: training has no dropout here"));
  for (const std::string& line : left_out_of(run.config)) lines.push_back(indent + line);
  return lines;
}

// Where the run goes on, if it was to.
Lines resumption(const TrainingSetup& run) {
  if (!run.saved && run.settings.resume.empty()) return {};
  if (!run.saved) return {text(indent, run.settings.output_dir, " holds no checkpoint yet: begins at the start")};
  Lines lines{text("resumed     after step ", run.state.step, " of ", run.steps())};
  for (const std::string& change : run.saved->changes()) lines.push_back(indent + change);
  return lines;
}

std::string mesh_line(const TrainingSetup& run) {
  const MeshShape& mesh = run.mesh->shape();
  return text("mesh        ", counted(run.mesh->world().size(), "rank"), ": data-parallel ", mesh.data,
              mesh.fsdp > 1 ? text(" × fsdp ", mesh.fsdp) : "", " × tensor-parallel ", mesh.tensor,
              run.shape.sequence_ranks > 1 ? ", sequence-parallel" : "");
}

Lines data_lines(const TrainingSetup& run) {
  const Dataset& data = run.data.training;
  Lines lines{text("data        ", counted(data.samples(), "sample"), ", ", counted(std::ssize(data.tokens), "token"),
                   "; a step takes ", run.shape.global_batch(), " × up to ", run.shape.block_size, " tokens, an epoch ",
                   counted(run.batches.steps_per_epoch(), "step"))};
  if (const std::string file = run.data.tokenized_before(); !file.empty())
    lines.push_back(text(indent, "tokenized by an earlier run: ", file));
  for (const auto& [file, samples] :
       {std::pair(&run.settings.train_file, &data), std::pair(&run.settings.validation_file, &run.data.validation)})
    for (const std::string& line : describe_samples(*file, *samples, run.settings.block_size))
      lines.push_back(indent + line);
  if (const std::string beyond = beyond_positions(run.shape.block_size, run.config); !beyond.empty())
    lines.push_back(indent + beyond);
  return lines;
}

}  // namespace

Lines introduction(const TrainingSetup& run, const MemoryPlan& memory, const Launch& launch) {
  Lines lines;
  if (const std::string choice = describe_placement(run.settings.mesh, run.mesh->shape()); !choice.empty())
    lines.push_back(choice);
  append(lines, model_lines(run));
  append(lines, resumption(run));
  lines.push_back(mesh_line(run));
  if (const std::string apart = tensor_ranks_apart(launch, run.config, run.mesh->shape()); !apart.empty())
    lines.push_back(indent + apart);
  lines.push_back(text("device      ", run.backend->description()));
  append(lines, data_lines(run));
  lines.push_back(text("memory      ", bytes_text(memory.total()), " a rank: ", bytes_text(memory.state),
                       " weights, gradients and optimizer, ", bytes_text(memory.step), " for a step"));
  append(lines, checkpoint_lines(run));
  return lines;
}

}  // namespace llama_tp
