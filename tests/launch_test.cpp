// How ranks start together and end together, whichever of them fails.
#include "parallel/launch.h"

#include <gtest/gtest.h>
#define OMPI_SKIP_MPICXX 1  // the C interface alone
#include <mpi.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/error.h"
#include "parallel/launcher_variables.h"
#include "parallel/mpi_communicator.h"
#include "parallel/mpi_host_group.h"
#include "parallel/shared_memory.h"
#include "support/command.h"
#include "support/roles.h"

namespace llama_tp {
namespace {

using Clock = std::chrono::steady_clock;

// ---- the parts that ranks play

// Says that a rank was not killed, but ended by itself.
struct Farewell {
  ~Farewell() { std::fputs("left in good order\n", stderr); }
};

// The last rank fails when the others have begun to do what `doing` says; it tells the judge when.
int one_fails(const std::string& doing, const Launch& launch) {
  const auto comm = make_communicator(launch, launch.all_ranks(), GroupName::other, doing == "reduce across nodes");
  const auto group = make_host_group(launch);
  MpiGroup everyone(launch.all_ranks(), launch.wait_policy());
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

// A variable that names the rank that fails at the start, or "every".
constexpr const char* failing_at_start = "LAUNCH_TEST_FAILING_AT_START";

int play(const std::string& role, Launch& launch) {
  if (role == "all fail alike") throw Error("config.json: no such file");
  if (role == "all but rank 0 fail") {
    if (launch.rank() > 0) throw Error("config.json: no such file");
    launch.meet();
  }
  if (role == "all fail differently") throw Error(text("slice ", launch.rank(), " is truncated"));
  if (role == "no memory") throw std::bad_alloc();
  if (role == "ranks of every node") {
    std::printf("%d of every node\n", launch.ranks_of_every_node());
    return 0;
  }
  if (role == "status 3") return 3;
  if (role == "starter") {
    std::printf("%s %d\n", launch.starter(), launch.size());
    return 0;
  }
  if (role == "mpi") {
    std::printf("mpi %d size %d\n", launch.has_mpi(), launch.size());
    return 0;
  }
  if (role == "one is killed" && launch.rank() > 0) std::raise(SIGKILL);
  if (role == "one is killed" || role == "wait for ever") std::this_thread::sleep_for(std::chrono::hours(1));
  return one_fails(role, launch);
}

// ---- the judge

TEST(Launch, AnErrorOfAllRanksIsPrintedOnce) {
  const CommandResult result = run_command(mpirun(4) + as("all fail alike"));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(without_notice(result.said()), "llama_tp: config.json: no such file\n");
}

TEST(Launch, DifferentErrorsNameTheirRanks) {
  const CommandResult result = run_command(mpirun(3) + as("all fail differently"));
  EXPECT_EQ(result.status, 1);
  for (int rank = 0; rank < 3; rank++) {
    const std::string line = text("llama_tp: rank ", rank, " of 3 on ");
    EXPECT_EQ(result.count(line), 1) << result.said();
    EXPECT_EQ(result.count(text(": slice ", rank, " is truncated\n")), 1) << result.said();
  }
}

TEST(Launch, AnErrorOfSeveralHostsNamesThemAll) {
  if (mpirun_on_hosts("hosta:1").empty()) GTEST_SKIP() << "this user may not give the machine other names";
  const auto said_on = [](const std::string& hosts) {
    const CommandResult result = run_command(mpirun_on_hosts(hosts) + as("all but rank 0 fail"));
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.count("llama_tp:"), 1) << result.said();
    const size_t at = result.err.find("llama_tp:");
    return at == std::string::npos ? "" : result.err.substr(at, result.err.find('\n', at) - at);
  };
  EXPECT_EQ(said_on("hosta:1,hostb:2"), "llama_tp: ranks 1, 2 of 3 on hostb: config.json: no such file");
  EXPECT_EQ(said_on("hosta:2,hostb:1"), "llama_tp: ranks 1, 2 of 3 on hosta, hostb: config.json: no such file");
}

TEST(Launch, AnErrorAtTheStartIsPrintedWhicheverRankHasIt) {
  for (const int failing : {0, 1}) {
    const CommandResult result = run_command(text(failing_at_start, "=", failing, " ", mpirun(2), as("mpi")));
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.count("llama_tp: MPI_Iallgather failed: "), 1) << result.said();
    EXPECT_EQ(result.count("llama_tp:"), 1) << result.said();
  }
}

TEST(Launch, AnErrorAtTheStartThatAllRanksHaveIsPrintedOnce) {
  const CommandResult result = run_command(text(failing_at_start, "=every ", mpirun(3), as("mpi")));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.count("llama_tp:"), 1) << result.said();
}

