// What the matrix products' directions share: how one is done in blocks, and operands widened to f32, for a CPU without
// bf16 products.
#pragma once

#include <algorithm>
#include <array>

#include "backend/cpu/onednn.h"
#include "backend/cpu/rows.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/vector.h"

namespace llama_tp::linear {

// ---- blocks

// A product's rows, columns or sum in blocks of one size, the last one perhaps smaller.
struct Blocking {
  int64_t all = 0, size = 0;
  bool several() const { return size < all; }
  std::array<int64_t, 2> sizes() const { return {size, all % size == 0 ? size : all % size}; }
  // body(begin, count)
  template <class Body>
  void each(const Body& body) const {
    each_part(all, size, body);
  }
};
inline Blocking whole(int64_t all) { return {all, all}; }
// About equal ones of about `most`, multiples of oneDNN's own.
inline Blocking in_blocks(int64_t all, int64_t most) {
  constexpr int64_t granule = 64;
  return {all, std::min(all, round_up(ceil_div(all, ceil_div(all, most)), granule))};
}

// Operands of this many tokens and as many rows of a weight stay in the caches; what a product of more needs beside them
// is bounded by it.
inline constexpr int64_t tokens_at_once = 1024;
// Fewer tokens do not pay for packing (packed_copy.h).
inline constexpr int64_t fewest_packed_tokens = 256;

// ---- widened operands

// Rows of w, widened at a time: in f32 they stay in a second-level cache between the widening and the product.
inline Blocking widened_rows(int64_t all) {
  constexpr int64_t rows = 128;
  return {all, std::min(all, rows)};
}

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

// What the three widened products share: all of x (or dx), a block of w's rows (or dw's), and that block's columns of y
// (or dy), in f32, with oneDNN's scratch memory.
struct Widened {
  Widened(void* workspace, int64_t tokens, int64_t k, int64_t n, int64_t product_bytes) {
    Scratch scratch(workspace);
    const int64_t rows = widened_rows(n).size;
    x = {scratch.take<float>(tokens * k), k};
    w = {scratch.take<float>(rows * k), k};
    y = {scratch.take<float>(tokens * rows), rows};
    bias = {scratch.take<float>(rows), rows};
    product = scratch.take<char>(product_bytes);
    bytes = scratch.used();
  }
  View<float> x, w, y, bias;
  char* product;
  int64_t bytes;
};

// The largest scratch memory that oneDNN wants for any product that each_product(visit) visits.
template <class EachProduct>
int64_t largest_workspace(OneDnn& onednn, const EachProduct& each_product) {
  int64_t bytes = 0;
  each_product([&](const OneDnnProduct& product) { bytes = std::max(bytes, onednn.workspace(product)); });
  return bytes;
}

}  // namespace llama_tp::linear
