// A team of threads is asked for large operations alone. Nothing else runs in this program, since the first that asks
// starts the threads.
#include <gtest/gtest.h>

#include <filesystem>

#include "backend/arena.h"
#include "backend/cpu/cpu_backend.h"

namespace llama_tp {
namespace {

int64_t running_threads() {
  using Tasks = std::filesystem::directory_iterator;
  return std::distance(Tasks("/proc/self/task"), Tasks());
}

// Of what a model of 128 hidden units does for a few tokens, and a product of `rows` rows of a weight.
void work(Backend& backend, Frame& frame, int64_t tokens, int64_t rows) {
  constexpr int64_t hidden = 128, heads = 4, head_dim = 32, cached = 100;
  const auto zeros = [&](const Shape& shape, DType dtype = DType::f32) {
    const Tensor tensor = frame.take(Category::transient, shape, dtype);
    backend.zero(tensor);
    return tensor;
  };
  const Tensor x = zeros({tokens, hidden});
  backend.linear_forward(x, zeros({rows, hidden}), {}, zeros({tokens, rows}));
  backend.norm_forward(x, zeros({hidden}), {}, {NormKind::rms, 1e-5f}, zeros({tokens, hidden}), zeros({tokens}));
  const Tensor ranges = zeros({1, 4}, DType::i32);
  ranges.as<int32_t>()[1] = static_cast<int32_t>(tokens);
  ranges.as<int32_t>()[3] = cached;
  const Tensor cache = zeros({heads, cached, head_dim});
  backend.attention_forward(zeros({heads, tokens, head_dim}), cache, cache, {ranges, 1, tokens, cached, cached}, {1, 0},
                            x, {});
}

TEST(CpuThreads, OnlyLargeOperationsAskForThem) {
  CpuBackend backend(2, false);
  Ledger ledger;
  Arena memory("memory", ledger);
  memory.reserve(backend, int64_t{1} << 27);
  const Workspace workspace(backend, memory);
  Frame frame(memory);
  for (const int64_t tokens : {1, 8, 12}) work(backend, frame, tokens, 192);
  EXPECT_EQ(running_threads(), 1);
  work(backend, frame, 1, 4096);
  EXPECT_EQ(running_threads(), 2);
}

}  // namespace
}  // namespace llama_tp