TEST(Launch, OutOfMemoryIsAnErrorWithAMend) {
  const CommandResult result = run_command(mpirun(2) + as("no memory"));
  EXPECT_EQ(result.count("llama_tp: out of memory; use a smaller batch"), 1) << result.said();
}

// The promise is a second; the rest is for machines that run much else. A rank that nobody stops would take mpirun for
// ever.
constexpr double soon = 6;

// Since a rank failed, which has told when.
double seconds_since_failure(const CommandResult& result) {
  const std::string told = "failing at ";
  const size_t at = result.err.find(told);
  if (at == std::string::npos) return 0;
  const Clock::duration since_epoch(std::atol(result.err.c_str() + at + told.size()));
  return std::chrono::duration<double>(Clock::now() - Clock::time_point(since_epoch)).count();
}

class OneRankFails : public testing::TestWithParam<const char*> {};

TEST_P(OneRankFails, IsNamedOnceAndAllStopSoon) {
  const std::string doing = GetParam();
  const CommandResult result = run_command(mpirun(3) + as(doing));
  const double seconds = seconds_since_failure(result);
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.count("llama_tp: rank 2 of 3 on "), 1) << result.said();
  EXPECT_EQ(result.count(": model.safetensors: the disk is gone\n"), 1) << result.said();
  EXPECT_EQ(result.count("llama_tp:"), 1) << result.said();
  EXPECT_GT(seconds, 0);
  EXPECT_LT(seconds, soon);
  EXPECT_EQ(result.count("left in good order"), doing == "compute" ? 0 : 2) << result.said();
}

INSTANTIATE_TEST_SUITE_P(Launch, OneRankFails,
                         testing::Values("reduce", "reduce much", "reduce across nodes", "wait for a text",
                                         "wait for all", "compute", "end"));

TEST(Launch, SharedMemoryThatARankDoesNotComeToIsNotLeftBehind) {
  const CommandResult result = run_command(mpirun(2) + as("share memory"));
  EXPECT_EQ(result.count("left in good order"), 1) << result.said();
  const size_t at = result.err.find("process ");
  ASSERT_NE(at, std::string::npos) << result.said();
  const std::string name = text("llama_tp.", std::stoi(result.err.substr(at + 8)), ".");
  for (const auto& object : std::filesystem::directory_iterator("/dev/shm"))
    EXPECT_FALSE(object.path().filename().string().starts_with(name)) << object.path();
}

TEST(Launch, AKilledRankEndsTheJob) {
  const CommandResult result = run_command(mpirun(2) + as("one is killed"));
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
    const CommandResult result =
        run_command(text("timeout --foreground -s ", signal, " 1 ", mpirun(2), as("wait for ever")));
    EXPECT_NE(result.status, 0);
    EXPECT_LT(result.seconds, 10);
    std::this_thread::sleep_for(std::chrono::seconds(1));
    EXPECT_EQ(processes_as("wait for ever"), 0) << signal;
  }
}

TEST(Launch, AnExitStatusIsHandedOn) {
  EXPECT_EQ(run_command(as("status 3")).status, 3);
  EXPECT_EQ(run_command(mpirun(2) + as("status 3")).status, 3);
}

TEST(Launch, ALoneRankTouchesNoMpiAndFailsPlainly) {
  EXPECT_EQ(run_command(as("mpi")).said(), "mpi 0 size 1\n");
  const CommandResult result = run_command(as("all fail alike"));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.said(), "llama_tp: config.json: no such file\n");
}

// As those that the launcher of another MPI starts.
TEST(Launch, ProcessesThatDoNotFindEachOtherAreNotTakenForOneEach) {
  for (const auto& [name, others] : {std::pair{"PMI_SIZE", "PMI_RANK=1"},
                                     {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID=0"},
                                     {"SLURM_STEP_NUM_TASKS", "SLURM_PTY_PORT=40000 SLURM_TASK_PID=$$"},
                                     {"WORLD_SIZE", "RANK=1"},
                                     {"OMPI_COMM_WORLD_SIZE", "WORLD_SIZE=1 RANK=0"}}) {
    const CommandResult result = run_command(text("exec env ", others, " ", name, "=2 ", as("mpi")));
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.count(text("llama_tp: ", name, "=2 says that 2 processes were started, but to MPI each is alone: ",
                                "start them with the mpirun of ")),
              1)
        << result.said();
    EXPECT_EQ(result.count(text("unset ", name, "\n")), 1) << result.said();
    EXPECT_EQ(result.count("\n"), 1) << result.said();
  }
}

