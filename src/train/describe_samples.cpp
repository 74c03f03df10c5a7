#include "train/describe_samples.h"

#include "base/error.h"
#include "model/rope.h"
#include "report/format.h"

namespace llama_tp {

std::vector<std::string> describe_samples(const std::string& file, const Dataset& data, int64_t block_size) {
  std::vector<std::string> lines;
  if (!data.blocks.empty())
    lines.push_back(
        text(file, ": ", counted(data.sequences(), "sequence"), " packed into ", counted(data.samples(), "sample")));
  if (!data.labels.empty())
    lines.push_back(text(file, ": ", counted(count_targets(data), "token"), " of ",
                         with_commas(static_cast<int64_t>(data.tokens.size())), " are learned"));
  if (const std::string cut = beyond_block_size(file, data, block_size); !cut.empty()) lines.push_back(cut);
  return lines;
}

std::string beyond_block_size(const std::string& file, const Dataset& data, int64_t block_size) {
  if (data.cut_samples == 0) return "";
  return text(file, ": longer than --block-size ", block_size, " and cut: ", counted(data.cut_samples, "sample"),
              ", which lost ", counted(data.cut_tokens, "token"));
}

std::string beyond_positions(int64_t sample_tokens, const ModelConfig& config) {
  const int64_t positions = trained_positions(config);
  if (sample_tokens <= positions || config.rope.kind == RopeKind::dynamic) return "";
  return text("samples of ", sample_tokens, " tokens are longer than the model's ", positions, " positions");
}

}  // namespace llama_tp
