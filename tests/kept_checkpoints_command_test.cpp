// Which checkpoints `llama_tp train` keeps, what is in them, and which of them a run can go on from.
#include <gtest/gtest.h>

#include "report/format.h"
#include "support/error_of.h"
#include "support/refusal.h"
#include "trained_runs.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

class KeptCheckpoints : public TrainedRuns {
 protected:
  int64_t bytes_in(const std::string& folder) const {
    int64_t bytes = 0;
    for (const auto& entry : fs::recursive_directory_iterator(path(folder)))
      if (entry.is_regular_file()) bytes += static_cast<int64_t>(entry.file_size());
    return bytes;
  }
};

TEST_F(KeptCheckpoints, SaveTotalLimitKeepsTheNewest) {
  train(tensor2, "out", "--max-steps 7 --save-steps 2 --save-total-limit 2");
  EXPECT_EQ(checkpoint_steps(path("out")), (std::vector<int>{6, 7}));
  train(alone, "out", "--max-steps 9 --save-steps 2 --save-total-limit 1 --resume-from-checkpoint");
  EXPECT_EQ(checkpoint_steps(path("out")), (std::vector<int>{9}));
  for (const auto& entry : fs::directory_iterator(path("out")))
    EXPECT_FALSE(entry.path().string().ends_with(".partial")) << entry.path();
  train(alone, "more", "--max-steps 3 --save-steps 1");
  for (const int limit : {3, 2, 1}) {  // where nothing is left to do, too
    train(tensor2, "more", text("--max-steps 3 --save-total-limit ", limit, " --resume-from-checkpoint"));
    EXPECT_EQ(std::ssize(checkpoint_steps(path("more"))), limit);
  }
  EXPECT_EQ(checkpoint_steps(path("more")), (std::vector<int>{3}));
  expect_refused(0, arguments(alone, "other", "--save-total-limit 0"), {"--save-total-limit 0", "1 or more"});
}

TEST_F(KeptCheckpoints, PlanKnowsTheSizeOfACheckpoint) {
  for (const std::string dtype : {"float32", "bfloat16"}) {
    train(MeshSizes{1, 1, 2}, dtype, "--max-steps 1 --dtype " + dtype);
    int64_t all = 0, model = 0;
    for (const auto& entry : fs::recursive_directory_iterator(path(dtype + "/checkpoint-1"))) {
      if (entry.path().extension() != ".safetensors") continue;
      const auto bytes = static_cast<int64_t>(entry.file_size());
      all += bytes;
      if (entry.path().parent_path().filename() == "checkpoint-1") model += bytes;
    }
    const CommandResult plan =
        run_command(llama_tp_with(0) + " plan --json --config " + path("config.json") + " --dtype " + dtype);
    const Json planned = Json::parse(plan.out);
    EXPECT_EQ(planned["checkpoint_bytes"], all) << dtype;
    EXPECT_EQ(planned["model_bytes"], model) << dtype;
  }
}

TEST_F(KeptCheckpoints, SaveOnlyModelLeavesOutTheTrainingStateAndNothingElse) {
  const std::string options = "--max-steps 3 --save-steps 1 --dtype bfloat16 --tokenizer " + small_tokenizer();
  const auto last_checkpoint = [&](const std::string& output) {
    fs::remove_all(path("model"));
    fs::rename(path(output + "/checkpoint-3"), path("model"));
    return snapshot(path("model"));
  };
  for (const MeshSizes& mesh : {MeshSizes{1, 1, 1}, MeshSizes{1, 2, 2}})
    for (const std::string saved : {" --save-dtype bfloat16", " --save-dtype float32"}) {
      SCOPED_TRACE(mesh.options() + saved);
      for (const std::string output : {"whole", "small"}) fs::remove_all(path(output));
      const std::string of_whole = train(mesh, "whole", options + saved),
                        of_small = train(mesh, "small", options + saved + " --save-only-model --save-total-limit 2");
      EXPECT_TRUE(
          holds(of_whole, "checkpoints " + bytes_text(bytes_in("whole/checkpoint-3")) + " each; 3 to come, all"));
      EXPECT_TRUE(holds(of_small, "checkpoints " + bytes_text(bytes_in("small/checkpoint-3")) + " each, of the model"));
      EXPECT_EQ(checkpoint_steps(path("small")), (std::vector<int>{2, 3}));
      fs::remove_all(path("whole/checkpoint-3/training_state"));
      EXPECT_EQ(last_checkpoint("small"), last_checkpoint("whole"));
    }
}

