// Rotary positions. The token's packed row is read and written as it lies; the head-major side in pieces of one head.
#include <cmath>
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/rows.h"
#include "backend/cpu/vector.h"

namespace llama_tp {

namespace {

// Where the heads of a token lie in the packed row: A of q, then G of k, then G of v.
struct Heads {
  int64_t queries, groups, dim, rotary_dim;  // rotary_dim: R, the part of each head that rotates
  int64_t width() const { return (queries + 2 * groups) * dim; }
};

template <class X>
void copy(const X* from, X* to, int64_t count) {
  std::memcpy(static_cast<void*>(to), from, static_cast<size_t>(count) * sizeof(X));
}

// to[i], to[i + R/2] = the pair from[i], from[i + R/2] rotated by the angle whose cosine and sine the table has; what is
// past R is copied. sign = −1 rotates back.
template <class X>
void rotate(const X* from, const float* table, float sign, const Heads& heads, X* to) {
  const int64_t half = heads.rotary_dim / 2;
  each_lanes(half, [&](auto i) {
    const Floats a = load(from, i), b = load(from + half, i);
    const Floats cosine = load(table, i), sine = sign * load(table + half, i);
    store(to, i, a * cosine - b * sine);
    store(to + half, i, b * cosine + a * sine);
  });
  if (heads.rotary_dim < heads.dim) copy(from + heads.rotary_dim, to + heads.rotary_dim, heads.dim - heads.rotary_dim);
}

}  // namespace

void CpuBackend::run_rope_table(const Tensor& positions, const Tensor& frequencies, float scale, const Tensor& table) {
  const int64_t half = frequencies.shape[0];
  // A sine takes as long as some twenty elements of a copy.
  each_row(threads_, positions.shape[0], 20 * 2 * half, [&](int64_t t) {
    const auto position = static_cast<float>(positions.as<int32_t>()[t]);
    float* row = table.as<float>() + t * 2 * half;
    for (int64_t i = 0; i < half; i++) {
      const float angle = position * frequencies.as<float>()[i];
      row[i] = scale * std::cos(angle);
      row[half + i] = scale * std::sin(angle);
    }
  });
}

void CpuBackend::run_rope_forward(const Tensor& qkv, const Tensor& table, const Tensor& slots, const Tensor& q,
                                  const Tensor& k, const Tensor& v) {
  const Heads heads{q.shape[0], k.shape[0], q.shape[2], table.shape[1]};
  const int64_t tokens = q.shape[1], cached = k.shape[1], dim = heads.dim;
  with_type(qkv.dtype, [&]<class X>(X) {
    each_row(threads_, tokens, heads.width(), [&](int64_t t) {
      const X* packed = qkv.as<X>() + t * heads.width();
      const float* rotation = table.as<float>() + t * heads.rotary_dim;
      const int64_t slot = slots.as<int32_t>()[t];
      for (int64_t a = 0; a < heads.queries; a++, packed += dim)
        rotate(packed, rotation, 1.0f, heads, q.as<X>() + (a * tokens + t) * dim);
      for (int64_t g = 0; g < heads.groups; g++, packed += dim)
        rotate(packed, rotation, 1.0f, heads, k.as<X>() + (g * cached + slot) * dim);
      for (int64_t g = 0; g < heads.groups; g++, packed += dim)
        copy(packed, v.as<X>() + (g * cached + slot) * dim, dim);
    });
  });
}

void CpuBackend::run_rope_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& table,
                                   const Tensor& dqkv) {
  const Heads heads{dq.shape[0], dk.shape[0], dq.shape[2], table.shape[1]};
  const int64_t tokens = dq.shape[1], dim = heads.dim;
  with_type(dqkv.dtype, [&]<class X>(X) {
    each_row(threads_, tokens, heads.width(), [&](int64_t t) {
      X* packed = dqkv.as<X>() + t * heads.width();
      const float* rotation = table.as<float>() + t * heads.rotary_dim;
      for (int64_t a = 0; a < heads.queries; a++, packed += dim)
        rotate(dq.as<X>() + (a * tokens + t) * dim, rotation, -1.0f, heads, packed);
      for (int64_t g = 0; g < heads.groups; g++, packed += dim)
        rotate(dk.as<X>() + (g * tokens + t) * dim, rotation, -1.0f, heads, packed);
      for (int64_t g = 0; g < heads.groups; g++, packed += dim) copy(dv.as<X>() + (g * tokens + t) * dim, packed, dim);
    });
  });
}

}  // namespace llama_tp
