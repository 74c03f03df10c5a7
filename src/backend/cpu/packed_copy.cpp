// A thread owns rows and goes along them, over all blocks: they come from memory, and the result stays in the caches.
#include "backend/cpu/packed_copy.h"

#include "backend/cpu/rows.h"
#include "backend/cpu/tile.h"

namespace llama_tp {

namespace {

constexpr int64_t block_columns = 64, block_words = 16;  // of rows

template <class Word>
inline constexpr int64_t block_rows_of = block_words* per_word<Word>;

template <class Word, class Element>
void pack(int threads, const Element* from, int64_t rows, int64_t columns, Word* to) {
  const int64_t padded_rows = round_up(rows, block_rows_of<Word>);
  parallel_ranges(threads_for(rows * columns, threads), padded_rows, block_rows_of<Word>, [&](Range own, int) {
    for (int64_t row = own.begin; row < own.end; row += per_word<Word>)
      for (int64_t column = 0; column < columns; column += block_columns) {
        const Element* const here = from + row * columns + column;
        __builtin_prefetch(reinterpret_cast<const char*>(here) + 2048);
        pack_along_rows(here, columns, std::clamp<int64_t>(rows - row, 0, per_word<Word>),
                        std::min(block_columns, columns - column),
                        to + (column * padded_rows + row * block_columns) / per_word<Word>, block_columns,
                        per_word<Word>);
      }
  });
}

}  // namespace

int64_t packed_bytes(DType dtype, int64_t rows, int64_t columns) {
  const int64_t depth = dtype == DType::bf16 ? block_rows_of<Pair> : block_rows_of<float>;
  return round_up(rows, depth) * round_up(columns, block_columns) * size_of(dtype);
}

void packed_copy(int threads, const Tensor& from, void* to) {
  if (from.dtype == DType::bf16)
    pack(threads, from.as<const bf16>(), from.shape[0], from.shape[1], static_cast<Pair*>(to));
  else
    pack(threads, from.as<const float>(), from.shape[0], from.shape[1], static_cast<float*>(to));
}

}  // namespace llama_tp
