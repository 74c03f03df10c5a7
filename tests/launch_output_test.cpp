// Where ranks write: the terminal or files that mpirun's streams are, in the order that they wrote in.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "scratch_folder.h"
#include "support/command.h"
#include "support/roles.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

// ---- the parts that ranks play

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

int play(const std::string& role, Launch& launch) {
  return role == "terminal" ? print_terminal(launch) : print_in_pieces(launch);
}

// ---- the judge

CommandResult on_terminal(const std::string& command) { return run_command(command, 100, Output::on_terminal); }

TEST(Launch, TheTerminalIsMpirunsNotTheRanksPty) {
  const std::string alone = as("terminal"), ranks = mpirun(2) + alone;
  EXPECT_EQ(run_command(ranks).said(), "stdout 0\n");
  EXPECT_EQ(on_terminal(ranks).count("stdout 100\r\n"), 1);
  EXPECT_EQ(on_terminal(ranks + " >/dev/null").count("stdout 0\r\n"), 1);
  EXPECT_EQ(run_command(alone).said(), "stdout 0\n");
  EXPECT_EQ(on_terminal(alone).count("stdout 100\r\n"), 1);
}

// As Debian calls those of several MPIs.
TEST(Launch, TheTerminalIsMpirunsByWhateverNameItIsCalled) {
  const ScratchFolder folder;
  for (const char* name : {"mpirun.openmpi", "mpiexec.openmpi"})
    std::filesystem::create_symlink(run_command("printf %s $(readlink -f $(command -v mpirun))").out, folder / name);
  for (const char* name : {"mpirun.openmpi", "mpiexec.openmpi"})
    EXPECT_EQ(on_terminal(text("PATH=", folder.path(), ":$PATH ", name, " --oversubscribe -np 2 ", as("terminal")))
                  .count("stdout 100\r\n"),
              1)
        << name;
}

// As srun starts a step's only task, and what it says with --pty alone: with -u it gives a pty, too, of which its own output
// need not be the end.
TEST(Launch, TheTerminalThatSrunGivesIsTheRanksOwn) {
  const std::string task = "env -u SLURM_PTY_PORT PMI_SIZE=1 SLURM_STEP_ID=0 ", with_pty = "SLURM_PTY_PORT=40000 ",
                    alone = as("terminal");
  EXPECT_EQ(on_terminal(task + alone).count("stdout 0\r\n"), 1);
  EXPECT_EQ(on_terminal(task + with_pty + alone).count("stdout 100\r\n"), 1);
  EXPECT_EQ(run_command(task + with_pty + alone).count("stdout 0\n"), 1);
  EXPECT_EQ(on_terminal("env " + with_pty + mpirun(2) + alone + " >/dev/null").count("stdout 0\r\n"), 1);
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
  const std::string file = folder / "said", pieces = mpirun(2) + as("pieces") + " --output", line = "half a line\n",
                    other = "in between\n";
  constexpr int often = 5;  // where two streams race
  for (int times = 0; times < often; times++) {
    EXPECT_EQ(run_command(pieces + " 2>/dev/null").said(), line);
    EXPECT_EQ(run_command(pieces + " 2>&1 >/dev/null").said(), other);
  }
  if (!may_share_files()) GTEST_SKIP() << "here a process may not share what another has opened";
  for (int times = 0; times < often; times++) {
    EXPECT_EQ(run_command(pieces + " 2>/dev/null >" + file).said(), "");
    EXPECT_EQ(whole_file(file), line);
    EXPECT_EQ(run_command(pieces + " >" + file + " 2>&1").said(), "");
    EXPECT_EQ(whole_file(file).size(), line.size() + other.size());  // in whatever order
  }
}

// By a shell in each rank's place.
TEST(Launch, WhatIsRedirectedWithinMpirunGoesThere) {
  const ScratchFolder folder;
  const std::string file = folder / "said", line = "half a line\n", other = "in between\n";
  const auto in_shells = [](const std::string& redirected) {
    return mpirun(2) + "sh -c " + quoted(as("pieces") + redirected);
  };
  EXPECT_EQ(run_command(in_shells(" 2>/dev/null >>" + file)).said(), "");
  EXPECT_EQ(whole_file(file), line);
  EXPECT_EQ(run_command(in_shells(" >/dev/null 2>>" + file) + " 2>&1").said(), "");
  EXPECT_EQ(whole_file(file), line + other);
  EXPECT_EQ(run_command(in_shells(" 2>/dev/null | tr a-z A-Z")).said(), "HALF A LINE\n");
  EXPECT_EQ(run_command(in_shells(" 2>&1 >/dev/null") + " 2>/dev/null").said(), other);
  EXPECT_EQ(run_command(in_shells(" 2>/dev/null >&2") + " >/dev/null").said(), "");
  EXPECT_EQ(run_command(in_shells(" >&2 2>/dev/null") + " 2>&1 >/dev/null").said(), line);
}

// A background process of such a terminal that writes is stopped, unless it says otherwise.
TEST(Launch, RanksWriteToATerminalThatStopsTheBackground) {
  const std::string ranks = "stty tostop && exec timeout --foreground 20 " + mpirun(2) + as("pieces") + " 2>/dev/null";
  const CommandResult result = on_terminal("setsid --ctty --wait sh -c " + quoted(ranks) + " <&1");
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.said(), "half a line\r\n");
}

TEST(Launch, OutputThatIsClosedOrThatNobodyReadsStopsNoRank) {
  EXPECT_EQ(run_command("timeout 20 " + mpirun(2) + as("pieces") + " 2>/dev/null >&-").status, 0);
  const ScratchFolder folder;
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  // Its reader goes before a rank opens it.
  EXPECT_NE(run_command("timeout 20 sh -c " +
                        quoted("sleep 0.1 <" + pipe + " & exec " + mpirun(2) + as("pieces") + " >" + pipe))
                .status,
            124);
}

}  // namespace
}  // namespace llama_tp

int main(int argc, char** argv) { return llama_tp::play_or_judge(argc, argv, llama_tp::play); }
