// How ranks start and end together. This program starts mpirun on itself: with --as=ROLE it is a rank that plays a
// part, without it the judge of what mpirun printed and when.
#include "parallel/launch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#define OMPI_SKIP_MPICXX 1  // the C interface alone
#include <mpi.h>
#include <omp.h>
#include <pty.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "parallel/cores.h"
#include "parallel/launcher_process.h"
#include "parallel/mpi_communicator.h"
#include "parallel/mpi_host_group.h"
#include "parallel/shared_memory.h"
#include "scratch_folder.h"
#include "support/command.h"
#include "support/small_model.h"
#include "train/training_run.h"

namespace llama_tp {
namespace {

using Clock = std::chrono::steady_clock;

// ---- the parts that ranks play

std::vector<int> all_ranks(const Launch& launch) {
  std::vector<int> ranks;
  for (int rank = 0; rank < launch.size(); rank++) ranks.push_back(rank);
  return ranks;
}

constexpr double late_after = 2;  // seconds
constexpr const char* dumped_gradients = "gradients.safetensors";

void be_late() { std::this_thread::sleep_for(std::chrono::duration<double>(2 * late_after)); }

// Says that a rank was not killed, but ended by itself.
struct Farewell {
  ~Farewell() { std::fputs("left in good order\n", stderr); }
};

// The last rank fails when the others have begun to do what `doing` says; it tells the judge when.
int one_fails(const std::string& doing, const Launch& launch) {
  const auto comm = make_communicator(launch, all_ranks(launch), GroupName::other, doing == "reduce across nodes");
  const auto group = make_host_group(launch);
  MpiGroup everyone(all_ranks(launch), launch.wait_policy());
  if (launch.rank() == launch.size() - 1) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    std::fprintf(stderr, "failing at %ld\n", static_cast<long>(Clock::now().time_since_epoch().count()));
    throw Error("model.safetensors: the disk is gone");
  }
  const Farewell farewell;
  if (doing == "share memory") {
    std::fprintf(stderr, "process %d\n", static_cast<int>(getpid()));
    const SharedMemory memory(everyone, 1);
  }
  std::vector<float> values(doing == "reduce" ? 10 : 1 << 20);
  while (doing.starts_with("reduce"))
    comm->all_reduce({values.data(), DType::f32, {static_cast<int64_t>(values.size())}}).wait();
  while (doing == "wait for a text") group->barrier();
  while (doing == "wait for all") launch.meet();
  volatile double computed = 0;  // a loop without an effect need not last
  while (doing == "compute") computed = std::sin(computed);
  return 0;
}

// The last rank stops, as by SIGSTOP, before or when the others have begun to wait for it.
int one_is_late(const std::string& doing, Launch& launch) {
  launch.set_timeout(late_after, TimeLimited::everything);
  const bool last = launch.rank() == launch.size() - 1;
  if (last && doing == "late from the start") std::raise(SIGSTOP);
  launch.meet();
  const auto comm = make_communicator(launch, all_ranks(launch), GroupName::tensor, doing == "late across nodes");
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

int print_processors(const Launch& launch) {
  std::ostringstream line;
  line << "rank " << launch.rank() << " threads " << launch.threads() << " of " << omp_get_num_procs();
#pragma omp parallel
#pragma omp critical
  line << " | " << process_status(static_cast<int>(gettid()), "Cpus_allowed_list");
  std::printf("%s\n", line.str().c_str());
  return 0;
}

// Two threads that were started on two cores, and then have one.
int share_a_core() {
  const auto regions = [](int count) {
    for (int i = 0; i < count; i++)
#pragma omp parallel num_threads(2)
      asm volatile("");
  };
  regions(1);
  bind_process({allowed_processors(getpid()).front()});
  const std::clock_t start = std::clock();  // of this process alone, whatever others do
  regions(1000);
  std::printf("seconds %g\n", static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  return 0;
}

int count_to_a_thousand(const Launch& launch) {
  const auto comm = make_communicator(launch, all_ranks(launch));
  double sum = 0;
  for (int round = 0; round < 1000; round++) {
    sum = 1;
    comm->all_reduce({&sum, DType::f64, {1}}).wait();
  }
  if (launch.rank() == 0) std::printf("sum %g yields at once %d\n", sum, launch.wait_policy().yield_at_once);
  return 0;
}

int print_terminal(const Launch& launch) {
  if (launch.rank() == 0) std::fprintf(stderr, "stdout %d\n", launch.stdout_columns());
  return 0;
}

// Half a line, a line on the other stream, and the other half.
int print_in_pieces(const Launch& launch) {
  if (launch.rank() > 0) return 0;
  std::printf("half a ");
  std::fflush(stdout);
  std::fprintf(stderr, "in between\n");
  std::printf("line\n");
  return 0;
}

// "fails at the start: rank 1", or all with "every"
constexpr std::string_view fails_at_start = "fails at the start: rank ";
std::string failing_at_start;

int play(const std::string& role, Launch& launch) {
  if (role == "all fail alike") throw Error("config.json: no such file");
  if (role == "all but rank 0 fail") {
    if (launch.rank() > 0) throw Error("config.json: no such file");
    launch.meet();
  }
  if (role == "all fail differently") throw Error(text("slice ", launch.rank(), " is truncated"));
  if (role == "no memory") throw std::bad_alloc();
  if (role == "processors") return print_processors(launch);
  if (role == "one core for two threads") return share_a_core();
  if (role == "count") return count_to_a_thousand(launch);
  if (role == "ranks of every node") {
    std::printf("%d of every node\n", launch.ranks_of_every_node());
    return 0;
  }
  if (role == "terminal") return print_terminal(launch);
  if (role == "pieces") return print_in_pieces(launch);
  if (role == "status 3") return 3;
  if (role == "mpi") {
    std::printf("mpi %d size %d\n", launch.has_mpi(), launch.size());
    return 0;
  }
  if (role == "wait for ever") {
    std::this_thread::sleep_for(std::chrono::hours(1));
    return 0;
  }
  if (const std::string slow = "slow files: "; role.starts_with(slow))
    return train_with_slow_files(role.substr(slow.size()), launch);
  if (role.starts_with("saves for long")) return one_saves_for_long(role, launch);
  if (role.find("late") != std::string::npos) return one_is_late(role, launch);
  if (role == "one is killed" && launch.rank() > 0) std::raise(SIGKILL);
  if (role == "one is killed") std::this_thread::sleep_for(std::chrono::hours(1));
  return one_fails(role, launch);
}

// ---- the judge

struct Result {
  int status = 0;
  double seconds = 0, seconds_from_failure = 0;
  std::string output;  // stdout and stderr
  int count(const std::string& piece) const {
    int found = 0;
    for (size_t at = output.find(piece); at != std::string::npos; at = output.find(piece, at + 1)) found++;
    return found;
  }
};

// Runs a command with its output on a pipe or on a terminal of 132 columns.
Result run(const std::string& command, bool on_terminal = false) {
  const auto start = Clock::now();
  std::array<int, 2> ends{};
  winsize size{.ws_row = 40, .ws_col = 132, .ws_xpixel = 0, .ws_ypixel = 0};
  const int made = on_terminal ? openpty(&ends[0], &ends[1], nullptr, nullptr, &size) : pipe(ends.data());
  if (made != 0) throw Error("no pipe and no terminal");
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    execl("/bin/sh", "sh", "-c", ("exec " + command).c_str(), nullptr);
    std::_Exit(127);
  }
  close(ends[1]);
  Result result;
  std::array<char, 4096> bytes{};
  for (ssize_t got = 0; (got = read(ends[0], bytes.data(), bytes.size())) > 0;)
    result.output.append(bytes.data(), static_cast<size_t>(got));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (const size_t at = result.output.find("failing at "); at != std::string::npos) {
    const Clock::duration since_epoch(std::atol(result.output.c_str() + at + 11));
    result.seconds_from_failure = std::chrono::duration<double>(Clock::now() - Clock::time_point(since_epoch)).count();
  }
  return result;
}

std::string this_program() { return std::filesystem::read_symlink("/proc/self/exe"); }

std::string as(const std::string& role) { return quoted(this_program()) + " --as=" + quoted(role); }

std::string mpirun(int ranks, const std::string& role, const std::string& options = "") {
  return text("mpirun -np ", ranks, " --oversubscribe ", options, " ", as(role));
}

TEST(Launch, AnErrorOfAllRanksIsPrintedOnce) {
  const Result result = run(mpirun(4, "all fail alike"));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(without_notice(result.output), "llama_tp: config.json: no such file\n");
}

TEST(Launch, DifferentErrorsNameTheirRanks) {
  const Result result = run(mpirun(3, "all fail differently"));
  EXPECT_EQ(result.status, 1);
  for (int rank = 0; rank < 3; rank++) {
    const std::string line = text("llama_tp: rank ", rank, " of 3 on ");
    EXPECT_EQ(result.count(line), 1) << result.output;
    EXPECT_EQ(result.count(text(": slice ", rank, " is truncated\n")), 1) << result.output;
  }
}

TEST(Launch, AnErrorOfSeveralHostsNamesThemAll) {
  if (mpirun_on_hosts("hosta:1").empty()) GTEST_SKIP() << "this user may not give the machine other names";
  const auto said_on = [](const std::string& hosts) {
    const Result result = run(mpirun_on_hosts(hosts) + as("all but rank 0 fail"));
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.count("llama_tp:"), 1) << result.output;
    const size_t at = result.output.find("llama_tp:");
    return at == std::string::npos ? "" : result.output.substr(at, result.output.find('\n', at) - at);
  };
  EXPECT_EQ(said_on("hosta:1,hostb:2"), "llama_tp: ranks 1, 2 of 3 on hostb: config.json: no such file");
  EXPECT_EQ(said_on("hosta:2,hostb:1"), "llama_tp: ranks 1, 2 of 3 on hosta, hostb: config.json: no such file");
}

TEST(Launch, AnErrorAtTheStartIsPrintedWhicheverRankHasIt) {
  for (const int failing : {0, 1}) {
    const Result result = run(mpirun(2, text(fails_at_start, failing)));
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.count("llama_tp: MPI_Iallgather failed: "), 1) << result.output;
    EXPECT_EQ(result.count("llama_tp:"), 1) << result.output;
  }
}

