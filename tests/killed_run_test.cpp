// A training run that is killed at any moment leaves whole checkpoints and no others, and goes on from the last of
// them.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "scratch_folder.h"
#include "support/command.h"
#include "support/error_of.h"
#include "support/settings.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

class KilledRun : public testing::TestWithParam<int> {
 protected:
  KilledRun() {
    // Where Open MPI 4 and 5 put the memory that ranks share, which stays when they are killed.
    for (const char* name : {"OMPI_MCA_btl_vader_backing_directory", "OMPI_MCA_btl_sm_backing_directory"})
      setenv(name, folder_.path().c_str(), 1);
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
        run_command(line + " > " + (folder_ / "log") + " 2>&1 & job=$!\n" +                            //
                    "while [ ! -e " + (folder_ / output) + "/checkpoint-2 ]; do sleep 0.01; done\n" +  //
                    "sleep " + std::to_string(seconds) + "\n" +                                        //
                    "kill -KILL $job $(" + ranks_of_job + ")\n" +                                      //
                    "wait $job 2>/dev/null; echo ended $?\n" +
                    // Ranks hold the output folder until they have ended.
                    "flock " + (folder_ / output) + "/llama_tp.json true");
    ASSERT_FALSE(result.timed_out) << whole_file(folder_ / "log");
    ASSERT_EQ(result.out, "ended 137\n") << result.err;
  }

  // Kills the run of GetParam() ranks after so many seconds: one of its ranks, and mpirun ends the others, or all.
  void kill_at(double seconds, bool one_rank, const std::string& output, const std::string& options) const {
    // mpirun, stopped, starts no rank between the look for them and its end.
    const std::string kill_all = "kill -STOP $job; kill -KILL $job $(" + ranks_of_job + ")";
    // All, too, where mpirun has started none yet.
    const std::string kill_one = "rank=$(" + ranks_of_job +
                                 " | shuf -n 1); if [ -n \"$rank\" ]; then kill -KILL $rank; else " + kill_all + "; fi";
    const CommandResult result =
        run_command(train(GetParam(), output, options) + " > " + (folder_ / "log") + " 2>&1 & job=$!\n" +  //
                    "sleep " + std::to_string(seconds) + "\n" +                                            //
                    (one_rank && GetParam() > 0 ? kill_one : kill_all) + "\n" +                            //
                    // mpirun may not see the end of a rank that has not yet called it back.
                    "for wait in $(seq 100); do kill -0 $job 2>/dev/null || break; sleep 0.1; done\n" + "{ " +
                    kill_all + "; } 2>/dev/null; wait $job 2>/dev/null\n" +
                    // Ranks hold the output folder until they have ended.
                    "[ ! -d " + (folder_ / output) + " ] || flock " + (folder_ / output) + "/llama_tp.json true");
    ASSERT_FALSE(result.timed_out) << whole_file(folder_ / "log");
  }

  // Seconds from the start of mpirun over reading to some saves, however slow the machine is at the time.
  double some_saves() const {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(run_command(train(GetParam(), "timed", "--max-steps 2")).status, 0);
    return 3 * std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
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
      EXPECT_EQ(whole_file(output + "/checkpoint-2/model.safetensors"),
                whole_file(folder_ / "undisturbed/checkpoint-2/model.safetensors"));
    }

    const CommandResult eval =
        run_command(llama_tp_with(0) + " eval --json -m " + output + " --file " + (folder_ / "ids.jsonl"));
    EXPECT_EQ(eval.status, 0) << eval.err;
    EXPECT_GE(json_lines(whole_file(output + "/metrics.jsonl")).size(), static_cast<size_t>(steps.back()));

    // The next run into it is refused, names the last step, and clears away only what was half-written.
    const CommandResult again = run_command(train(0, name, "--max-steps 2"));
    EXPECT_TRUE(holds(again.err, "llama_tp: " + output, "the last is " + std::to_string(steps.back())));
    EXPECT_EQ(checkpoint_steps(output), steps);
    for (const auto& entry : std::filesystem::directory_iterator(output))
      EXPECT_EQ(entry.path().string().find(".partial"), std::string::npos) << entry.path();
    std::filesystem::remove_all(output);
  }
}

