// A run that is to end before its last step, as before a cluster's time limit: SIGUSR1 asks for it, which Slurm's --signal
// sends and mpirun passes on to its ranks.
#pragma once

namespace llama_tp {

// Lets SIGUSR1 wait until this process accepts it. MPI starts no rank before the last has come, and Slurm's signal comes at
// once where the time limit is short. It waits also where the program replaces itself.
void hold_end_requests();

// From now on SIGUSR1 asks this process to end, instead of ending it.
void accept_end_requests();
bool end_is_requested();

}  // namespace llama_tp
