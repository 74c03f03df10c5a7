// `llama_tp train --resume-from-checkpoint`: a run that stopped goes on, on whatever mesh, as if it had never stopped. Of
// the changes from one mesh to another a choice in which each two sizes meet, with LLAMA_TP_TEST_ALL=1 all of them.
#include <gtest/gtest.h>

#include "io/files.h"
#include "support/error_of.h"
#include "support/metrics_lines.h"
#include "support/refusal.h"
#include "support/settings.h"
#include "trained_runs.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr MeshSizes meshes[] = {{1, 1, 1}, {1, 1, 2}, {2, 1, 1}, {2, 1, 2}, {1, 2, 1}, {1, 2, 2}};

// A run on the first mesh goes on on the second.
struct Change {
  MeshSizes first, second;
  Values values() const { return {first.data, first.fsdp, first.tensor, second.data, second.fsdp, second.tensor}; }
};

std::vector<Change> all_changes() {
  std::vector<Change> all;
  for (const MeshSizes& first : meshes)
    for (const MeshSizes& second : meshes)
      if (first != second) all.push_back({first, second});
  return all;
}

class ResumeCommand : public TrainedRuns {};

constexpr int saved_step = 4, all_steps = 14;
const std::string whole_run = "--max-steps 14 --save-steps 4";

// A file of each kind that a checkpoint holds.
const char* const saved_files[] = {"model.safetensors", "training_state/m/model.safetensors",
                                   "training_state/v/model.safetensors", "training_state/state.json"};

TEST_F(ResumeCommand, TheNextTenLossesAreThoseOfTheRunThatNeverStoppedOnAnyMesh) {
  const std::vector<Change> chosen = settings_under_test(all_changes());
  for (const MeshSizes& first : meshes) {
    fs::remove_all(path("whole"));
    train(first, "whole", whole_run);
    const std::vector<Json> whole = metrics("whole");
    ASSERT_EQ(whole.size(), static_cast<size_t>(all_steps));
    const auto go_on = [&](const MeshSizes& second) {
      SCOPED_TRACE(first.options() + "then " + second.options());
      copy_until("whole", saved_step, "out");
      const std::string said = train(second, "out", whole_run + " --resume-from-checkpoint latest");
      EXPECT_TRUE(holds(said, "resumed     after step 4 of 14", "from " + path("out/checkpoint-4")));
      const std::vector<Json> resumed = metrics("out");
      ASSERT_EQ(resumed.size(), whole.size());
      for (size_t i = 0; i < whole.size(); i++) {
        for (const char* exact : {"step", "epoch", "learning_rate", "tokens"})
          EXPECT_EQ(resumed[i][exact], whole[i][exact]);
        EXPECT_NEAR(resumed[i]["loss"], whole[i]["loss"], 1e-5) << "step " << i + 1;
      }
      EXPECT_EQ(checkpoint_steps(path("out")), (std::vector<int>{4, 8, 12, 14}));
    };
    for (const Change& change : chosen)
      if (change.first == first) go_on(change.second);
    go_on(first);
    expect_equal_bits(metrics("out"), whole);
    for (const std::string file : saved_files)
      EXPECT_EQ(whole_file(path("out/checkpoint-14/" + file)), whole_file(path("whole/checkpoint-14/" + file)))
          << file << " on " << first.options();
  }
}

// Key/value heads on several ranks each, a vocabulary that no number of ranks divides, one tensor for both ends,
// biases; and three files for a tensor's master weight.
TEST_F(ResumeCommand, ABf16RunOfAModelThatDividesBadlyGoesOnToTheBit) {
  write_file(path("config.json"), small_config({{"num_key_value_heads", 1},
                                                {"vocab_size", 499},
                                                {"tie_word_embeddings", true},
                                                {"attention_bias", true},
                                                {"mlp_bias", true}})
                                      .dump());
  for (const MeshOfRanks& mesh : {alone, MeshOfRanks{4, ""}}) {
    fs::remove_all(path("whole"));
    train(mesh, "whole", whole_run + " --dtype bfloat16");
    copy_until("whole", saved_step, "out");
    train(mesh, "out", whole_run + " --dtype bfloat16 --resume-from-checkpoint");
    expect_equal_bits(metrics("out"), metrics("whole"));
    for (const std::string file : {"model.safetensors", "training_state/rest/model.safetensors"})
      EXPECT_EQ(whole_file(path("out/checkpoint-14/" + file)), whole_file(path("whole/checkpoint-14/" + file))) << file;
  }
}

// With a rate of 0 a step leaves the weights as they are: an f32 weight is the same after a bf16 run took it over.
TEST_F(ResumeCommand, MasterWeightsGoThroughARunOfTheOtherTypeUnchanged) {
  train(alone, "out", "--max-steps 2");
  const std::string still = " --learning-rate 0 --resume-from-checkpoint --dtype ";
  EXPECT_TRUE(holds(train(tensor2, "out", "--max-steps 3" + still + "bfloat16"), "--dtype was float32 and is bfloat16",
                    "--learning-rate was 0.002 and is 0.0"));
  train({2, "--tensor-parallel 1"}, "out", "--max-steps 4" + still + "float32");
  EXPECT_NE(whole_file(path("out/checkpoint-3/model.safetensors")),
            whole_file(path("out/checkpoint-2/model.safetensors")));
  EXPECT_EQ(whole_file(path("out/checkpoint-4/model.safetensors")),
            whole_file(path("out/checkpoint-2/model.safetensors")));
}

