// A training run that is killed at any moment leaves whole checkpoints and no others.
#include <gtest/gtest.h>

#include <filesystem>

#include "scratch_folder.h"
#include "support/command.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

class KilledRun : public testing::TestWithParam<int> {
 protected:
  KilledRun() {
    write_file(folder_ / "config.json", small_config().dump());
    write_file(folder_ / "ids.jsonl", random_id_lines(8, 20, small_vocabulary));
  }

  std::string train(int ranks, const std::string& output, const std::string& options) const {
    return llama_tp_with(ranks) + " train --config " + (folder_ / "config.json") + " --train-file " +
           (folder_ / "ids.jsonl") + " --dtype float32 --per-device-train-batch-size 2 --lr-scheduler-type constant " +
           "--learning-rate 1e-3 --save-steps 2 --output-dir " + (folder_ / output) + " " + options;
  }

  // Trains without end, and kills mpirun and its ranks (or the program) so many seconds after the first save.
  void kill_after(double seconds, const std::string& output) const {
    const std::string line = train(GetParam(), output, "--max-steps 1000000");
    const CommandResult result =
        run_command(line + " > " + (folder_ / "log") + " 2>&1 & job=$!\n" +                                  //
                    "while [ ! -e " + (folder_ / output) + "/checkpoint-2 ]; do sleep 0.01; done\n" +        //
                    "sleep " + std::to_string(seconds) + "\n" +                                              //
                    "kill -KILL $job $(awk -v parent=$job '$4 == parent {print $1}' /proc/[0-9]*/stat)\n" +  //
                    "wait $job 2>/dev/null; echo ended $?");
    ASSERT_FALSE(result.timed_out) << read_file(folder_ / "log");
    ASSERT_EQ(result.out, "ended 137\n") << result.err;
  }

  ScratchFolder folder_;
};

TEST_P(KilledRun, LeavesWholeCheckpointsOnly) {
  ASSERT_EQ(run_command(train(0, "undisturbed", "--max-steps 2")).status, 0);
  for (const double moment : {0.0, 0.017, 0.071, 0.143, 0.31}) {
    const std::string name = "killed" + std::to_string(moment), output = folder_ / name;
    kill_after(moment, name);
    const std::vector<int> steps = checkpoint_steps(output);
    ASSERT_FALSE(steps.empty());
    for (size_t i = 0; i < steps.size(); i++) {
      EXPECT_EQ(steps[i], 2 * static_cast<int>(i + 1));
      const std::string checkpoint = output + "/checkpoint-" + std::to_string(steps[i]);
      EXPECT_EQ(read_tensors(checkpoint + "/model.safetensors").size(), 21u);
      EXPECT_TRUE(std::filesystem::exists(checkpoint + "/config.json"));
    }
    if (GetParam() == 0) {
      EXPECT_EQ(read_file(output + "/checkpoint-2/model.safetensors"),
                read_file(folder_ / "undisturbed/checkpoint-2/model.safetensors"));
    }

    const CommandResult eval =
        run_command(llama_tp_with(0) + " eval --json -m " + output + " --file " + (folder_ / "ids.jsonl"));
    EXPECT_EQ(eval.status, 0) << eval.err;
    EXPECT_GE(json_lines(read_file(output + "/metrics.jsonl")).size(), static_cast<size_t>(steps.back()));

    // The next run into it is refused, names the last step, and clears away only what was half-written.
    const CommandResult again = run_command(train(0, name, "--max-steps 2"));
    EXPECT_TRUE(holds(again.err, "llama_tp: " + output, "the last is " + std::to_string(steps.back())));
    EXPECT_EQ(checkpoint_steps(output), steps);
    for (const auto& entry : std::filesystem::directory_iterator(output))
      EXPECT_EQ(entry.path().string().find(".partial"), std::string::npos) << entry.path();
    std::filesystem::remove_all(output);
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, KilledRun, testing::Values(0, 2, 4));

}  // namespace
}  // namespace llama_tp
