// The rows of this rank's part of the embedding table, fetched, and their gradients added.
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/rows.h"
#include "backend/cpu/vector.h"

namespace llama_tp {

void CpuBackend::run_embedding_forward(const Tensor& ids, const Tensor& table, int64_t first_row, const Tensor& y) {
  const int64_t rows = table.shape[0], hidden = table.shape[1];
  const auto row_bytes = static_cast<size_t>(hidden * size_of(table.dtype));
  each_row(threads_, ids.shape[0], hidden, [&](int64_t t) {
    const int64_t row = ids.as<int32_t>()[t] - first_row;
    char* to = y.as<char>() + static_cast<size_t>(t) * row_bytes;
    if (row >= 0 && row < rows)
      std::memcpy(to, table.as<char>() + static_cast<size_t>(row) * row_bytes, row_bytes);
    else
      std::memset(to, 0, row_bytes);
  });
}

int64_t CpuBackend::embedding_backward_workspace(const Tensor&, const Tensor&) { return 0; }

// A thread owns a range of columns and goes through all tokens: no two threads meet, and an element's gradients are
// added in the order of t however many threads there are.
void CpuBackend::run_embedding_backward(const Tensor& ids, const Tensor& dy, int64_t first_row, int64_t skip_id,
                                        const Tensor& dtable, void*) {
  const int64_t tokens = ids.shape[0], rows = dtable.shape[0], hidden = dtable.shape[1];
  with_type(dy.dtype, [&]<class X>(X) {
    const auto columns = [&](Range range, int) {
      for (int64_t t = 0; t < tokens; t++) {
        const int64_t id = ids.as<int32_t>()[t], row = id - first_row;
        if (row < 0 || row >= rows || id == skip_id) continue;
        const X* from = dy.as<X>() + t * hidden + range.begin;
        float* to = dtable.as<float>() + row * hidden + range.begin;
        each_lanes(range.end - range.begin, [&](auto i) { store(to, i, load(to, i) + load(from, i)); });
      }
    };
    // 32 columns: a whole cache line of bf16
    parallel_ranges(threads_for(tokens * hidden, threads_), hidden, 32, columns);
  });
}

}  // namespace llama_tp
