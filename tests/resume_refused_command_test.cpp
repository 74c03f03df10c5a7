// `llama_tp train --resume-from-checkpoint` refuses what would not be the same run, and checkpoints that are damaged.
#include <gtest/gtest.h>

#include <functional>

#include "io/files.h"
#include "support/error_of.h"
#include "support/refusal.h"
#include "trained_runs.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

class ResumeRefused : public TrainedRuns {};

constexpr auto over = fs::copy_options::overwrite_existing;

struct Refusal {
  std::string options;
  Words words;
};

TEST_F(ResumeRefused, ARunThatWouldNotFollowIsRefused) {
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
TEST_F(ResumeRefused, CheckpointsOfEarlierVersionsKnowTheirDataAgain) {
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
TEST_F(ResumeRefused, ARefusalDoesNotDisturbALargeBroadcast) {
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

TEST_F(ResumeRefused, ADamagedCheckpointIsNamedWithTheDamage) {
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