TEST_F(ResumeCommand, WithoutACheckpointTheRunBeginsAtTheStartAndSaysSo) {
  const std::string options = "--max-steps 2 ";
  train(alone, "plain", options);
  for (const std::string spelled : {"--resume-from-checkpoint", "--resume_from_checkpoint=latest"}) {
    fs::remove_all(path("out"));
    EXPECT_TRUE(holds(train(alone, "out", options + spelled), "holds no checkpoint yet: begins at the start"));
    expect_equal_bits(metrics("out"), metrics("plain"));
  }
}

TEST_F(ResumeCommand, ACheckpointIsNamedByItsFolderAndMayLieElsewhere) {
  train(alone, "whole", whole_run);
  copy_until("whole", saved_step, "out");
  train(alone, "out", whole_run + " --resume-from-checkpoint " + path("out/checkpoint-4/"));
  expect_equal_bits(metrics("out"), metrics("whole"));

  train(alone, "new", whole_run + " --resume-from-checkpoint " + path("whole/checkpoint-8"));
  const std::vector<Json> whole = metrics("whole");
  expect_equal_bits(metrics("new"), {whole.begin() + 8, whole.end()});
  EXPECT_EQ(checkpoint_steps(path("new")), (std::vector<int>{12, 14}));
}

TEST_F(ResumeCommand, TheNewestCheckpointIsKnownByHoweverItsPathIsWritten) {
  train(alone, "whole", "--max-steps 2");
  const std::string line = "--max-steps 3 --output-dir . --resume-from-checkpoint ";
  for (const std::string written : {"checkpoint-2", "./checkpoint-2/.", "last", "../out/checkpoint-2", "."}) {
    copy_until("whole", 2, "out");
    fs::create_symlink("checkpoint-2", path("out/last"));
    const CommandResult result =
        run_command("cd " + path("out") + " && " + llama_tp_with(0) + " " + arguments(alone, "out", line + written));
    EXPECT_EQ(result.status, 0) << written << ": " << result.err;
    EXPECT_EQ(checkpoint_steps(path("out")), (std::vector<int>{2, 3})) << written;
  }
}

// A run that was killed after more steps than it saved, in the middle of a line.
TEST_F(ResumeCommand, MetricsGoOnAfterTheStepThatWasSaved) {
  train(alone, "whole", whole_run);
  copy_until("whole", 8, "out");
  const std::string lines = whole_file(path("whole/metrics.jsonl"));
  write_file(path("out/metrics.jsonl"), lines.substr(0, lines.size() - 20));
  train(alone, "out", whole_run + " --resume-from-checkpoint");
  expect_equal_bits(metrics("out"), metrics("whole"));
  size_t before = 0;
  for (int step = 1; step <= 8; step++) before = lines.find('\n', before) + 1;
  EXPECT_EQ(whole_file(path("out/metrics.jsonl")).substr(0, before), lines.substr(0, before));
}

// Here of one that was killed before its first save.
TEST_F(ResumeCommand, MetricsOfAnotherRunAreNotTakenForThoseBeforeACheckpointFromElsewhere) {
  train(alone, "whole", "--max-steps 6 --save-steps 2");
  train(alone, "out", "--max-steps 3 --seed 7");
  fs::remove_all(path("out/checkpoint-3"));
  const std::string earlier = read_text(path("out/metrics.jsonl"));
  train(alone, "out", "--max-steps 6 --save-steps 2 --resume-from-checkpoint " + path("whole/checkpoint-2"));
  const std::vector<Json> whole = metrics("whole");
  expect_equal_bits(metrics("out"), {whole.begin() + 2, whole.end()});
  EXPECT_EQ(read_text(path("out/metrics.jsonl.earlier")), earlier);
}

TEST_F(ResumeCommand, MetricsOfTheSameRunFromElsewhereAreWrittenAnew) {
  train(alone, "whole", "--max-steps 6 --save-steps 2");
  const std::string from_elsewhere = "--max-steps 6 --resume-from-checkpoint " + path("whole/checkpoint-2");
  train(alone, "out", from_elsewhere);
  fs::remove_all(path("out/checkpoint-6"));  // as it is where the run ended before
  train(alone, "out", from_elsewhere);
  const std::vector<Json> whole = metrics("whole");
  expect_equal_bits(metrics("out"), {whole.begin() + 2, whole.end()});
  EXPECT_FALSE(fs::exists(path("out/metrics.jsonl.earlier")));
}