TEST(Launch, AnErrorAtTheStartThatAllRanksHaveIsPrintedOnce) {
  const Result result = run(mpirun(3, text(fails_at_start, "every")));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.count("llama_tp:"), 1) << result.output;
}

TEST(Launch, OutOfMemoryIsAnErrorWithAMend) {
  const Result result = run(mpirun(2, "no memory"));
  EXPECT_EQ(result.count("llama_tp: out of memory; use a smaller batch"), 1) << result.output;
}

// The promise is a second; the rest is for machines that run much else. A rank that nobody stops would take mpirun for
// ever.
constexpr double soon = 6;

class OneRankFails : public testing::TestWithParam<const char*> {};

TEST_P(OneRankFails, IsNamedOnceAndAllStopSoon) {
  const std::string doing = GetParam();
  const Result result = run(mpirun(3, doing));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.count("llama_tp: rank 2 of 3 on "), 1) << result.output;
  EXPECT_EQ(result.count(": model.safetensors: the disk is gone\n"), 1) << result.output;
  EXPECT_EQ(result.count("llama_tp:"), 1) << result.output;
  EXPECT_GT(result.seconds_from_failure, 0);
  EXPECT_LT(result.seconds_from_failure, soon);
  EXPECT_EQ(result.count("left in good order"), doing == "compute" ? 0 : 2) << result.output;
}

