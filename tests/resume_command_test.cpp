// `llama_tp train --resume-from-checkpoint`: a run that stopped goes on, on whatever mesh, as if it had never stopped. Of
// the changes from one mesh to another a choice in which each two sizes meet, with LLAMA_TP_TEST_ALL=1 all of them.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "io/files.h"
#include "report/format.h"
#include "scratch_folder.h"
#include "support/command.h"
#include "support/error_of.h"
#include "support/refusal.h"
#include "support/settings.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr MeshOfRanks alone{0, ""}, tensor2{2, ""};

struct Mesh {
  int data, fsdp, tensor;
  std::string options() const {
    return text("--data-parallel ", data, " --fsdp ", fsdp, " --tensor-parallel ", tensor, " ");
  }
  bool operator==(const Mesh&) const = default;
};
constexpr Mesh meshes[] = {{1, 1, 1}, {1, 1, 2}, {2, 1, 1}, {2, 1, 2}, {1, 2, 1}, {1, 2, 2}};

// A run on the first mesh goes on on the second.
struct Change {
  Mesh first, second;
  Values values() const { return {first.data, first.fsdp, first.tensor, second.data, second.fsdp, second.tensor}; }
};

std::vector<Change> all_changes() {
  std::vector<Change> all;
  for (const Mesh& first : meshes)
    for (const Mesh& second : meshes)
      if (first != second) all.push_back({first, second});
  return all;
}

class ResumeCommand : public testing::Test {
 protected:
  ResumeCommand() {
    write_file(path("config.json"), small_config().dump());
    write_file(path("ids.jsonl"), random_id_lines(22, 20, small_vocabulary));
  }

  std::string path(const std::string& name) const { return folder_ / name; }

  // Without the program's name. Later options win.
  std::string arguments(const MeshOfRanks& mesh, const std::string& output, const std::string& options) const {
    return "train --config " + path("config.json") + " --train-file " + path("ids.jsonl") + " --output-dir " +
           path(output) + " --global-batch-size 4 --per-device-train-batch-size 2 --dtype float32 " +
           "--lr-scheduler-type cosine --warmup-steps 3 --learning-rate 2e-3 --weight-decay 0.1 " + mesh.options + " " +
           options;
  }
  CommandResult run(const MeshOfRanks& mesh, const std::string& output, const std::string& options) const {
    return run_command(llama_tp_with(mesh.ranks) + " " + arguments(mesh, output, options));
  }
  // Trains, which must go well, and returns what was printed.
  std::string train(const MeshOfRanks& mesh, const std::string& output, const std::string& options) const {
    const CommandResult result = run(mesh, output, options);
    EXPECT_EQ(result.status, 0) << result.err << result.out;
    return result.out;
  }
  std::string train(const Mesh& mesh, const std::string& output, const std::string& options) const {
    return train({mesh.data * mesh.fsdp * mesh.tensor, ""}, output, mesh.options() + options);
  }
  std::vector<Json> metrics(const std::string& output) const {
    return json_lines(whole_file(path(output + "/metrics.jsonl")));
  }
  int64_t bytes_in(const std::string& folder) const {
    int64_t bytes = 0;
    for (const auto& entry : fs::recursive_directory_iterator(path(folder)))
      if (entry.is_regular_file()) bytes += static_cast<int64_t>(entry.file_size());
    return bytes;
  }
  // What is left of `output` where its run is killed after the save of `step`; metrics.jsonl knows more.
  void copy_until(const std::string& output, int step, const std::string& to) const {
    fs::remove_all(path(to));
    fs::copy(path(output), path(to), fs::copy_options::recursive);
    for (const int later : checkpoint_steps(path(to)))
      if (later > step) fs::remove_all(path(to + "/checkpoint-" + std::to_string(later)));
  }

  ScratchFolder folder_;
};

constexpr int saved_step = 4, all_steps = 14;
const std::string whole_run = "--max-steps 14 --save-steps 4";

void expect_equal_bits(const std::vector<Json>& a, const std::vector<Json>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); i++)
    for (const char* key : {"step", "epoch", "loss", "grad_norm", "learning_rate", "tokens"})
      EXPECT_EQ(a[i][key], b[i][key]) << key << " of line " << i + 1;
}

