// A run that is to end before its last step, as before a cluster's time limit: SIGUSR1 asks for it, which Slurm's --signal
// sends and mpirun passes on to its ranks.
#pragma once

namespace llama_tp {

// From now on SIGUSR1 asks this process to end, instead of ending it.
void accept_end_requests();
bool end_is_requested();

}  // namespace llama_tp