INSTANTIATE_TEST_SUITE_P(Launch, OneRankFails,
                         testing::Values("reduce", "reduce much", "reduce across nodes", "wait for a text",
                                         "wait for all", "compute", "end"));

struct Lateness {
  const char* role;
  const char *waits, *late_one;  // what the line says of both
};

class OneRankIsLate : public testing::TestWithParam<Lateness> {};

TEST_P(OneRankIsLate, IsNamedOnceWithItsPlaceAndTheJobEnds) {
  const Result result = run(mpirun(3, GetParam().role));
  EXPECT_EQ(result.status, 1);
  EXPECT_GT(result.seconds, late_after);
  EXPECT_LT(result.seconds, late_after + soon);
  EXPECT_EQ(result.count("llama_tp:"), 1) << result.output;
  EXPECT_EQ(result.count(text("waited ", late_after, " s in ", GetParam().waits, " for rank 2 on ")), 1)
      << result.output;
  EXPECT_EQ(result.count(GetParam().late_one), 1) << result.output;
}

INSTANTIATE_TEST_SUITE_P(
    Launch, OneRankIsLate,
    testing::Values(Lateness{"late to a sum", "all_reduce (number 2 of group tensor, 4194304 bytes)",
                             "computing in step 7 after all_reduce (number 1 of group tensor, 4194304 bytes);"},
                    Lateness{"late across nodes", "all_reduce (number 2 of group tensor, 4194304 bytes)",
                             "computing in step 7 after all_reduce (number 1 of group tensor, 4194304 bytes);"},
                    Lateness{"late to a text", "barrier (number 1 of group world)",
                             "computing in step 7 after all_reduce (number 1 of group tensor, 4194304 bytes);"},
                    Lateness{"late to the end", "gather (number 2 of group job)",
                             "computing in step 7 after all_reduce (number 1 of group tensor, 4194304 bytes);"},
                    Lateness{"late from the start", "barrier (number 1 of group job)", "starting;"}),
    [](const auto& test) {
      std::string name = test.param.role;
      std::replace(name.begin(), name.end(), ' ', '_');
      return name;
    });

