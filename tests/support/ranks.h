// Tests that run as mpirun's ranks. A file named *_ranks_test.cpp is run with 1, 2 and 4 of them (scripts/run_tests);
// every rank runs every test, rank 0 reports, the others only what failed. The main function of all tests is in
// ranks.cpp.
#pragma once

#include "parallel/launch.h"

namespace llama_tp {

// How this test program was started.
const Launch& ranks();

}  // namespace llama_tp
