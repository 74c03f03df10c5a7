// LLAMA_TP_FOR_BOTH: before a function that the CPU and the kernels call alike.
#pragma once

#ifdef __CUDACC__
#define LLAMA_TP_FOR_BOTH __host__ __device__
#else
#define LLAMA_TP_FOR_BOTH
#endif