TEST(Launch, ARankThatComputesForLessThanTheTimeoutIsWaitedFor) {
  EXPECT_EQ(run(mpirun(3, "slow, but not late")).output, "");
}

TEST(Launch, WhileFilesAreUsedWaitsHaveNoLimitUnlessItIsForEverything) {
  EXPECT_EQ(run(mpirun(3, "saves for long")).output, "");
  const std::string limited = run(mpirun(3, "saves for long, limited")).output,
                    later = run(mpirun(3, "saves for long, then computes")).output;
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
  const Result result = run(mpirun(2, "slow files: " + scratch.path()));
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_GT(result.seconds, 4 * 2 * late_after);  // all were slow; two checkpoints went
  EXPECT_EQ(checkpoint_steps(scratch / "out"), std::vector<int>{3});
}

TEST(Launch, SharedMemoryThatARankDoesNotComeToIsNotLeftBehind) {
  const Result result = run(mpirun(2, "share memory"));
  EXPECT_EQ(result.count("left in good order"), 1) << result.output;
  const size_t at = result.output.find("process ");
  ASSERT_NE(at, std::string::npos) << result.output;
  const std::string name = text("llama_tp.", std::stoi(result.output.substr(at + 8)), ".");
  for (const auto& object : std::filesystem::directory_iterator("/dev/shm"))
    EXPECT_FALSE(object.path().filename().string().starts_with(name)) << object.path();
}

TEST(Launch, AKilledRankEndsTheJob) {
  const Result result = run(mpirun(2, "one is killed"));
  EXPECT_NE(result.status, 0);
  EXPECT_LT(result.seconds, 10);
}

