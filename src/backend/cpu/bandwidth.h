// How fast this machine reads memory: the limit of generation.
#pragma once

namespace llama_tp {

// Bytes a second that `threads` threads read together from memory far larger than a cache, each its own part; the best
// of a few passes, of which none but the first two begins after so many seconds. Takes about a fifth of a second, half a
// second on a busy machine, and 256 MiB, which it gives back. 0 if there is no such memory.
double measure_read_bandwidth(int threads, double most_seconds);

}  // namespace llama_tp