// A file of each kind that a checkpoint holds.
const char* const saved_files[] = {"model.safetensors", "training_state/m/model.safetensors",
                                   "training_state/v/model.safetensors", "training_state/state.json"};

TEST_F(ResumeCommand, TheNextTenLossesAreThoseOfTheRunThatNeverStoppedOnAnyMesh) {
  const std::vector<Change> chosen = settings_under_test(all_changes());
  for (const Mesh& first : meshes) {
    fs::remove_all(path("whole"));
    train(first, "whole", whole_run);
    const std::vector<Json> whole = metrics("whole");
    ASSERT_EQ(whole.size(), static_cast<size_t>(all_steps));
    const auto go_on = [&](const Mesh& second) {
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

TEST_F(ResumeCommand, SaveTotalLimitKeepsTheNewest) {
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

TEST_F(ResumeCommand, PlanKnowsTheSizeOfACheckpoint) {
  for (const std::string dtype : {"float32", "bfloat16"}) {
    train(Mesh{1, 1, 2}, dtype, "--max-steps 1 --dtype " + dtype);
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

TEST_F(ResumeCommand, SaveOnlyModelLeavesOutTheTrainingStateAndNothingElse) {
  const std::string options = "--max-steps 3 --save-steps 1 --dtype bfloat16 --tokenizer " + small_tokenizer();
  const auto last_checkpoint = [&](const std::string& output) {
    fs::remove_all(path("model"));
    fs::rename(path(output + "/checkpoint-3"), path("model"));
    return snapshot(path("model"));
  };
  for (const Mesh& mesh : {Mesh{1, 1, 1}, Mesh{1, 2, 2}})
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

TEST_F(ResumeCommand, FromACheckpointOfTheModelAloneARunBeginsAnewButDoesNotGoOn) {
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

TEST_F(ResumeCommand, TheLastCheckpointThatARunCanGoOnFromIsNamedBehindOthers) {
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
TEST_F(ResumeCommand, TheCheckpointOfTheBeginningFreesItsRoom) {
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
TEST_F(ResumeCommand, TheCheckpointThatIsTheModelMayGoOnTheWay) {
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

constexpr auto over = fs::copy_options::overwrite_existing;

struct Refusal {
  std::string options;
  Words words;
};

TEST_F(ResumeCommand, ARunThatWouldNotFollowIsRefused) {
  train(alone, "out", "--max-steps 4 --save-steps 2");
  write_file(path("other.jsonl"), random_id_lines(22, 19, small_vocabulary));
  write_file(path("other.json"), small_config({{"rope_theta", 500000}}).dump());
  write_file(path("wider.json"), small_config({{"intermediate_size", 96}}).dump());
  const std::string checkpoint = path("out/checkpoint-4"), before = snapshot(path("out"));
  const Refusal refusals[] = {
      {"--seed 7",
       {checkpoint, "--seed 42", "this one 7", "give the --seed of then",
        "start anew from its weights: --model " + checkpoint + " without --resume-from-checkpoint"}},
      {"--block-size 16", {checkpoint, "--block-size 1024", "16"}},
      {"--global-batch-size 8", {checkpoint, "--global-batch-size 4", "8"}},
      {"--train-file " + path("other.jsonl"), {checkpoint, "--train-file 22 samples, 440 tokens", "418 tokens"}},
      {"--config " + path("other.json"), {checkpoint + "/config.json", "rope_theta is absent", "500000"}},
      {"--config " + path("wider.json"), {checkpoint + "/config.json", "intermediate_size is 64", "96"}},
      {"--resume-from-checkpoint " + path("out/checkpoint-2"), {checkpoint, "after it", "remove it"}},
      {"--resume-from-checkpoint " + path("none"), {"--resume-from-checkpoint " + path("none"), "no such folder"}},
  };
  for (const Refusal& refusal : refusals)
    for (const int ranks : {0, 2})
      expect_refused(ranks, arguments(alone, "out", "--max-steps 6 --resume-from-checkpoint " + refusal.options),
                     refusal.words);
  EXPECT_EQ(snapshot(path("out")), before);
}

// The numbers are those that the program gave for these data when it took them byte by byte.
TEST_F(ResumeCommand, CheckpointsOfEarlierVersionsKnowTheirDataAgain) {
  const std::pair<std::string, std::string> table[] = {
      {"", "22 samples, 440 tokens, fingerprint 15236714399563132623"},
      {" --packing on --block-size 64", "8 samples, 440 tokens, fingerprint 11136197447888429591"}};
  const std::string state = path("out/checkpoint-2/training_state/state.json");
  for (const auto& [options, earlier] : table) {
    fs::remove_all(path("out"));
    train(alone, "out", "--max-steps 2" + options);
    Json json = Json::parse(whole_file(state));
    EXPECT_NE(json["fixed"]["train-file"], earlier);
    json["fixed"]["train-file"] = earlier + "0";
    write_file(state, json.dump());
    const std::string resumed = "--max-steps 3 --resume-from-checkpoint" + options;
    expect_refused(0, arguments(alone, "out", resumed), {"--train-file " + earlier + "0, this one ", "fingerprint v2"});
    json["fixed"]["train-file"] = earlier;
    write_file(state, json.dump());
    train(tensor2, "out", resumed);
    EXPECT_TRUE(fs::exists(path("out/checkpoint-3")));
  }
}

// Some ranks pass the data on to others while one refuses: what they send from must not be gone.
TEST_F(ResumeCommand, ARefusalDoesNotDisturbALargeBroadcast) {
  write_file(path("ids.jsonl"), random_id_lines(4000, 150, small_vocabulary));
  const MeshOfRanks eight{8, "--data-parallel 8 --per-device-train-batch-size 1 --global-batch-size 8"};
  train(eight, "out", "--max-steps 1 --save-steps 1 --seed 1");
  for (int i = 0; i < 3; i++) {
    const CommandResult result = run(eight, "out", "--max-steps 2 --seed 7 --resume-from-checkpoint");
    EXPECT_EQ(result.status, 1);
    EXPECT_TRUE(holds(result.err, "its run has --seed 1, this one 7")) << result.err;
    EXPECT_FALSE(holds(result.err, "Segmentation")) << result.err;
  }
}

TEST_F(ResumeCommand, ADamagedCheckpointIsNamedWithTheDamage) {
  train(alone, "sound", "--max-steps 2 --dtype bfloat16");
  const std::string checkpoint = path("out/checkpoint-2"), state = checkpoint + "/training_state";
  struct Damage {
    std::function<void()> damage;
    Words words;
  };
  const Damage damages[] = {
      {[&] { fs::remove_all(state); }, {checkpoint, "no training_state/state.json", "--model"}},
      {[&] { fs::remove(state + "/state.json"); }, {checkpoint, "no training_state/state.json", "--model"}},
      {[&] { fs::resize_file(state + "/state.json", 40); }, {state + "/state.json", "cut", "copy"}},
      {[&] { write_file(state + "/state.json", R"({"version": 9})"); }, {state + "/state.json", "version 9"}},
      {[&] { fs::remove_all(state + "/v"); }, {state + "/v", "incomplete", "copy"}},
      {[&] { fs::remove(state + "/rest/model.safetensors"); }, {state + "/rest", "incomplete", "copy"}},
      {[&] { fs::resize_file(state + "/m/model.safetensors", 90000); }, {state + "/m/model.safetensors", "cut"}},
      {[&] { fs::remove(checkpoint + "/model.safetensors"); }, {checkpoint, "model.safetensors", "incomplete"}},
      {[&] { fs::copy_file(state + "/m/model.safetensors", state + "/rest/model.safetensors", over); },
       {state + "/rest/model.safetensors", "F32", "I16", "copy"}},
      {[&] {
         train(alone, "wide", "--max-steps 2 --config " + path("wide.json"));
         fs::copy_file(path("wide/checkpoint-2/training_state/v/model.safetensors"), state + "/v/model.safetensors",
                       over);
       },
       {state + "/v/model.safetensors", "mlp", "has shape [96, 32]", "[64, 32]"}},
  };
  write_file(path("wide.json"), small_config({{"intermediate_size", 96}}).dump());
  for (const Damage& damage : damages) {
    copy_until("sound", 2, "out");
    damage.damage();
    const std::string before = snapshot(path("out"));
    for (const int ranks : {0, 2})
      expect_refused(ranks, arguments(alone, "out", "--max-steps 4 --dtype bfloat16 --resume-from-checkpoint"),
                     damage.words);
    EXPECT_EQ(snapshot(path("out")), before);
  }
}

}  // namespace
}  // namespace llama_tp
