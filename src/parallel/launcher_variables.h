// What a launcher (mpirun of Open MPI or MPICH, Slurm's srun, torchrun) tells its processes by variables of the
// environment.
#pragma once

#include <initializer_list>
#include <string>

namespace llama_tp {

// The value of the first of these variables that is set and not empty; null where none is.
const char* environment(std::initializer_list<const char*> names);

// What Open MPI, MPICH and Slurm tell each rank.
bool started_by_mpirun();

// Whether this process is of a step of Slurm, be it that mpirun started it within that; and of one whose first task has a
// terminal of its own (srun --pty).
bool started_by_srun();
bool srun_gave_terminal();

// "Open MPI v4.1.4", "MPICH Version: 4.0.2": what comes before the date and the like in MPI_Get_library_version's text.
std::string name_of_mpi(const std::string& version);

// Processes that another MPI's launcher starts do not find each other: each would do all the work alone. joined: how many
// MPI joins; where these are several, the variable may be that of a launcher further out. Errors: several were started and
// MPI joins this one alone.
void check_count(int joined);

}  // namespace llama_tp
