// The cores and threads that ranks take, and how they share them.
#include <gtest/gtest.h>
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <map>
#include <set>
#include <sstream>

#include "parallel/cores.h"
#include "parallel/launcher_process.h"
#include "parallel/mpi_communicator.h"
#include "support/command.h"
#include "support/roles.h"

namespace llama_tp {
namespace {

// ---- the parts that ranks play

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
  const auto comm = make_communicator(launch, launch.all_ranks());
  double sum = 0;
  for (int round = 0; round < 1000; round++) {
    sum = 1;
    comm->all_reduce({&sum, DType::f64, {1}}).wait();
  }
  if (launch.rank() == 0) std::printf("sum %g yields at once %d\n", sum, launch.wait_policy().yield_at_once);
  return 0;
}

int play(const std::string& role, Launch& launch) {
  if (role == "one core for two threads") return share_a_core();
  return role == "count" ? count_to_a_thousand(launch) : print_processors(launch);
}

// ---- the judge

// Of a rank that says "rank 0 threads 2 of 2 | 0-1 | 0-1".
struct RankProcessors {
  int threads = 0, seen_by_openmp = 0;
  std::set<std::string> lists;  // of its threads
};

// Where nobody says how many threads there are, unless the command does.
std::map<int, RankProcessors> processors_of_ranks(const std::string& command) {
  std::map<int, RankProcessors> ranks;
  std::istringstream lines(run_command("env -u OMP_NUM_THREADS " + command).out);
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
    const auto found = processors_of_ranks(mpirun(ranks) + as("processors"));
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
  EXPECT_EQ(processors_of_ranks(mpirun(1) + "-x OMP_NUM_THREADS=3 " + as("processors"))[0].threads, 3);
  for (const char* limit : {"OMP_THREAD_LIMIT=1", "OMP_MAX_ACTIVE_LEVELS=0"})
    EXPECT_EQ(processors_of_ranks(text(mpirun(1), "-x OMP_NUM_THREADS=3 -x ", limit, " ", as("processors")))[0].threads,
              1)
        << limit;
  const auto expect_one_core = [](const std::string& command) {
    const auto found = processors_of_ranks(command);
    ASSERT_TRUE(found.contains(0)) << command;
    EXPECT_EQ(found.at(0).threads, 1) << command;
    EXPECT_EQ(one_per_core(parse_processor_list(*found.at(0).lists.begin())).size(), 1u) << command;
  };
  const std::string bound = "mpirun -np 1 ", processors = " " + as("processors");  // not where --oversubscribe is said
  for (const char* said : {"--bind-to core", "--map-by slot:pe=1", "-map-by core:PE=1"})
    expect_one_core(bound + said + processors);
  const Processors cores = one_per_core(allowed_processors(getpid()));
  EXPECT_EQ(processors_of_ranks(mpirun(1) + "--map-by slot " + as("processors"))[0].seen_by_openmp,
            static_cast<int>(cores.size()));
  for (const char* variable : {"PRTE_MCA_hwloc_default_cpu_list=0 ", "PRTE_MCA_hwloc_default_binding_policy=core "})
    expect_one_core(variable + bound + processors);
  if (run_command("mpirun --version").out.find("(Open MPI) 4.") == std::string::npos)
    expect_one_core(bound + "--map-by=pe-list=0:ordered" + processors);
  if (mpirun_on_hosts("hosta:1").empty()) GTEST_SKIP() << "this user may not give the machine other names";
  expect_one_core("PRTE_MCA_hwloc_default_binding_policy=core " + mpirun_on_hosts("hosta:1") + as("processors"));
}

// Where its places are bound, the first thread alone is on one core.
TEST(Launch, ThreadsThatOpenMpBindsAreAsManyAsCores) {
#ifdef __clang__
  GTEST_SKIP() << "oneDNN's libgomp binds the first thread, of which clang's OpenMP then counts one core";
#endif
  const int cores = static_cast<int>(one_per_core(allowed_processors(getpid())).size());
  for (const std::string& ranks :
       {as("processors"), mpirun(1) + as("processors"), mpirun(1) + "--bind-to none " + as("processors")})
    for (const std::string bound :
         {"OMP_PROC_BIND=true", "OMP_PLACES=cores", "OMP_PROC_BIND=spread OMP_PLACES=threads"})
      EXPECT_EQ(processors_of_ranks(bound + " " + ranks)[0].threads, std::min(cores, processor_quota()))
          << bound << " " << ranks;
}

// As when another process has the other core. A region takes 0.05 ms of the processor then, and 7 ms where nothing
// shortens the spinning.
TEST(Launch, ThreadsThatShareACoreLeaveItToEachOther) {
  for (const std::string& ranks : {as("one core for two threads"), mpirun(1) + as("one core for two threads")}) {
    const CommandResult result = run_command("env -u OMP_WAIT_POLICY -u OMP_NUM_THREADS " + ranks);
    const size_t at = result.out.find("seconds ");
    ASSERT_NE(at, std::string::npos) << result.said();
    EXPECT_LT(std::stod(result.out.substr(at + 8)), 2) << ranks;
  }
}

TEST(Launch, MoreRanksThanCoresTakeTurnsQuickly) {
  // mpirun wants three descriptors a rank, of the 1,024 that a process usually may have.
  constexpr int most = 64;
  const int ranks = std::min(most, 4 * static_cast<int>(one_per_core(allowed_processors(getpid())).size()));
  const CommandResult result = run_command(mpirun(ranks) + as("count"));
  EXPECT_EQ(result.count(text("sum ", ranks, " yields at once 1")), 1) << result.said();
  EXPECT_LT(result.seconds, 20);  // spinning without yielding takes a time slice a turn: minutes
}

}  // namespace
}  // namespace llama_tp

int main(int argc, char** argv) { return llama_tp::play_or_judge(argc, argv, llama_tp::play); }
