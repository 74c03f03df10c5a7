// The record as people read it.
#pragma once

namespace llama_tp::accesses {

// A line a kernel, then the places that ask for more than they need.
void print_report();
// "kernel<parameters> <tab> threads a block <tab> bytes of shared memory" for each launch.
void print_launches();

}  // namespace llama_tp::accesses
