// What a machine or its administrator may not give: room on a disk, files of any size, permissions, /dev/shm, /proc.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "support/error_of.h"
#include "support/refusal.h"
#include "support/sound_model.h"

namespace llama_tp {
namespace {

namespace fs = std::filesystem;

class Surroundings : public SoundModel {
 protected:
  void TearDown() override { fs::remove_all(path("new")); }
};

TEST_F(Surroundings, AFileThatMayNotGrowEndsARunWithoutATrace) {
  const CommandResult result = run_command("ulimit -f 100; " + llama_tp_with(0) + " " + train(""));  // 100 KiB of 200
  expect_refusal(result, {path("new/checkpoint-2.partial/model.safetensors"), "may not grow by", "ulimit -f"}, true);
  EXPECT_TRUE(checkpoint_steps(path("new")).empty());
  EXPECT_FALSE(fs::exists(path("new/checkpoint-2.partial")));
}

TEST_F(Surroundings, MetricsThatMayNotGrowNameTheLimit) {
  const CommandResult result =
      run_command("ulimit -f 1; " + llama_tp_with(0) + " " + train("--max-steps 20 --logging-steps 20"));
  expect_refusal(result, {path("new/metrics.jsonl"), "may not grow by", "ulimit -f"}, true);
}

class WithOwnMounts : public Surroundings {
 protected:
  void SetUp() override {
    fs::create_directory(folder_);
    if (run_command(with_own_mounts("mount -t tmpfs none " + folder_)).status != 0)
      GTEST_SKIP() << "this user may mount nothing";
  }

  const std::string folder_ = path("mounted");
};

class OnASmallDisk : public WithOwnMounts {
 protected:
  // Runs it in the place of a disk of this size, of which the folder out becomes new/.
  CommandResult train_there(int ranks, const std::string& size, const std::string& options) const {
    return run_command(with_own_mounts("mount -t tmpfs -o size=" + size + " none " + folder_ + "; " +
                                       llama_tp_with(ranks) + " " + train(options, folder_ + "/out") +
                                       "; status=$?; cp -r " + folder_ + "/out " + path("new") + "; exit $status"));
  }
};

TEST_F(OnASmallDisk, TheSaveThatFindsItFullEndsTheRunAndSparesItsCheckpoints) {
  for (const int ranks : {0, 2}) {
    const CommandResult result = train_there(ranks, "1500k", "--save-steps 1 --max-steps 4");
    expect_refusal(result, {"/checkpoint-3.partial/", "the disk is full: ", " bytes are needed, ", " are free"},
                   ranks == 0);
    EXPECT_TRUE(holds(result.out, " each; 4 to come, all stay; 1.46 MiB are free\n",
                      "room for 2 of the 4 that will be there at once"));
    EXPECT_EQ(checkpoint_steps(path("new")), (std::vector<int>{1, 2}));
    EXPECT_FALSE(fs::exists(path("new/checkpoint-3.partial")));
    EXPECT_EQ(run_command(llama_tp_with(0) + " " + eval(path("new"))).status, 0);
    fs::remove_all(path("new"));
  }
}

TEST_F(OnASmallDisk, ARunWhoseFirstCheckpointWillNotFitDoesNotBegin) {
  for (const int ranks : {0, 2}) {
    expect_refusal(train_there(ranks, "500k", ""),
                   {"/out: the disk has no room for a checkpoint: ", " are needed, ", " KiB are free; ",
                    "--save-only-model: ", "or choose another --output-dir"},
                   ranks == 0);
    EXPECT_FALSE(fs::exists(path("new/metrics.jsonl")));
    fs::remove_all(path("new"));
    const CommandResult small = train_there(ranks, "500k", "--save-only-model --save-steps 1 --save-total-limit 1");
    EXPECT_EQ(small.status, 0) << small.err;
    EXPECT_TRUE(holds(small.out, "of the model alone; 2 to come, the newest 1 stay; "));
    EXPECT_FALSE(holds(small.out, "at once"));
    fs::remove_all(path("new"));
  }
  const CommandResult least = train_there(0, "100k", "--save-only-model");
  expect_refusal(least, {"no room for a checkpoint", " are free; free some or choose another --output-dir"}, true);
}

#if !defined(__clang__)  // whose OpenMP ends the program where it finds no /dev/shm for itself
TEST_F(WithOwnMounts, RanksThatFindNoPlaceForWhatTheyShareSayWhichItIs) {
  const std::string here = llama_tp_with(2) + " " + train("");
  const auto expect_said = [](const std::string& line, const Words& words) {
    const CommandResult result = run_command(with_own_mounts(line));
    expect_refusal(result, words, false);
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;  // nothing of MPI_Abort's
  };
  expect_said("mount -t tmpfs -o ro none /dev/shm; " + here,
              {"/dev/shm: ", "Read-only file system; see that each rank may make files there"});
  const std::string devices =
      "cd " + folder_ + "; mount -t tmpfs none $PWD; cd $PWD; mkdir pts; mount --bind /dev/pts pts; " +
      "ln -s pts/ptmx ptmx; ln -s /proc/self/fd fd; for device in null zero random urandom; do touch $device; " +
      "mount --bind /dev/$device $device; done; mount --rbind $PWD /dev; cd " + quoted(fs::current_path()) + "; ";
  expect_said(devices + here,
              {"/dev/shm: ", "there is no /dev/shm here; mount it: mount -t tmpfs -o size=1g tmpfs /dev/shm"});
}
#endif

#if !defined(__SANITIZE_ADDRESS__)  // which reads /proc itself
TEST_F(WithOwnMounts, WithoutProcARunGoesOnAndSaysNothingOfResidentMemory) {
  // The second one would start itself again. The shell stays: LLVM's OpenMP looks in /proc where a process of its number,
  // here this test's, has ended before it.
  for (const char* places : {"", "env -u GOMP_SPINCOUNT OMP_PLACES=cores "}) {
    const CommandResult result = run_command(with_own_mounts(text("mount -t tmpfs none /proc; ", places) +
                                                             llama_tp_with(0) + " " + train("") + "; exit $?"));
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
    EXPECT_FALSE(holds(result.out, "resident"));
    EXPECT_TRUE(json_lines(whole_file(path("new/memory.json")))[0]["resident"][0].is_null());
    fs::remove_all(path("new"));
  }
}
#endif

// A folder that nobody may search, one that nobody may fill and a file that nobody may write.
class WithinPermissions : public Surroundings {
 protected:
  void SetUp() override {
    for (const std::string& folder : {closed_, kept_}) fs::create_directory(folder);
    write_file(written_, "");
    if (run_command(within_permissions() + "true").status != 0) GTEST_SKIP() << "this user cannot give up being root";
    fs::permissions(closed_, fs::perms::none);
    fs::permissions(kept_, fs::perms::owner_read | fs::perms::owner_exec);
    fs::permissions(written_, fs::perms::owner_read);
  }
  void TearDown() override {
    for (const std::string& each : {closed_, kept_, written_}) fs::permissions(each, fs::perms::owner_all);
    Surroundings::TearDown();
  }
  static void expect_refused_within(const std::string& arguments, const Words& words) {
    SCOPED_TRACE(arguments);
    expect_refusal(run_command(within_permissions() + llama_tp_with(0) + " " + arguments), words, true);
  }