// How many processes of this program (not of another checkout's) play a part.
int processes_as(const std::string& role) {
  int found = 0;
  for (const auto& process : std::filesystem::directory_iterator("/proc")) {
    std::error_code gone;  // or another user's, or none
    if (std::filesystem::read_symlink(process.path() / "exe", gone) != this_program()) continue;
    std::ifstream file(process.path() / "cmdline");
    std::string program, option;
    std::getline(std::getline(file, program, '\0'), option, '\0');
    if (option == "--as=" + role) found++;
  }
  return found;
}

TEST(Launch, NoRankOutlivesAnInterruptedMpirun) {
  for (const char* signal : {"INT", "TERM"}) {
    const Result result = run(text("timeout --foreground -s ", signal, " 1 ", mpirun(2, "wait for ever")));
    EXPECT_NE(result.status, 0);
    EXPECT_LT(result.seconds, 10);
    std::this_thread::sleep_for(std::chrono::seconds(1));
    EXPECT_EQ(processes_as("wait for ever"), 0) << signal;
  }
}

TEST(Launch, AnExitStatusIsHandedOn) {
  EXPECT_EQ(run(as("status 3")).status, 3);
  EXPECT_EQ(run(mpirun(2, "status 3")).status, 3);
}

TEST(Launch, ALoneRankTouchesNoMpiAndFailsPlainly) {
  EXPECT_EQ(run(as("mpi")).output, "mpi 0 size 1\n");
  const Result result = run(as("all fail alike"));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.output, "llama_tp: config.json: no such file\n");
}

// As those that the launcher of another MPI starts.
TEST(Launch, ProcessesThatDoNotFindEachOtherAreNotTakenForOneEach) {
  for (const auto& [name, others] : {std::pair{"PMI_SIZE", "PMI_RANK=1"},
                                     {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID=0"},
                                     {"SLURM_STEP_NUM_TASKS", "SLURM_PTY_PORT=40000 SLURM_TASK_PID=$$"},
                                     {"WORLD_SIZE", "RANK=1"},
                                     {"OMPI_COMM_WORLD_SIZE", "WORLD_SIZE=1 RANK=0"}}) {
    const Result result = run(text("env ", others, " ", name, "=2 ", as("mpi")));
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.count(text("llama_tp: ", name, "=2 says that 2 processes were started, but to MPI each is alone: ",
                                "start them with the mpirun of ")),
              1)
        << result.output;
    EXPECT_EQ(result.count(text("unset ", name, "\n")), 1) << result.output;
    EXPECT_EQ(result.count("\n"), 1) << result.output;
  }
}

TEST(Launch, WhatLaunchersSayOfOthersIsNotOfThisProcess) {
  for (const char* said :
       {"PMI_SIZE=1 PMI_RANK=0 SLURM_STEP_NUM_TASKS=2", "SLURM_NTASKS=2", "SLURM_STEP_NUM_TASKS=1",
        "SLURM_STEP_NUM_TASKS=2 SLURM_PTY_PORT=40000", "SLURM_STEP_NUM_TASKS=2 SLURM_PTY_PORT=40000 SLURM_TASK_PID=1",
        "WORLD_SIZE=2", "WORLD_SIZE=none RANK=0"})
    EXPECT_EQ(run(text("env ", said, " ", as("mpi"))).count(" size 1\n"), 1) << said;
  const Result result = run(text("env PMI_SIZE=3 SLURM_STEP_NUM_TASKS=1 WORLD_SIZE=5 RANK=0 ", mpirun(2, "mpi")));
  EXPECT_EQ(result.count("mpi 1 size 2\n"), 2) << result.output;
  for (const int others : {1, 3}) {
    const Result joined = run(text("mpirun -np 2 --oversubscribe env OMPI_COMM_WORLD_SIZE=", others, " ", as("mpi")));
    EXPECT_EQ(joined.count("mpi 1 size 2\n"), 2) << joined.output;
  }
}

