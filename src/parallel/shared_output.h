// A way around mpirun for what its ranks print. Open MPI 5's would keep an unfinished line to itself until its end comes,
// and print it on stderr where a line for that comes first (openpmix issue 3858; its option --output :raw helps).
#pragma once

namespace llama_tp {

// On the host of Open MPI 5's mpirun, this process writes from now on to where mpirun's own stdout and stderr go, where the
// system allows that and mpirun is told nothing of output. What is redirected within mpirun stays so: mpirun -np 2 bash -c
// './llama_tp help >file'.
void share_output_of(int launcher);

}  // namespace llama_tp
