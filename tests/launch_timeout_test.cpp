// How long ranks wait for one that is late, and what they say of it then.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/uio.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "parallel/mpi_communicator.h"
#include "parallel/mpi_host_group.h"
#include "scratch_folder.h"
#include "support/command.h"
#include "support/roles.h"
#include "support/small_model.h"
#include "train/training_run.h"

namespace llama_tp {
namespace {

// ---- the parts that ranks play

constexpr double late_after = 2;  // seconds
constexpr const char* dumped_gradients = "gradients.safetensors";

void be_late() { std::this_thread::sleep_for(std::chrono::duration<double>(2 * late_after)); }

// The last rank stops, as by SIGSTOP, before or when the others have begun to wait for it.
int one_is_late(const std::string& doing, Launch& launch) {
  launch.set_timeout(late_after, TimeLimited::everything);
  const bool last = launch.rank() == launch.size() - 1;
  if (last && doing == "late from the start") std::raise(SIGSTOP);
  launch.meet();
  const auto comm = make_communicator(launch, launch.all_ranks(), GroupName::tensor, doing == "late across nodes");
  const auto group = make_host_group(launch);
  launch.begin(Activity::training, 7);
  std::vector<float> values(1 << 20);
  const Tensor sum{values.data(), DType::f32, {static_cast<int64_t>(values.size())}};
  comm->all_reduce(sum).wait();
  if (last && doing == "slow, but not late") std::this_thread::sleep_for(std::chrono::duration<double>(late_after / 2));
  if (last && doing != "slow, but not late") std::raise(SIGSTOP);
  if (doing == "late to a text") group->barrier();
  if (doing != "late to the end") comm->all_reduce(sum).wait();
  return 0;
}

// The last rank saves for longer than the limit, and the others wait for it; then, where `how` says so, it computes for as long.
int one_saves_for_long(const std::string& how, Launch& launch) {
  launch.set_timeout(late_after, how.ends_with("limited") ? TimeLimited::everything : TimeLimited::all_but_files);
  const auto group = make_host_group(launch);
  const auto wait_for_the_last = [&] {
    if (launch.rank() == launch.size() - 1) be_late();
    group->barrier();
  };
  launch.begin(Activity::saving, 7);
  wait_for_the_last();
  launch.begin(Activity::training, 8);
  if (how.ends_with("then computes")) wait_for_the_last();
  return 0;
}

// Trains on two replicas, where what uses files is slow (below).
int train_with_slow_files(const std::string& folder, Launch& launch) {
  launch.set_timeout(late_after, TimeLimited::all_but_files);
  TrainingSettings settings;
  settings.config = folder + "/config.json";
  settings.train_file = folder + "/ids.jsonl";
  settings.output_dir = folder + "/out";
  settings.dump_gradients = folder + "/" + dumped_gradients;
  settings.mesh.tensor = 1;
  settings.micro_batch = 2;
  settings.backend = "cpu";
  settings.max_steps = 3;
  settings.save_steps = settings.save_total_limit = 1;
  return run_training(settings, launch);
}

int play(const std::string& role, Launch& launch) {
  if (const std::string slow = "slow files: "; role.starts_with(slow))
    return train_with_slow_files(role.substr(slow.size()), launch);
  if (role.starts_with("saves for long")) return one_saves_for_long(role, launch);
  return one_is_late(role, launch);
}

// ---- the judge

constexpr double soon = 6;  // on machines that run much else

struct Lateness {
  const char* role;
  const char *waits, *late_one;  // what the line says of both
};

class OneRankIsLate : public testing::TestWithParam<Lateness> {};

TEST_P(OneRankIsLate, IsNamedOnceWithItsPlaceAndTheJobEnds) {
  const CommandResult result = run_command(mpirun(3) + as(GetParam().role));
  EXPECT_EQ(result.status, 1);
  EXPECT_GT(result.seconds, late_after);
  EXPECT_LT(result.seconds, late_after + soon);
  EXPECT_EQ(result.count("llama_tp:"), 1) << result.said();
  EXPECT_EQ(result.count(text("waited ", late_after, " s in ", GetParam().waits, " for rank 2 on ")), 1)
      << result.said();
  EXPECT_EQ(result.count(GetParam().late_one), 1) << result.said();
}

INSTANTIATE_TEST_SUITE_P(
    Launch, OneRankIsLate,
    testing::Values(Lateness{"late to a sum", "all_reduce (number 2 of group tensor, 4194304 bytes)",
                             "computing in step 7 after all_reduce (number 1 of group tensor, 4194304 bytes);"},
                    Lateness{"late across nodes", "all_reduce (number 2 of group tensor, 4194304 bytes)",
                             "computing in step 7 after all_reduce (number 1 of group tensor, 4194304 bytes);"},
                    Lateness{"late to a text", "barrier (number 1 of group world)",
                             "computing in step 7 after all_reduce (number 1 of group tensor, 4194304 bytes);"},
                    Lateness{"late to the end", "gather (number 3 of group job)",
                             "computing in step 7 after all_reduce (number 1 of group tensor, 4194304 bytes);"},
                    Lateness{"late from the start", "barrier (number 1 of group job)", "starting;"}),
    [](const auto& test) {
      std::string name = test.param.role;
      std::replace(name.begin(), name.end(), ' ', '_');
      return name;
    });

TEST(Launch, ALateRankOfAnotherHostIsNamedWithItsHost) {
  if (mpirun_on_hosts("hosta:1").empty()) GTEST_SKIP() << "this user may not give the machine other names";
  const CommandResult result = run_command(mpirun_on_hosts("hosta:1,hostb:1") + as("late across nodes"));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.count("for rank 1 on hostb, which cannot be seen from this node; see whether it is stopped"), 1)
      << result.said();
  EXPECT_EQ(result.count("and whether the network between the hosts works, or raise --timeout\n"), 1) << result.said();
}

TEST(Launch, ARankThatComputesForLessThanTheTimeoutIsWaitedFor) {
  EXPECT_EQ(run_command(mpirun(3) + as("slow, but not late")).said(), "");
}

TEST(Launch, WhileFilesAreUsedWaitsHaveNoLimitUnlessItIsForEverything) {
  EXPECT_EQ(run_command(mpirun(3) + as("saves for long")).said(), "");
  const std::string limited = run_command(mpirun(3) + as("saves for long, limited")).said(),
                    later = run_command(mpirun(3) + as("saves for long, then computes")).said();
  EXPECT_NE(limited.find(text("waited ", late_after, " s in barrier (number 1 of group world) for rank 2 on ")),
            std::string::npos)
      << limited;
  EXPECT_NE(limited.find("saving in step 7 after "), std::string::npos) << limited;
  EXPECT_NE(later.find(text("waited ", late_after, " s in barrier (number 2 of group world) for rank 2 on ")),
            std::string::npos)
      << later;
}

// Of whatever rank, and whoever waits for it.
TEST(Launch, ATrainingRunHasNoLimitWhileItOpensItsFolderDumpsGradientsOrRemovesCheckpoints) {
  const ScratchFolder scratch;
  write_file(scratch / "config.json", small_config().dump());
  write_file(scratch / "ids.jsonl", random_id_lines(8, 20, small_vocabulary));
  const CommandResult result = run_command(mpirun(2) + as("slow files: " + scratch.path()));
  EXPECT_EQ(result.status, 0) << result.said();
  EXPECT_GT(result.seconds, 4 * 2 * late_after);  // all were slow; two checkpoints went
  EXPECT_EQ(checkpoint_steps(scratch / "out"), std::vector<int>{3});
}

}  // namespace
}  // namespace llama_tp

// In place of the C library's: late where an output folder is marked, gradients get their name or a checkpoint loses it.
extern "C" ssize_t pwrite(int descriptor, const void* from, size_t bytes, off_t offset) {
  const std::filesystem::path file = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(descriptor));
  if (file.filename() == "llama_tp.json") llama_tp::be_late();
  const iovec piece{const_cast<void*>(from), bytes};
  return pwritev(descriptor, &piece, 1, offset);
}

extern "C" int rename(const char* from, const char* to) noexcept {
  const std::string_view name = to;
  if (name.ends_with(llama_tp::dumped_gradients) || name.ends_with(".partial")) llama_tp::be_late();
  return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int main(int argc, char** argv) { return llama_tp::play_or_judge(argc, argv, llama_tp::play); }
