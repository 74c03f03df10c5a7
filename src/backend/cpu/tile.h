// Products of matrices so small that they stay in the cache, for attention. Their element is a word of 32 bits: a
// float, or a pair of bf16 that lie next to each other along the sum, which the CPU multiplies and adds to an f32 in
// one instruction, or in matrix tiles where it has them. So one kernel serves both; only the packing of operands
// differs. bf16 on a CPU without that instruction is packed as floats.
//   c[m, :] = start + Σ_d a(m, d) · b[d, :]         a: one word at a time, any strides; b, c: rows of whole vectors
#pragma once

#include <type_traits>

#include "backend/cpu/matrix_tiles.h"
#include "base/parts.h"

namespace llama_tp {

struct Pair {
  bf16 first, second;
};

#if defined(__AVX512BF16__)
template <class Element>
using WordOf = std::conditional_t<std::is_same_v<Element, bf16>, Pair, float>;
#else
template <class Element>
using WordOf = float;
#endif

// Elements in a word, along the sum of a product.
template <class Word>
inline constexpr int64_t per_word =
    static_cast<int64_t>(sizeof(Word) / sizeof(std::conditional_t<std::is_same_v<Word, Pair>, bf16, float>));

inline Floats add_product(Floats sum, float a, Words b) { return sum + a * floats_of(b); }
#if defined(__AVX512BF16__)
inline Floats add_product(Floats sum, Pair a, Words b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(_mm512_set1_epi32(std::bit_cast<int32_t>(a))),
                          reinterpret_cast<__m512bh>(b));
}
#endif

template <class Word>
struct Broadcast {  // the operand a
  const Word* words;
  int64_t row, depth;  // strides
};
template <class Word>
struct Rows {  // the operand b
  const Word* words;
  int64_t stride;
};

// What c holds before: nothing, an addend, or an addend that is first multiplied by a factor for each row.
struct FromZero {
  Floats operator()(const float*, int64_t) const { return Floats{}; }
  FromZero from(int64_t) const { return {}; }
};
struct Adding {
  Floats operator()(const float* c, int64_t) const { return load(c, Whole{0}); }
  Adding from(int64_t) const { return {}; }
};
struct Scaling {
  const float* factors;  // of each row
  Floats operator()(const float* c, int64_t row) const { return load(c, Whole{0}) * factors[row]; }
  Scaling from(int64_t row) const { return {factors + row}; }
};

inline constexpr int register_rows = 4, register_vectors = lanes == 16 ? 4 : 2;  // sums that fit the registers

// Rows that are best multiplied at once.
#if defined(LLAMA_TP_MATRIX_TILES)
template <class Word>
inline constexpr int block_rows = std::is_same_v<Word, Pair> ? tile_rows : register_rows;
#else
template <class Word>
inline constexpr int block_rows = register_rows;
#endif

