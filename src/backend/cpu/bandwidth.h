// How fast this machine reads memory: the limit of generation.
#pragma once

namespace llama_tp {

// Bytes a second that `threads` threads read together from memory far larger than a cache, each its own part; the best
// of a few passes. Takes about a fifth of a second and 256 MiB, which it gives back. 0 if there is no such memory.
double measure_read_bandwidth(int threads);

}  // namespace llama_tp