// "rank 0 threads 2 of 2 | 0-1 | 0-1"
struct RankProcessors {
  int threads = 0, seen_by_openmp = 0;
  std::set<std::string> lists;  // of its threads
};

std::map<int, RankProcessors> processors_of_ranks(const std::string& command) {
  std::map<int, RankProcessors> ranks;
  std::istringstream lines(run(command).output);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word, list;
    int rank = 0;
    RankProcessors found;
    words >> word >> rank >> word >> found.threads >> word >> found.seen_by_openmp;
    while (words >> word >> list) found.lists.insert(list);
    ranks[rank] = found;
  }
  return ranks;
}

TEST(Launch, RanksDivideTheCoresAndEachThreadMayUseItsRanksShare) {
  const Processors cores = one_per_core(allowed_processors(getpid()));
  const int available = static_cast<int>(cores.size());
  for (int ranks = 1; ranks <= std::min(4, available); ranks++) {
    const auto found = processors_of_ranks(mpirun(ranks, "processors"));
    ASSERT_EQ(static_cast<int>(found.size()), ranks);
    for (const auto& [rank, processors] : found) {
      Processors share = share_of(cores, rank, ranks);
      std::sort(share.begin(), share.end());
      EXPECT_EQ(processors.threads, std::min(static_cast<int>(share.size()), processor_quota() / ranks));
      EXPECT_EQ(processors.seen_by_openmp, static_cast<int>(share.size()));
      ASSERT_EQ(processors.lists.size(), 1u);
      EXPECT_EQ(parse_processor_list(*processors.lists.begin()), share);
    }
  }
}

TEST(Launch, WhatTheUserSaysAboutThreadsAndBindingHolds) {
  EXPECT_EQ(processors_of_ranks(mpirun(1, "processors", "-x OMP_NUM_THREADS=3"))[0].threads, 3);
  for (const char* limit : {"OMP_THREAD_LIMIT=1", "OMP_MAX_ACTIVE_LEVELS=0"})
    EXPECT_EQ(processors_of_ranks(mpirun(1, "processors", text("-x OMP_NUM_THREADS=3 -x ", limit)))[0].threads, 1)
        << limit;
  const auto expect_one_core = [](const std::string& command) {
    const auto found = processors_of_ranks("env -u OMP_NUM_THREADS " + command);
    ASSERT_TRUE(found.contains(0)) << command;
    EXPECT_EQ(found.at(0).threads, 1) << command;
    EXPECT_EQ(one_per_core(parse_processor_list(*found.at(0).lists.begin())).size(), 1u) << command;
  };
  const std::string bound = "mpirun -np 1 ", processors = " " + as("processors");  // not where --oversubscribe is said
  for (const char* said : {"--bind-to core", "--map-by slot:pe=1", "-map-by core:PE=1"})
    expect_one_core(bound + said + processors);
  const Processors cores = one_per_core(allowed_processors(getpid()));
  EXPECT_EQ(processors_of_ranks(mpirun(1, "processors", "--map-by slot"))[0].seen_by_openmp,
            static_cast<int>(cores.size()));
  for (const char* variable : {"PRTE_MCA_hwloc_default_cpu_list=0 ", "PRTE_MCA_hwloc_default_binding_policy=core "})
    expect_one_core(variable + bound + processors);
  if (run("mpirun --version").output.find("(Open MPI) 4.") == std::string::npos)
    expect_one_core(bound + "--map-by=pe-list=0:ordered" + processors);
  if (mpirun_on_hosts("hosta:1").empty()) GTEST_SKIP() << "this user may not give the machine other names";
  expect_one_core("PRTE_MCA_hwloc_default_binding_policy=core " + mpirun_on_hosts("hosta:1") + as("processors"));
}

