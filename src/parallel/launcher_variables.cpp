#include "parallel/launcher_variables.h"

#define OMPI_SKIP_MPICXX 1  // the C interface alone
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "base/error.h"

namespace llama_tp {

namespace {

// Whether the shell of a step with a terminal (srun --pty) has started this process, and not Slurm itself, as it does a
// task of a further step.
bool started_by_slurms_shell() {
  const char* const task = environment({"SLURM_TASK_PID"});
  return srun_gave_terminal() && (task == nullptr || std::atoi(task) != getpid());
}

// The variable by which a launcher says how many processes it has started. Slurm's of a job, SLURM_NTASKS, is a batch
// script's as well.
const char* count_variable() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"})
    if (environment({name}) != nullptr) return name;
  if (environment({"SLURM_STEP_NUM_TASKS"}) != nullptr && !started_by_slurms_shell()) return "SLURM_STEP_NUM_TASKS";
  return environment({"WORLD_SIZE"}) != nullptr && environment({"RANK"}) != nullptr ? "WORLD_SIZE" : nullptr;
}

std::string version_of_mpi() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> version{};
  int length = 0;
  MPI_Get_library_version(version.data(), &length);
  return {version.data(), static_cast<size_t>(length)};
}

}  // namespace

const char* environment(std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0') return value;
  return nullptr;
}

bool started_by_mpirun() { return environment({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"}) != nullptr; }

bool started_by_srun() { return environment({"SLURM_STEP_ID"}) != nullptr; }

bool srun_gave_terminal() { return environment({"SLURM_PTY_PORT"}) != nullptr; }

std::string name_of_mpi(const std::string& version) {
  std::string name = version.substr(0, version.find_first_of(",\n"));
  std::ranges::replace(name, '\t', ' ');
  return name;
}

void check_count(int joined) {
  const char* const name = count_variable();
  const int started = name == nullptr ? 1 : std::atoi(std::getenv(name));
  if (joined > 1 || started <= 1) return;
  fail(name, "=", started, " says that ", started,
       " processes were started, but to MPI each is alone: start them with the mpirun of ",
       name_of_mpi(version_of_mpi()),
       ", which this program was built with, or with srun --mpi=pmix or --mpi=pmi2, as that MPI knows it; where each ",
       "is to run alone, unset ", name);
}

}  // namespace llama_tp