TEST(Launch, AnMpiIsCalledByItsNameAndVersion) {
  EXPECT_EQ(name_of_mpi("Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4"), "Open MPI v4.1.4");
  EXPECT_EQ(name_of_mpi("MPICH Version:\t4.0.2\nMPICH Release date:\tThu Apr  7"), "MPICH Version: 4.0.2");
}

TEST(Launch, WhatLaunchersSayOfOthersIsNotOfThisProcess) {
  for (const char* said :
       {"PMI_SIZE=1 PMI_RANK=0 SLURM_STEP_NUM_TASKS=2", "SLURM_NTASKS=2", "SLURM_STEP_NUM_TASKS=1",
        "SLURM_STEP_NUM_TASKS=2 SLURM_PTY_PORT=40000", "SLURM_STEP_NUM_TASKS=2 SLURM_PTY_PORT=40000 SLURM_TASK_PID=1",
        "WORLD_SIZE=2", "WORLD_SIZE=none RANK=0"})
    EXPECT_EQ(run_command(text("env ", said, " ", as("mpi"))).count(" size 1\n"), 1) << said;
  const CommandResult result =
      run_command(text("env PMI_SIZE=3 SLURM_STEP_NUM_TASKS=1 WORLD_SIZE=5 RANK=0 ", mpirun(2), as("mpi")));
  EXPECT_EQ(result.count("mpi 1 size 2\n"), 2) << result.said();
  for (const int others : {1, 3}) {
    const CommandResult joined = run_command(text(mpirun(2), "env OMPI_COMM_WORLD_SIZE=", others, " ", as("mpi")));
    EXPECT_EQ(joined.count("mpi 1 size 2\n"), 2) << joined.said();
  }
}

TEST(Launch, KnowsWhatDividesTheRanksOfEveryHost) {
  EXPECT_EQ(run_command(as("ranks of every node")).said(), "1 of every node\n");
  EXPECT_EQ(run_command(mpirun(3) + as("ranks of every node")).count("3 of every node\n"), 3);
  if (mpirun_on_hosts("hosta:1").empty()) GTEST_SKIP() << "this user may not give the machine other names";
  const auto ranks_on = [](const std::string& hosts) {
    return run_command(mpirun_on_hosts(hosts) + "--bind-to none " + as("ranks of every node"));
  };
  EXPECT_EQ(ranks_on("hosta:4,hostb:2").count("2 of every node\n"), 6);
  EXPECT_EQ(ranks_on("hosta:2,hostb:1,hostc:1").count("1 of every node\n"), 4);
}

TEST(Launch, WhoHasStartedTheRanksIsSaidByName) {
  EXPECT_EQ(run_command(as("starter")).said(), "you started 1\n");
  EXPECT_EQ(run_command("env PMI_SIZE=1 SLURM_STEP_ID=0 " + as("starter")).said(), "srun started 1\n");
  const std::string within_a_step = "env SLURM_STEP_ID=0 ";
  EXPECT_EQ(run_command(within_a_step + mpirun(2) + as("starter")).count("mpirun started 2\n"), 2);
}

}  // namespace
}  // namespace llama_tp

// In place of MPI's: the second one, the first of a node, fails on ranks that are to fail.
extern "C" int MPI_Iallgather(const void* part, int count, MPI_Datatype type, void* whole, int count_of_each,
                              MPI_Datatype type_of_each, MPI_Comm comm, MPI_Request* request) {
  static int calls = 0;
  int rank = 0;
  PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const char* named = std::getenv(llama_tp::failing_at_start);
  const std::string failing = named == nullptr ? "" : named;
  if (++calls == 2 && (failing == "every" || failing == std::to_string(rank))) return MPI_ERR_OTHER;
  return PMPI_Iallgather(part, count, type, whole, count_of_each, type_of_each, comm, request);
}

int main(int argc, char** argv) { return llama_tp::play_or_judge(argc, argv, llama_tp::play); }