// Where its places are bound, the first thread alone is on one core.
TEST(Launch, ThreadsThatOpenMpBindsAreAsManyAsCores) {
  const int cores = static_cast<int>(one_per_core(allowed_processors(getpid())).size());
  for (const std::string& ranks :
       {as("processors"), mpirun(1, "processors"), mpirun(1, "processors", "--bind-to none")})
    for (const std::string bound :
         {"OMP_PROC_BIND=true", "OMP_PLACES=cores", "OMP_PROC_BIND=spread OMP_PLACES=threads"})
      EXPECT_EQ(processors_of_ranks("env -u OMP_NUM_THREADS " + bound + " " + ranks)[0].threads,
                std::min(cores, processor_quota()))
          << bound << " " << ranks;
}

// As when another process has the other core. A region takes 0.05 ms of the processor then, and 7 ms where nothing
// shortens the spinning.
TEST(Launch, ThreadsThatShareACoreLeaveItToEachOther) {
  for (const std::string& ranks : {as("one core for two threads"), mpirun(1, "one core for two threads")}) {
    const Result result = run("env -u OMP_WAIT_POLICY -u OMP_NUM_THREADS " + ranks);
    const size_t at = result.output.find("seconds ");
    ASSERT_NE(at, std::string::npos) << result.output;
    EXPECT_LT(std::stod(result.output.substr(at + 8)), 2) << ranks;
  }
}

TEST(Launch, KnowsWhatDividesTheRanksOfEveryHost) {
  EXPECT_EQ(run(as("ranks of every node")).output, "1 of every node\n");
  EXPECT_EQ(run(mpirun(3, "ranks of every node")).count("3 of every node\n"), 3);
  if (mpirun_on_hosts("hosta:1").empty()) GTEST_SKIP() << "this user may not give the machine other names";
  const auto ranks_on = [](const std::string& hosts) {
    return run(mpirun_on_hosts(hosts) + "--bind-to none " + as("ranks of every node"));
  };
  EXPECT_EQ(ranks_on("hosta:4,hostb:2").count("2 of every node\n"), 6);
  EXPECT_EQ(ranks_on("hosta:2,hostb:1,hostc:1").count("1 of every node\n"), 4);
}

TEST(Launch, MoreRanksThanCoresTakeTurnsQuickly) {
  // mpirun wants three descriptors a rank, of the 1,024 that a process usually may have.
  constexpr int most = 64;
  const int ranks = std::min(most, 4 * static_cast<int>(one_per_core(allowed_processors(getpid())).size()));
  const Result result = run(mpirun(ranks, "count"));
  EXPECT_EQ(result.count(text("sum ", ranks, " yields at once 1")), 1) << result.output;
  EXPECT_LT(result.seconds, 20);  // spinning without yielding takes a time slice a turn: minutes
}

TEST(Launch, TheTerminalIsMpirunsNotTheRanksPty) {
  EXPECT_EQ(run(mpirun(2, "terminal"), false).output, "stdout 0\n");
  EXPECT_EQ(run(mpirun(2, "terminal"), true).count("stdout 132\r\n"), 1);
  EXPECT_EQ(run(mpirun(2, "terminal") + " >/dev/null", true).count("stdout 0\r\n"), 1);
  EXPECT_EQ(run(as("terminal"), false).output, "stdout 0\n");
  EXPECT_EQ(run(as("terminal"), true).count("stdout 132\r\n"), 1);
}

// Where this process may hold a file that its parent has opened, as ranks do with mpirun's; containers often forbid it.
bool may_share_files() {
  const int parent = static_cast<int>(syscall(SYS_pidfd_open, getppid(), 0));
  const int file = static_cast<int>(syscall(SYS_pidfd_getfd, parent, STDERR_FILENO, 0));
  close(file);
  close(parent);
  return file >= 0;
}