#if !defined(__SANITIZE_ADDRESS__)  // it looks at memory through a pipe, for which no descriptor is left
// As many as a checkpoint of a large model has; here there are nine, with the program's own.
TEST_F(ResumeCommand, MoreFilesMayBeOpenThanTheSoftLimitSays) {
  const std::string first = "--dtype bfloat16 --save-dtype bfloat16 --max-steps 1",
                    more = first + "0 --resume-from-checkpoint";
  train(alone, "out", first);
  const auto resumed_within = [&](const std::string& limit) {
    return run_command(limit + "; " + llama_tp_with(0) + " " + arguments(alone, "out", more));
  };
  const CommandResult refused = resumed_within("ulimit -n 6");
  EXPECT_EQ(refused.status, 1);
  EXPECT_TRUE(holds(refused.err, path("out/checkpoint-1/training_state/"), "/model.safetensors: cannot open it",
                    "as many files open as it may, 6;", "ulimit -n"))
      << refused.err;
  const CommandResult resumed = resumed_within("ulimit -Sn 6");
  EXPECT_EQ(resumed.status, 0) << resumed.err;
}
#endif

// West and east of the same moment: in the second zone it is always the next day. What is validated tells the date too.
TEST_F(ResumeCommand, ChatsThatTellTheDateGoOnOnAnotherDay) {
  const std::string one_day = "TZ=West+12 ", next_day = "TZ=East-12 ", golden = "tests/goldens/sft",
                    chats = "--config " + golden + "/config.json --tokenizer " + golden + " --train-file " + golden +
                            "/messages.jsonl --validation-file " + golden +
                            "/messages.jsonl --chat-template llama-3.2 --max-steps 4 --save-steps 2 ";
  const auto state = [&](const std::string& checkpoint) { return path(checkpoint + "/training_state/state.json"); };
  const CommandResult whole = run_command(one_day + llama_tp_with(0) + " " + arguments(alone, "whole", chats));
  ASSERT_EQ(whole.status, 0) << whole.err;
  EXPECT_EQ(Json::parse(whole_file(state("whole/checkpoint-2")))["date"].get<std::string>() + "\n",
            run_command(one_day + "LC_ALL=C date '+%d %b %Y'").out);
  const auto evaluated = [&](const std::string& day) {
    const CommandResult result = run_command(day + llama_tp_with(0) + " eval -m " + path("whole") + " --file " +
                                             golden + "/messages.jsonl --chat-template llama-3.2 --json");
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  EXPECT_EQ(evaluated(next_day), evaluated(one_day));
  const std::string resumed = arguments(alone, "out", chats + "--resume-from-checkpoint");
  for (const bool keeps_tokens : {true, false}) {
    copy_until("whole", 2, "out");
    if (!keeps_tokens) fs::remove_all(path("out/tokenized"));
    const CommandResult result = run_command(next_day + llama_tp_with(0) + " " + resumed);
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(holds(result.out, "tokenized by an earlier run"), keeps_tokens);
    expect_equal_bits(metrics("out"), metrics("whole"));
    EXPECT_EQ(metrics("out").back()["eval_loss"], metrics("whole").back()["eval_loss"]);
    for (const char* file : saved_files)
      EXPECT_EQ(whole_file(path(text("out/checkpoint-4/", file))), whole_file(path(text("whole/checkpoint-4/", file))));
  }

  // A checkpoint of a version that saved no date has that of the clock.
  copy_until("whole", 2, "out");
  Json undated = Json::parse(whole_file(state("out/checkpoint-2")));
  undated.erase("date");
  write_file(state("out/checkpoint-2"), undated.dump());
  const CommandResult refused = run_command(next_day + llama_tp_with(0) + " " + resumed);
  EXPECT_TRUE(holds(refused.err, "out/checkpoint-2: its run has --train-file 10 samples")) << refused.err;
  const CommandResult result = run_command(one_day + llama_tp_with(0) + " " + resumed);
  EXPECT_EQ(result.status, 0) << result.err;
  expect_equal_bits(metrics("out"), metrics("whole"));
}

// Checkpoints of earlier versions kept auto_map, which says nothing of the model.
TEST_F(ResumeCommand, TheClassesOfTransformersAreNotTheModels) {
  train(alone, "out", "--max-steps 2");
  Json config = Json::parse(whole_file(path("out/checkpoint-2/config.json")));
  config["auto_map"] = {{"AutoConfig", "configuration_own.OwnConfig"}};
  write_file(path("out/checkpoint-2/config.json"), config.dump());
  train(alone, "out", "--max-steps 3 --resume-from-checkpoint");
  EXPECT_EQ(checkpoint_steps(path("out")), (std::vector<int>{2, 3}));
}

TEST_F(ResumeCommand, NothingIsLeftToDoAfterTheLastStep) {
  train(alone, "out", "--max-steps 3");
  const std::string before = snapshot(path("out"));
  for (const int ranks : {0, 2})
    for (const std::string steps : {"3", "2"})
      EXPECT_TRUE(holds(train({ranks, ""}, "out", "--resume-from-checkpoint --max-steps " + steps),
                        path("out/checkpoint-3"), "3 steps of " + steps, "nothing is left to do", "--max-steps"));
  EXPECT_EQ(snapshot(path("out")), before);
}

}  // namespace
}  // namespace llama_tp