template <int rows, int vectors, class Word, class Start>
inline void multiply_block(Broadcast<Word> a, Rows<Word> b, int64_t depth, const Start& start, float* c,
                           int64_t c_stride) {
  Floats sums[rows][vectors];
#pragma GCC unroll 4
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sums[r][v] = start(c + r * c_stride + v * lanes, r);
  for (int64_t d = 0; d < depth; d++) {
    Words operand[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) operand[v] = load_bits<Words>(b.words + d * b.stride + v * lanes, Whole{0});
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
      const Word word = a.words[r * a.row + d * a.depth];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) sums[r][v] = add_product(sums[r][v], word, operand[v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) store(c + r * c_stride + v * lanes, Whole{0}, sums[r][v]);
}

template <int rows, class Word, class Start>
void multiply_columns(Broadcast<Word> a, Rows<Word> b, int64_t depth, const Start& start, float* c, int64_t c_stride,
                      int64_t columns) {
  int64_t n = 0;
  const auto some = [&]<int vectors>() {
    multiply_block<rows, vectors>(a, Rows<Word>{b.words + n, b.stride}, depth, start, c + n, c_stride);
    n += vectors * lanes;
  };
  while (n + register_vectors * lanes <= columns) some.template operator()<register_vectors>();
  if constexpr (register_vectors == 4) {
    if (n + 3 * lanes <= columns) return some.template operator()<3>();
    if (n + 2 * lanes <= columns) return some.template operator()<2>();
  }
  if (n < columns) some.template operator()<1>();
}

template <class Word, class Start>
void multiply_in_registers(int64_t rows, int64_t columns, int64_t depth, Broadcast<Word> a, Rows<Word> b,
                           const Start& start, float* c, int64_t c_stride) {
  for (int64_t row = 0; row < rows; row += register_rows) {
    const Broadcast<Word> here{a.words + row * a.row, a.row, a.depth};
    float* const to = c + row * c_stride;
    switch (rows - row) {
      case 1:
        return multiply_columns<1>(here, b, depth, start.from(row), to, c_stride, columns);
      case 2:
        return multiply_columns<2>(here, b, depth, start.from(row), to, c_stride, columns);
      case 3:
        return multiply_columns<3>(here, b, depth, start.from(row), to, c_stride, columns);
      default:
        multiply_columns<4>(here, b, depth, start.from(row), to, c_stride, columns);
    }
  }
}

#if defined(LLAMA_TP_MATRIX_TILES)
// tile_rows rows of c; depth: a multiple of lanes. Words of a that lie along rows are transposed on their way.
template <class Start>
void multiply_in_tiles(int64_t columns, int64_t depth, Broadcast<Pair> a, Rows<Pair> b, const Start& start, float* c,
                       int64_t c_stride) {
  constexpr bool from_zero = std::is_same_v<Start, FromZero>;
  if constexpr (std::is_same_v<Start, Scaling>)
    for (int64_t row = 0; row < tile_rows; row++)
      for (int64_t n = 0; n < columns; n += lanes)
        store(c + row * c_stride + n, Whole{0}, start(c + row * c_stride + n, row));
  Words square[lanes];
  const auto tile_of_a = [&](int64_t d) -> std::pair<const void*, int64_t> {
    const Pair* const corner = a.words + d * a.depth;
    if (a.depth == 1) return {corner, a.row * int64_t{sizeof(Pair)}};
    for (int r = 0; r < lanes; r++) square[r] = load_bits<Words>(corner + r * a.depth, Whole{0});
    transpose(square);
    return {square, int64_t{sizeof(Words)}};
  };
  int64_t n = 0;
  const auto some = [&]<int tiles>() {
    MatrixTiles::multiply<tiles>(depth, tile_of_a, b.words + n, b.stride * int64_t{sizeof(Pair)}, from_zero, c + n,
                                 c_stride);
    n += tiles * lanes;
  };
  while (n + 4 * lanes <= columns) some.template operator()<4>();
  if (n + 2 * lanes <= columns) some.template operator()<2>();
  if (n < columns) some.template operator()<1>();
}
#endif

// Up to block_rows rows of c; columns: a multiple of lanes; a's words lie along the sum or along rows, one of its strides
// being 1. What does not fill matrix tiles, rows or the rest of the sum, is multiplied in registers.
template <class Word, class Start>
void multiply_rows(int64_t rows, int64_t columns, int64_t depth, Broadcast<Word> a, Rows<Word> b, const Start& start,
                   float* c, int64_t c_stride) {
#if defined(LLAMA_TP_MATRIX_TILES)
  const int64_t whole = depth / lanes * lanes;
  if constexpr (std::is_same_v<Word, Pair>)
    if (rows == tile_rows && whole > 0 && MatrixTiles::allowed()) {
      multiply_in_tiles(columns, whole, a, b, start, c, c_stride);
      if (whole < depth)
        multiply_in_registers(rows, columns, depth - whole, Broadcast<Word>{a.words + whole * a.depth, a.row, a.depth},
                              Rows<Word>{b.words + whole * b.stride, b.stride}, Adding{}, c, c_stride);
      return;
    }
#endif
  multiply_in_registers(rows, columns, depth, a, b, start, c, c_stride);
}

// ---- packing: `rows` rows of `columns` elements at from + row · stride

// A vector of words that hold the elements from `column` on; 0 past the end of the row.
template <class Word, class Element>
Words words_at(const Element* row, int64_t column, int64_t columns) {
  const int64_t left = columns - column, width = lanes * per_word<Word>;
  if (left <= 0) return Words{};
  if constexpr (std::is_same_v<Word, Pair>)
    return left >= width ? load_bits<Words>(row + column, Whole{0})
                         : load_bits<Words>(row + column, PartOfVector{0, left});
  else
    return bits_of(left >= width ? load(row + column, Whole{0}) : load(row + column, PartOfVector{0, left}));
}

// to[row][d]: each row's words one after another, filled up with 0 to `stride` words, a multiple of lanes.
template <class Word, class Element>
void pack_rows(const Element* from, int64_t from_stride, int64_t rows, int64_t columns, Word* to, int64_t stride) {
  for (int64_t row = 0; row < rows; row++)
    for (int64_t word = 0; word < stride; word += lanes)
      store_bits(to + row * stride + word, Whole{0},
                 words_at<Word>(from + row * from_stride, word * per_word<Word>, columns));
}

// Rows as the operand a: where they are if their elements are words already, else packed into `buffer` [rows][stride].
template <class Word, class Element>
Broadcast<Word> rows_operand(const Element* from, int64_t from_stride, int64_t rows, int64_t columns, Word* buffer,
                             int64_t stride) {
  if constexpr (std::is_same_v<Word, Element> || std::is_same_v<Word, Pair>)
    if (columns % per_word<Word> == 0 && from_stride % per_word<Word> == 0)
      return {reinterpret_cast<const Word*>(from), from_stride / per_word<Word>, 1};
  pack_rows(from, from_stride, rows, columns, buffer, stride);
  return {buffer, stride, 1};
}

// to[d][row]: column d of words as a row of `stride`; rows up to `padded_rows`, a multiple of lanes, are 0.
// ⌈columns / per_word⌉ rows of `to` are meant, up to a multiple of lanes of them are written.
template <class Word, class Element>
void pack_transposed(const Element* from, int64_t from_stride, int64_t rows, int64_t columns, Word* to, int64_t stride,
                     int64_t padded_rows) {
  constexpr int64_t width = lanes * per_word<Word>;
  for (int64_t row = 0; row < padded_rows; row += lanes)
    for (int64_t column = 0; column < columns; column += width) {
      Words square[lanes];
      const Element* const corner = from + row * from_stride + column;
      if (row + lanes <= rows && column + width <= columns) {
#pragma GCC unroll 16
        for (int r = 0; r < lanes; r++) square[r] = words_at<Word>(corner + r * from_stride, 0, width);
      } else {
        for (int r = 0; r < lanes; r++)
          square[r] = row + r < rows ? words_at<Word>(corner + r * from_stride, 0, columns - column) : Words{};
      }
      transpose(square);
#pragma GCC unroll 16
      for (int r = 0; r < lanes; r++)
        store_bits(to + (column / per_word<Word> + r) * stride + row, Whole{0}, square[r]);
    }
}

// to[row / per_word][column]: words along the rows, that is, element (row, column) beside element (row + 1, column);
// rows up to `padded_rows` and columns up to `stride`, a multiple of lanes, are 0.
template <class Word, class Element>
void pack_along_rows(const Element* from, int64_t from_stride, int64_t rows, int64_t columns, Word* to, int64_t stride,
                     int64_t padded_rows) {
  for (int64_t row = 0; row < padded_rows; row += per_word<Word>)
    for (int64_t column = 0; column < stride; column += lanes) {
      const int64_t left = row < rows ? columns - column : 0;
      const Element* const at = from + row * from_stride + column;
      Words words{};
      if constexpr (std::is_same_v<Word, float>) {
        words = words_at<Word>(at, 0, left);
      } else if (left > 0) {
        const auto half = [&](const Element* here) {
          return widened(left >= lanes ? load_bits<HalfWords>(here, Whole{0})
                                       : load_bits<HalfWords>(here, PartOfVector{0, left}));
        };
        words = half(at);
        if (row + 1 < rows) words |= half(at + from_stride) << 16;
      }
      store_bits(to + row / per_word<Word> * stride + column, Whole{0}, words);
    }
}

// Rows as the operand b, as rows_operand does it.
template <class Word, class Element>
Rows<Word> columns_operand(const Element* from, int64_t from_stride, int64_t rows, int64_t columns, Word* buffer,
                           int64_t stride, int64_t padded_rows) {
  if constexpr (std::is_same_v<Word, Element>)
    if (columns == stride && rows == padded_rows) return {from, from_stride};
  pack_along_rows(from, from_stride, rows, columns, buffer, stride, padded_rows);
  return {buffer, stride};
}

// ---- floats to words

// The fewest columns that are whole vectors of words, whether words lie along rows or along columns.
template <class Word>
inline constexpr int64_t word_lanes = lanes* per_word<Word>;

// Floats next to each other in a row as one vector of words.
inline void put_along_row(float* to, const Floats (&values)[1]) { store(to, Whole{0}, values[0]); }
#if defined(__AVX512BF16__)
inline void put_along_row(Pair* to, const Floats (&values)[2]) {
  store_bits(to, Whole{0}, reinterpret_cast<Words>(_mm512_cvtne2ps_pbh(values[1], values[0])));
}
#endif

// Floats above each other as a vector of pairs: lane i of the one beside lane i of the other.
#if defined(__AVX512BF16__)
inline Words paired(Floats upper, Floats lower) {
  const auto first = _mm512_cvtneps_pbh(upper), second = _mm512_cvtneps_pbh(lower);
  return widened(reinterpret_cast<HalfWords>(first)) | (widened(reinterpret_cast<HalfWords>(second)) << 16);
}
#endif

}  // namespace llama_tp