// --output: here an option of the program; mpirun has one, too.
TEST(Launch, EachStreamGetsItsPiecesInOrder) {
  const ScratchFolder folder;
  const std::string file = folder / "said", pieces = mpirun(2, "pieces") + " --output", line = "half a line\n",
                    other = "in between\n";
  constexpr int often = 5;  // where two streams race
  for (int times = 0; times < often; times++) {
    EXPECT_EQ(run(pieces + " 2>/dev/null").output, line);
    EXPECT_EQ(run(pieces + " 2>&1 >/dev/null").output, other);
  }
  if (!may_share_files()) GTEST_SKIP() << "here a process may not share what another has opened";
  for (int times = 0; times < often; times++) {
    EXPECT_EQ(run(pieces + " 2>/dev/null >" + file).output, "");
    EXPECT_EQ(whole_file(file), line);
    EXPECT_EQ(run(pieces + " >" + file + " 2>&1").output, "");
    EXPECT_EQ(whole_file(file).size(), line.size() + other.size());  // in whatever order
  }
}

// By a shell in each rank's place.
TEST(Launch, WhatIsRedirectedWithinMpirunGoesThere) {
  const ScratchFolder folder;
  const std::string file = folder / "said", line = "half a line\n", other = "in between\n";
  const auto in_shells = [](const std::string& redirected) {
    return "mpirun -np 2 --oversubscribe sh -c " + quoted(as("pieces") + redirected);
  };
  EXPECT_EQ(run(in_shells(" 2>/dev/null >>" + file)).output, "");
  EXPECT_EQ(whole_file(file), line);
  EXPECT_EQ(run(in_shells(" >/dev/null 2>>" + file) + " 2>&1").output, "");
  EXPECT_EQ(whole_file(file), line + other);
  EXPECT_EQ(run(in_shells(" 2>/dev/null | tr a-z A-Z")).output, "HALF A LINE\n");
  EXPECT_EQ(run(in_shells(" 2>&1 >/dev/null") + " 2>/dev/null").output, other);
  EXPECT_EQ(run(in_shells(" 2>/dev/null >&2") + " >/dev/null").output, "");
  EXPECT_EQ(run(in_shells(" >&2 2>/dev/null") + " 2>&1 >/dev/null").output, line);
}

// A background process of such a terminal that writes is stopped, unless it says otherwise.
TEST(Launch, RanksWriteToATerminalThatStopsTheBackground) {
  const std::string ranks = "stty tostop && exec timeout --foreground 20 " + mpirun(2, "pieces") + " 2>/dev/null";
  const Result result = run("setsid --ctty --wait sh -c " + quoted(ranks) + " <&1", true);
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.output, "half a line\r\n");
}

TEST(Launch, OutputThatIsClosedOrThatNobodyReadsStopsNoRank) {
  EXPECT_EQ(run("timeout 20 " + mpirun(2, "pieces") + " 2>/dev/null >&-").status, 0);
  const ScratchFolder folder;
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  // Its reader goes before a rank opens it.
  EXPECT_NE(
      run("timeout 20 sh -c " + quoted("sleep 0.1 <" + pipe + " & exec " + mpirun(2, "pieces") + " >" + pipe)).status,
      124);
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

// In place of MPI's: the second one, the first of a node, fails on ranks that are to fail.
extern "C" int MPI_Iallgather(const void* part, int count, MPI_Datatype type, void* whole, int count_of_each,
                              MPI_Datatype type_of_each, MPI_Comm comm, MPI_Request* request) {
  static int calls = 0;
  int rank = 0;
  PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const std::string& failing = llama_tp::failing_at_start;
  if (++calls == 2 && (failing == "every" || failing == std::to_string(rank))) return MPI_ERR_OTHER;
  return PMPI_Iallgather(part, count, type, whole, count_of_each, type_of_each, comm, request);
}

int main(int argc, char** argv) {
  using namespace llama_tp;
  const std::string first = argc > 1 ? argv[1] : "";
  if (first.starts_with("--as=")) {
    const std::string role = first.substr(5);
    if (role.starts_with(fails_at_start)) failing_at_start = role.substr(fails_at_start.size());
    Launch launch;
    return launch.guard([&] { return play(role, launch); });
  }
  // As root, in a container, Open MPI wants to be told twice.
  setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
  setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
