#include "support/sound_model.h"

#include "support/command.h"

namespace llama_tp {

namespace fs = std::filesystem;

std::unique_ptr<ScratchFolder> SoundModel::shared_;

void SoundModel::SetUpTestSuite() {
  shared_ = std::make_unique<ScratchFolder>();
  write_file(path("config.json"), small_config().dump());
  write_file(path("ids.jsonl"), random_id_lines(4, 20, small_vocabulary));
  const CommandResult result = run_command(llama_tp_with(0) + " train --max-steps 1 --dtype float32 --config " +
                                           path("config.json") + " --tokenizer " + small_tokenizer() +
                                           " --train-file " + path("ids.jsonl") + " --output-dir " + path("out"));
  ASSERT_EQ(result.status, 0) << result.err;
  fs::rename(path("out/checkpoint-1"), path("sound"));
  fs::remove_all(path("out"));
}

std::string SoundModel::damaged(const Change& change) {
  fs::remove_all(path("model"));
  fs::copy(path("sound"), path("model"));
  change(path("model"));
  return path("model");
}

std::string SoundModel::eval(const std::string& model) {
  return "eval --json -m " + model + " --file " + path("ids.jsonl");
}

std::string SoundModel::train(const std::string& options, const std::string& output) {
  return "train --config " + path("config.json") + " --train-file " + path("ids.jsonl") + " --dtype float32 " +
         "--max-steps 2 --output-dir " + output + " " + options;
}

}  // namespace llama_tp
