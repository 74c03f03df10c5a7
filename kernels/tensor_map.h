// How a kernel's tiles are described to the unit that copies them (TMA): made on the host, passed to the kernel by
// value. Under nvcc by the driver, which the runtime finds; else by its twin in tests/emulation/bulk_copies.h.
#pragma once

#include "base/dtype.h"
#include "kernels/cuda.h"

#ifdef __CUDACC__
#include <cuda.h>
#else
#include "emulation/bulk_copies.h"
#endif

namespace llama_tp::kernels {

#ifdef __CUDACC__
using TensorMap = CUtensorMap;

// The driver's function, without linking the driver. Errors: a driver older than CUDA 12.
inline decltype(&cuTensorMapEncodeTiled) tensor_map_encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
             "cuTensorMapEncodeTiled");
#else
  check_cuda(cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found),
             "cuTensorMapEncodeTiled");
#endif
  require(found == cudaDriverEntryPointSuccess,
          "cuda: the driver has no cuTensorMapEncodeTiled; install one of CUDA 12 or later");
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}
#else
using TensorMap = emulation::TensorMap;
#endif

// Rows of bf16, [heads, rows, head_dim], in boxes of box_rows rows of one head and 64 columns: 128 bytes, whose pieces
// of 16 change places as kernels/swizzled_tile.h says. Errors: what the driver refuses.
inline TensorMap map_of_heads(const bf16* from, int64_t heads, int64_t rows, int64_t head_dim, int box_rows) {
  const uint64_t row_bytes = static_cast<uint64_t>(head_dim) * sizeof(bf16);
  const uint64_t sizes[] = {static_cast<uint64_t>(head_dim), static_cast<uint64_t>(rows), static_cast<uint64_t>(heads)};
  const uint64_t strides[] = {row_bytes, row_bytes * sizes[1]};
  const uint32_t box[] = {64, static_cast<uint32_t>(box_rows), 1};
#ifdef __CUDACC__
  static const auto encode = tensor_map_encoder();
  const uint32_t every[] = {1, 1, 1};
  TensorMap map;
  const CUresult status =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<bf16*>(from), &sizes[0], &strides[0], &box[0],
             &every[0], CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  require(status == CUDA_SUCCESS, "cuda: cuTensorMapEncodeTiled refuses ", heads, " heads of ", rows, " rows of ",
          head_dim, " with error ", static_cast<int>(status));
  return map;
#else
  return emulation::encode_tensor_map(from, 3, &sizes[0], &strides[0], &box[0], true);
#endif
}

}  // namespace llama_tp::kernels