  const std::string closed_ = path("closed"), kept_ = path("kept"), written_ = path("written");
};

TEST_F(WithinPermissions, APathInAFolderThatMayNotBeSearchedIsNotSaidToBeAbsent) {
  const std::string there = closed_ + "/there", cannot = ": cannot be looked at: Permission denied; let this user";
  for (const std::string& arguments :
       {train("", there), train("--tokenizer " + there), train("--dump-gradients " + there + "/file"),
        train("--resume-from-checkpoint " + there), "tokenize -p Hello -m " + there, "generate -p Hello -m " + there,
        "inspect -m " + there, eval(there), eval(path("sound")) + " --dump-logits " + there, "plan --config " + there})
    expect_refused_within(arguments, {there, cannot});
  const std::string model =
      damaged([&](const std::string& folder) { fs::create_symlink(there, folder + "/special_tokens_map.json"); });
  expect_refused_within("tokenize -p Hello -m " + model, {model + "/special_tokens_map.json" + cannot});
  fs::permissions(closed_, fs::perms::owner_all);
  fs::copy(path("config.json"), closed_);
  fs::permissions(closed_, fs::perms::owner_exec);
  expect_refused_within(eval(closed_), {closed_, ": cannot list the folder: Permission denied"});
}

TEST_F(WithinPermissions, WhatBenchMayNotWriteItSaysBeforeItMeasures) {
  const std::string bench = "bench --config " + path("config.json") + " ", compare = bench + "--compare tp=1 ";
  for (const std::string& option : {"--report " + kept_ + "/page.html", "--report " + written_,
                                    "--trace " + kept_ + "/trace.json", "--report-svg " + kept_})
    expect_refused_within(compare + option, {option + ": this user may not write there; name another"});
  const std::string tune = "--tune-products ", of_kept = tune + kept_ + "/products.json";
  expect_refused_within(bench + of_kept, {of_kept + ": this user may not write there; name another"});
  // Another file takes this one's place.
  expect_refused_within(bench + "--backend cpu " + tune + written_, {"the CPU backend has no products to choose for"});
  const std::string link = path("link");
  for (const std::string& folder : {kept_, path("none")}) {
    fs::create_symlink(folder + "/page.html", link);
    expect_refused_within(compare + "--report " + link, {"--report " + link + ": this user may not write there"});
    fs::remove(link);
  }
}

}  // namespace
}  // namespace llama_tp
