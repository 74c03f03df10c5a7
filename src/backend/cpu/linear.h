// What the matrix products' directions share: how one is done in parts, and operands widened to f32, for a CPU without
// bf16 products.
#pragma once

#include <algorithm>
#include <array>

#include "backend/cpu/onednn.h"
#include "backend/cpu/rows.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/vector.h"

namespace llama_tp {

// ---- parts

// Of a product's rows, columns or sum: parts of one size, the last one perhaps smaller.
struct Parts {
  int64_t all = 0, size = 0;
  bool several() const { return size < all; }
  std::array<int64_t, 2> sizes() const { return {size, all % size == 0 ? size : all % size}; }
};
inline Parts whole(int64_t all) { return {all, all}; }
// About equal ones of about `most`, whole blocks of oneDNN's.
inline Parts in_parts(int64_t all, int64_t most) {
  constexpr int64_t granule = 64;
  return {all, std::min(all, round_up(parts_of(all, parts_of(all, most)), granule))};
}

// Operands of this many tokens and as many rows of a weight stay in the caches; what a product of more needs beside them
// is bounded by it.
inline constexpr int64_t tokens_at_once = 1024;
// Fewer tokens do not pay for packing (packed_copy.h).
inline constexpr int64_t fewest_packed_tokens = 256;

// ---- widened operands

// Of w, widened at a time: f32 rows that stay in a second-level cache between the widening and the product.
inline constexpr int64_t widened_rows = 128;

inline bool empty(const Tensor& y) { return y.elements() == 0; }

// Part of a matrix by columns, row after row.
template <class Element>
struct View {
  View() = default;
  View(Element* from, int64_t row_stride) : data(from), stride(row_stride) {}
  Element* data = nullptr;
  int64_t stride = 0;
};

template <class From, class To>
void copy(int threads, int64_t rows, int64_t columns, View<From> from, View<To> to) {
  each_row(threads, rows, columns, [&](int64_t row) {
    each_lanes(columns, [&](auto i) { store(to.data + row * to.stride, i, load(from.data + row * from.stride, i)); });
  });
}

// What the three widened products share: all of x (or dx), a chunk of w (or dw), and that chunk's columns of y (or
// dy), in f32, with oneDNN's scratch memory.
struct Widened {
  Widened(void* workspace, int64_t tokens, int64_t k, int64_t n, int64_t product_bytes) {
    Scratch scratch(workspace);
    const int64_t chunk = std::min(n, widened_rows);
    x = {scratch.take<float>(tokens * k), k};
    w = {scratch.take<float>(chunk * k), k};
    y = {scratch.take<float>(tokens * chunk), chunk};
    bias = {scratch.take<float>(chunk), chunk};
    product = scratch.take<char>(product_bytes);
    bytes = scratch.used();
  }
  View<float> x, w, y, bias;
  char* product;
  int64_t bytes;
};

// make(n) is the product for n of the rows that are done `chunk` at a time: the largest scratch that oneDNN wants for
// any of them.
template <class Make>
int64_t largest_workspace(OneDnn& onednn, int64_t rows, int64_t chunk, const Make& make) {
  int64_t bytes = onednn.workspace(make(std::min(rows, chunk)));
  if (rows > chunk && rows % chunk != 0) bytes = std::max(bytes, onednn.workspace(make(rows % chunk)));
  return bytes;
}

}  // namespace llama_tp
