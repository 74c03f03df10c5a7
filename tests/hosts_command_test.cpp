// Ranks of several hosts, which may have files and disks of their own behind one path, and a network between them.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "support/error_of.h"
#include "support/refusal.h"
#include "support/sound_model.h"

namespace llama_tp {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class Hosts : public SoundModel {
 protected:
  void SetUp() override { fs::create_directories(path("disk")); }
  void TearDown() override {
    for (const char* name : {"new", "a", "b", "c"}) fs::remove_all(path(name));
  }
  // An output folder of this name.
  static void train_into(const std::string& name, const std::string& options) {
    const CommandResult result = run_command(llama_tp_with(0) + " " + train(options, path(name)));
    ASSERT_EQ(result.status, 0) << result.err;
  }
  static std::string train_from(const std::string& name) {
    return "train --train-file " + path("ids.jsonl") + " --output-dir " + path("new") + " --model " + path(name);
  }
};

TEST_F(Hosts, TensorRanksOnDifferentHostsAreNamed) {
  const std::string two_and_two = mpirun_on_hosts("hosta:2,hostb:2");
  if (two_and_two.empty()) GTEST_SKIP() << "this user may not give the machine other names";
  const auto said_of = [&](const std::string& placed, const std::string& options) {
    const CommandResult result = run_command(two_and_two + placed + " " + llama_tp_with(0) + " " + train(options));
    EXPECT_EQ(result.status, 0) << result.err;
    fs::remove_all(path("new"));
    return result.out;
  };
  // Under mpirun out of sight, as srun's ranks are: processes of the same number, which memory of Open MPI's would mix up.
  const std::string by_node = "--map-by node --bind-to none ",
                    of_srun = text(by_node, "--mca btl self,tcp -x SLURM_STEP_ID=0 unshare ",
                                   getuid() == 0 ? "" : "-r ", "--pid --fork");
  const std::string wait = " on hostb wait for the network several times in every layer; ",
                    second = "tensor-parallel ranks 0 on hosta and 1" + wait,
                    third = "tensor-parallel ranks 0 on hosta and 2" + wait,
                    number = "let each host have ranks with consecutive numbers ",
                    fit = "--tensor-parallel 2 would keep them within a host\n";
  EXPECT_TRUE(holds(said_of("", "--tensor-parallel 4"), third + fit));
  EXPECT_TRUE(holds(said_of(by_node, "--tensor-parallel 2"), second + number + "(mpirun --map-by slot)\n"));
  EXPECT_TRUE(holds(said_of(by_node, "--tensor-parallel 4"), second + number + "(mpirun --map-by slot); then " + fit));
#ifndef __clang__  // whose OpenMP takes processes of the same number for one, and aborts
  EXPECT_TRUE(
      holds(said_of(of_srun, "--tensor-parallel 4"), second + number + "(srun --distribution=block); then " + fit));
#endif
  EXPECT_FALSE(holds(said_of("", "--tensor-parallel 2"), "wait for the network"));
}

// Three of a host's ranks would fit, but not the key/value heads.
TEST_F(Hosts, TheSizeThatTensorRanksAreAdvisedIsOneThatTheModelTakes) {
  const std::string three_and_three = mpirun_on_hosts("hosta:3,hostb:3");
  if (three_and_three.empty()) GTEST_SKIP() << "this user may not give the machine other names";
  write_file(
      path("six.json"),
      small_config(
          {{"hidden_size", 48}, {"intermediate_size", 96}, {"num_attention_heads", 6}, {"num_key_value_heads", 2}})
          .dump());
  const CommandResult result = run_command(three_and_three + "--bind-to none " + llama_tp_with(0) + " " +
                                           train("--config " + path("six.json") + " --tensor-parallel 6"));
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(holds(result.out, "--tensor-parallel 1 would keep them within a host\n")) << result.out;
}

// Two ranks, of which the second has a disk of its own in the folder's place, as on another host.
CommandResult on_two_disks(const std::string& folder, const std::string& arguments) {
  const std::string program = llama_tp_with(0) + " " + arguments;
  return lines_of_two(program, with_own_mounts("mount -t tmpfs none " + folder + "; exec " + program));
}

TEST_F(Hosts, AnOutputFolderThatHostsDoNotShareIsNamedAndResumedWhereTheyHaveTheCheckpoint) {
  const std::string disk = path("disk");
  if (run_command(with_own_mounts("mount -t tmpfs none " + disk)).status != 0)
    GTEST_SKIP() << "this user may mount nothing";
  const std::string out = disk + "/out", by_one = " is not shared by rank 1 on ";
  const CommandResult alone = on_two_disks(disk, train("--max-steps 2 --save-steps 1", out));
  EXPECT_EQ(alone.status, 0) << alone.err;
  EXPECT_TRUE(holds(alone.out, out + by_one, ": to go on from a checkpoint, copy it")) << alone.out;
  EXPECT_EQ(checkpoint_steps(out), (std::vector<int>{1, 2}));
  expect_refusal(on_two_disks(disk, train("--max-steps 3 --resume-from-checkpoint latest", out)),
                 {"rank 1 of 2 on ", out + "/checkpoint-2: is not there, but rank 0 on ", "goes on from it; copy"},
                 false);
  const CommandResult shared =
      run_command(llama_tp_with(2) + " " + train("--max-steps 3 --resume-from-checkpoint latest", out));
  EXPECT_EQ(shared.status, 0) << shared.err;
  EXPECT_FALSE(holds(shared.out, "not shared")) << shared.out;

  const CommandResult of_model = on_two_disks(disk, train("--save-only-model", disk + "/model"));
  EXPECT_TRUE(holds(of_model.out, disk + "/model" + by_one)) << of_model.out;
  EXPECT_FALSE(holds(of_model.out, "go on")) << of_model.out;
}

// The family that the checkpoint keeps is known to rank 0's host alone, which does not hide what is missing.
TEST_F(Hosts, ACheckpointIsMissingWhereItIsThoughItKeepsTheFamily) {
  const std::string disk = path("disk"), out = disk + "/family";
  if (run_command(with_own_mounts("mount -t tmpfs none " + disk)).status != 0)
    GTEST_SKIP() << "this user may mount nothing";
  Json family = Json::parse(whole_file("src/model/families/llama.json"));
  family["model_types"] = {"mine"};
  write_file(path("family.json"), family.dump());
  write_file(path("mine.json"), small_config({{"model_type", "mine"}}).dump());
  const std::string run = train("--config " + path("mine.json"), out);
  const CommandResult begun = run_command(llama_tp_with(2) + " " + run + " --family " + path("family.json"));
  ASSERT_EQ(begun.status, 0) << begun.err;
  expect_refusal(on_two_disks(disk, run + " --max-steps 3 --resume-from-checkpoint latest"),
                 {"rank 1 of 2 on ", out + "/checkpoint-2: is not there, but rank 0 on "}, false);
}

// As where a training saves between two ranks' looks into its folder.
TEST_F(Hosts, RanksThatFindDifferentCheckpointsAreRefused) {
  train_into("a", "--max-steps 4 --save-steps 2");
  for (const char* copy : {"b", "c"}) fs::copy(path("a"), path(copy), fs::copy_options::recursive);
  fs::remove_all(path("b/checkpoint-4"));
  const Words words{"rank 1 on ", "found " + path("b/checkpoint-2"), "rank 0 on ", path("a/checkpoint-4"),
                    "name the checkpoint"};
  expect_refusal(on_two(eval(path("a")), eval(path("b"))), words, false);
  expect_refusal(on_two(train_from("a"), train_from("b")), words, false);
  // The same may lie elsewhere on another host.
  EXPECT_EQ(on_two(eval(path("a")), eval(path("c"))).status, 0);
}

TEST_F(Hosts, RanksThatHaveAnotherModelAreRefused) {
  train_into("a", "");
  train_into("b", "--seed 1");
  const Words other_weights{"rank 1 of 2 on ", path("b/checkpoint-2") + ": tensor lm_head.weight is not that",
                            "of rank 0 on ", "copy one model to all hosts"};
  expect_refusal(on_two(eval(path("a")), eval(path("b"))), other_weights, false);
  expect_refusal(on_two(train_from("a"), train_from("b")), other_weights, false);

  write_file(path("wide.json"), small_config({{"intermediate_size", 96}}).dump());
  const Words other_sizes{"rank 1 of 2 on ", path("wide.json") + ": intermediate_size is 96, but 64 for rank 0 on ",
                          "copy one model to all hosts"};
  const std::string wide = "--config " + path("wide.json");
  expect_refusal(on_two(train(""), train(wide)), other_sizes, false);
  expect_refusal(on_two("bench --config " + path("config.json"), "bench " + wide), other_sizes, false);
}

// Ranks with other options would not do the same.
TEST_F(Hosts, AConfigFileIsTheSameForAllRanks) {
  const auto with_seed = [](const std::string& name, int seed) {
    write_file(path(name), Json{{"seed", seed}}.dump());
    return train("--config-file " + path(name));
  };
  expect_refusal(
      on_two(with_seed("one.json", 1), with_seed("two.json", 2)),
      {"rank 1 of 2 on ", "--config-file " + path("two.json") + ": is not what rank 0 on ", "copy one to all hosts"},
      false);
}

TEST_F(Hosts, DefaultsOfSamplingAreRankZeros) {
  fs::copy(path("sound"), path("b"));
  write_file(path("b/generation_config.json"), R"({"temperature": 0.1, "top_k": 1})");
  const auto generate = [](const std::string& model) { return "generate -p Once -n 20 --seed 3 -m " + path(model); };
  EXPECT_EQ(on_two(generate("sound"), generate("b")).out, on_two(generate("sound"), generate("sound")).out);
  EXPECT_NE(on_two(generate("b"), generate("b")).out, on_two(generate("sound"), generate("sound")).out);
}

}  // namespace
}  // namespace llama_tp