TEST_F(KeptCheckpoints, FromACheckpointOfTheModelAloneARunBeginsAnewButDoesNotGoOn) {
  train(alone, "out", "--max-steps 2 --save-only-model");
  for (const int ranks : {0, 2})
    for (const std::string& named : {std::string("latest"), path("out/checkpoint-2")})
      expect_refused(ranks, arguments(alone, "out", "--max-steps 4 --resume-from-checkpoint " + named),
                     {"out/checkpoint-2: cannot be resumed", "no training_state/state.json", "--save-only-model",
                      "--model " + path("out/checkpoint-2"), "--output-dir"});
  const CommandResult again = run(alone, "out", "--max-steps 4");
  EXPECT_TRUE(holds(again.err, "the last is 2); choose another --output-dir")) << again.err;
  const CommandResult anew =
      run_command(llama_tp_with(2) + " train --model " + path("out/checkpoint-2") + " --train-file " +
                  path("ids.jsonl") + " --max-steps 1 --output-dir " + path("new"));
  EXPECT_EQ(anew.status, 0) << anew.err;
}

TEST_F(KeptCheckpoints, TheLastCheckpointThatARunCanGoOnFromIsNamedBehindOthers) {
  train(alone, "out", "--max-steps 2");
  train(alone, "out", "--max-steps 4 --save-steps 1 --save-only-model --resume-from-checkpoint");
  const std::string more = "--max-steps 6 --resume-from-checkpoint ";
  expect_refused(
      0, arguments(alone, "out", more),
      {"out/checkpoint-4: cannot be resumed", "model alone", "remove all behind " + path("out/checkpoint-2")});
  const CommandResult earlier = run(alone, "out", more + path("out/checkpoint-2"));
  EXPECT_TRUE(holds(earlier.err, "checkpoint-4 was saved after it; remove it first")) << earlier.err;
  fs::create_directory(path("out/checkpoint-9"));
  expect_refused(
      0, arguments(alone, "out", more),
      {"out/checkpoint-9: cannot be resumed: it is incomplete", "remove all behind " + path("out/checkpoint-2")});
  for (const char* name : {"out/checkpoint-3", "out/checkpoint-4", "out/checkpoint-9"}) fs::remove_all(path(name));
  EXPECT_TRUE(holds(train(alone, "out", more), "step 6/6"));
}

// An open file keeps its room on the disk, also where it has no name any more.
TEST_F(KeptCheckpoints, TheCheckpointOfTheBeginningFreesItsRoom) {
  train(alone, "out", "--max-steps 2 --dtype bfloat16 --save-dtype float32");
  const CommandResult result = run_command(
      llama_tp_with(0) + " " +
      arguments(alone, "out",
                "--resume-from-checkpoint --dtype bfloat16 --save-dtype float32 --save-steps 1 "
                "--save-total-limit 1 --max-steps 1000000 >/dev/null") +
      " & job=$!\nwhile [ $(wc -l <" + path("out/metrics.jsonl") + ") -lt 9 ] && kill -0 $job; do sleep 0.01; done\n" +
      "ls -l /proc/$job/fd; kill -KILL $job; wait $job");
  EXPECT_TRUE(holds(result.out, path("out/llama_tp.json"))) << result.err;  // it was running
  EXPECT_EQ(result.out.find("checkpoint-2.partial"), std::string::npos) << result.out;
  EXPECT_EQ(result.out.find("checkpoint-2/"), std::string::npos) << result.out;
}

// Its tokenizer and generation_config.json are in every later one: --save-total-limit removes the first at the next save.
TEST_F(KeptCheckpoints, TheCheckpointThatIsTheModelMayGoOnTheWay) {
  train(alone, "out", "--max-steps 2 --tokenizer " + small_tokenizer());
  write_file(path("out/checkpoint-2/generation_config.json"), "{\"top_k\": 3}");
  for (const int ranks : {0, 2}) {
    copy_until("out", 2, "again");
    const CommandResult result = run_command(
        llama_tp_with(ranks) + " train --model " + path("again") + " --train-file " + path("ids.jsonl") +
        " --output-dir " + path("again") + " --global-batch-size 4 --per-device-train-batch-size 2 --dtype float32 " +
        "--resume-from-checkpoint latest --save-steps 1 --save-total-limit 1 --max-steps 5");
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(checkpoint_steps(path("again")), std::vector<int>{5});
    EXPECT_EQ(whole_file(path("again/checkpoint-5/generation_config.json")), "{\"top_k\": 3}");
    EXPECT_EQ(whole_file(path("again/checkpoint-5/tokenizer.json")), whole_file(small_tokenizer() + "/tokenizer.json"));
  }
}

}  // namespace
}  // namespace llama_tp