// Runs that are killed at random moments of their whole life, each of which goes on from what the one before saved, do
// together what one undisturbed run does, bit for bit.
TEST_P(KilledRun, GoesOnFromItsLastCheckpoint) {
  const int moments = test_all() ? 67 : 6;  // of each number of ranks
  const std::string output = folder_ / "out", log = folder_ / "log";
  const std::string resume = " --save-total-limit 2 --resume-from-checkpoint --max-steps ";
  const double longest_life = some_saves();
  std::mt19937 random(static_cast<unsigned>(GetParam()));
  int last = 0, resumed = 0;
  const int enough = moments / 4 + 1;
  // On a machine that has become slower meanwhile, more runs and longer ones are needed to see enough that go on.
  for (int moment = 0; moment < moments || (resumed < enough && moment < 5 * moments); moment++) {
    const double longest = longest_life * (1 + moment / moments);
    kill_at(std::uniform_real_distribution<>(longest / 15, longest)(random), moment % 2 == 0, "out",
            resume + "1000000 --logging-steps 1000000");
    const std::string said = whole_file(log);
    if (said.find("resumed     after step ") != std::string::npos) {
      resumed++;
      EXPECT_TRUE(holds(said, text("resumed     after step ", last, " of ")));
    }
    EXPECT_EQ(said.find("llama_tp: "), std::string::npos) << said;
    const std::vector<int> steps = std::filesystem::exists(output) ? checkpoint_steps(output) : std::vector<int>{};
    EXPECT_LE(steps.size(), 3u);
    EXPECT_TRUE(last == 0 || !steps.empty());
    if (!steps.empty()) {
      EXPECT_GE(steps.back(), last);
      last = steps.back();
    }
  }
  EXPECT_GE(resumed, enough);

  const CommandResult end = run_command(train(GetParam(), "out", resume + std::to_string(last + 2)), 300);
  ASSERT_EQ(end.status, 0) << end.err;
  const std::string undisturbed = train(GetParam(), "whole", "--save-steps 0 --max-steps " + std::to_string(last + 2));
  ASSERT_EQ(run_command(undisturbed, 300).status, 0);
  const auto all = json_lines(whole_file(output + "/metrics.jsonl")),
             whole = json_lines(whole_file(folder_ / "whole/metrics.jsonl"));
  ASSERT_EQ(all.size(), whole.size());
  for (size_t i = 0; i < all.size(); i++)
    for (const char* key : {"step", "loss", "grad_norm", "tokens"}) EXPECT_EQ(all[i][key], whole[i][key]) << i;
}

// mpirun passes the signal on. The run saves behind the step in which it came, and the same command goes on to what an
// undisturbed run does, bit for bit.
TEST_P(KilledRun, SavesAndEndsWhereThatIsAskedFor) {
  const std::string output = folder_ / "out", resume = " --save-steps 0 --resume-from-checkpoint latest --max-steps ";
  const CommandResult result =
      run_command(train(GetParam(), "out", resume + "1000000") + " & job=$!\n" +  //
                  "while [ ! -s " + output + "/metrics.jsonl ] && kill -0 $job; do sleep 0.01; done\n" +
                  "kill -USR1 $job; wait $job; echo ended $?");
  ASSERT_FALSE(result.timed_out);
  EXPECT_TRUE(result.out.ends_with("ended 0\n")) << result.out << result.err;
  EXPECT_EQ(result.errors().size(), 0u) << result.err;
  const std::vector<int> steps = checkpoint_steps(output);
  ASSERT_EQ(steps.size(), 1u);
  const int last = steps.front();
  EXPECT_EQ(json_lines(whole_file(output + "/metrics.jsonl")).size(), static_cast<size_t>(last));
  EXPECT_TRUE(holds(result.out, "ended by SIGUSR1", "--resume-from-checkpoint latest"));

  const std::string two_more = std::to_string(last + 2);
  ASSERT_EQ(run_command(train(GetParam(), "out", resume + two_more)).status, 0);
  ASSERT_EQ(run_command(train(GetParam(), "whole", "--save-steps 0 --max-steps " + two_more)).status, 0);
  for (const char* file : {"/model.safetensors", "/training_state/m/model.safetensors"}) {
    const std::string in_last = "/checkpoint-" + two_more + file;
    EXPECT_EQ(whole_file(output + in_last), whole_file(folder_ / ("whole" + in_last))) << file;
  }
}

