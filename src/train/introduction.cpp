#include "train/introduction.h"

#include "report/format.h"
#include "train/describe_samples.h"

namespace llama_tp {

namespace {

const std::string indent(12, ' ');

std::string model_line(const Introduction& run) {
  return text("model       ", with_commas(parameter_count(run.config)), " parameters (", run.config.family->name, ", ",
              run.config.layers, " layers × ", run.config.hidden, "), ",
              run.origin.empty() ? "random weights" : "from " + run.origin);
}

std::string mesh_line(const Introduction& run) {
  const MeshShape& mesh = run.mesh.shape();
  return text("mesh        ", counted(run.mesh.world().size(), "rank"), ": data-parallel ", mesh.data,
              mesh.fsdp > 1 ? text(" × fsdp ", mesh.fsdp) : "", " × tensor-parallel ", mesh.tensor,
              run.shape.sequence_ranks > 1 ? ", sequence-parallel" : "");
}

std::vector<std::string> data_lines(const Introduction& run) {
  std::vector<std::string> lines{text("data        ", counted(run.data.samples(), "sample"), ", ",
                                      counted(static_cast<int64_t>(run.data.tokens.size()), "token"), "; a step takes ",
                                      run.shape.global_batch(), " × up to ", run.shape.block_size, " tokens, an epoch ",
                                      counted(run.steps_per_epoch, "step"))};
  if (!run.tokenized_before.empty())
    lines.push_back(text(indent, "tokenized by an earlier run: ", run.tokenized_before));
  const auto add_samples = [&](const std::string& file, const Dataset& data) {
    for (const std::string& line : describe_samples(file, data, run.settings.block_size))
      lines.push_back(indent + line);
  };
  add_samples(run.settings.train_file, run.data);
  add_samples(run.settings.validation_file, run.validation);
  if (run.shape.block_size > run.config.max_positions && run.config.rope.kind != RopeKind::dynamic)
    lines.push_back(text(indent, "samples of ", run.shape.block_size, " tokens are longer than the model's ",
                         run.config.max_positions, " positions (max_position_embeddings)"));
  return lines;
}

}  // namespace

std::vector<std::string> lines_of(const Introduction& run) {
  std::vector<std::string> lines{model_line(run)};
  for (const std::string& key : run.config.dropouts)
    lines.push_back(text(indent, key, " of ", run.config.source, " is not applied: training has no dropout here"));
  lines.insert(lines.end(), run.resumption.begin(), run.resumption.end());
  lines.push_back(mesh_line(run));
  lines.push_back(text("device      ", run.device));
  for (const std::string& line : data_lines(run)) lines.push_back(line);
  lines.push_back(text("memory      ", bytes_text(run.memory.total()), " a rank: ", bytes_text(run.memory.state),
                       " weights, gradients and optimizer, ", bytes_text(run.memory.step), " for a step"));
  return lines;
}

}  // namespace llama_tp
