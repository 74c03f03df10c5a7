#include "support/talking_model.h"

#include "support/small_model.h"

namespace llama_tp {

std::unique_ptr<ScratchFolder> TalkingModel::shared_;

void TalkingModel::SetUpTestSuite() {
  shared_ = std::make_unique<ScratchFolder>();
  train(path("out"), "");
}

void TalkingModel::train(const std::string& folder, const std::string& options) {
  const std::string golden = "tests/goldens/sft";
  run(llama_tp_with(0) + " train --model " + golden + " --train-file " + golden +
      "/messages.jsonl --learning-rate 1e-2 --max-steps 60 --dtype float32 --output-dir " + folder + " " + options);
}

std::string TalkingModel::command(int ranks, const std::string& options, const std::string& model) {
  return llama_tp_with(ranks) + " generate -m " + model + " " + options;
}

CommandResult TalkingModel::run(const std::string& line) {
  const CommandResult result = run_command(line);
  EXPECT_EQ(result.status, 0) << result.err;
  return result;
}

std::vector<nlohmann::json> TalkingModel::continued(int ranks, const std::string& lines, const std::string& options,
                                                    const std::string& model) {
  write_file(path("prompts.jsonl"), lines);
  return json_lines(run(command(ranks, "--prompts-file " + path("prompts.jsonl") + " " + options, model)).out);
}

}  // namespace llama_tp