// Rank 0 gets the signal while MPI waits for the last rank, which sends it.
class AwaitedRank : public KilledRun {};

TEST_P(AwaitedRank, DoesNotKeepTheRunFromSavingAndEndingWhereThatIsAskedForBefore) {
  const std::string process = folder_ / "process", last = std::to_string(GetParam() - 1);
  const CommandResult result =
      run_command(mpirun(GetParam()) + "sh -c 'case ${OMPI_COMM_WORLD_RANK:-$PMI_RANK} in 0) echo $$ > " + process +
                  ";; " + last + ") sleep 2; kill -USR1 $(cat " + process + ");; esac; exec \"$@\"' sh " +
                  train(0, "out", "--save-steps 0 --max-steps 1000000"));
  ASSERT_FALSE(result.timed_out);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(checkpoint_steps(folder_ / "out"), std::vector{1});
  EXPECT_TRUE(holds(result.out, "ended by SIGUSR1"));
}

// Seconds. On a machine that does other things ranks that are not stopped may come late by as much as one or two.
constexpr int timeout = 4;

// A rank that is stopped, as by a debugger or a dead disk: the others wait for the time given and end the run.
class StoppedRank : public KilledRun {
 protected:
  void expect_named(const std::string& options) const {
    const CommandResult result = run_command(
        train(GetParam(), "out", text("--max-steps 1000000 --timeout ", timeout, " ", options)) + " & job=$!\n" +  //
        "while [ ! -e " + (folder_ / "out") + "/checkpoint-2 ] && kill -0 $job; do sleep 0.01; done\n" +           //
        "rank=$(" + ranks_of_job + " | shuf -n 1)\n" +                                                             //
        "kill -STOP $rank; begin=$SECONDS; wait $job; status=$?\n" +
        "echo; echo status $status after $((SECONDS - begin)) s; echo process $rank");
    ASSERT_FALSE(result.timed_out) << result.err;
    EXPECT_EQ(result.out.find("status 0"), std::string::npos);
    const size_t after = result.out.find(" after ");
    ASSERT_NE(after, std::string::npos) << result.err;
    EXPECT_LT(std::atoi(result.out.c_str() + after + 7), timeout + 4);
    ASSERT_EQ(result.errors().size(), 1u) << result.err;
    const std::string process = result.out.substr(result.out.find("process "));
    EXPECT_TRUE(holds(result.errors().front(), text("waited ", timeout, " s in "), " of group ", " for rank ", " on ",
                      "(" + process.substr(0, process.size() - 1) + ")", " in step ", "--timeout"));
  }
};

TEST_P(StoppedRank, IsNamed) { expect_named(""); }

// Each thread of a rank waits on its own.
TEST_P(StoppedRank, IsNamedByRanksOfSeveralThreads) {
  // 64 KiB of hidden states a micro-batch: what two threads are worth in a collective.
  write_file(folder_ / "ids.jsonl", random_id_lines(8, 256, small_vocabulary));
  expect_named("-t 2");
}

INSTANTIATE_TEST_SUITE_P(Ranks, KilledRun, testing::Values(0, 2, 4));
INSTANTIATE_TEST_SUITE_P(Ranks, AwaitedRank, testing::Values(2, 4));
INSTANTIATE_TEST_SUITE_P(Ranks, StoppedRank, testing::Values(2, 4));

}  // namespace
}  // namespace llama_tp
