// The f32 master weights that an optimizer updates, as lanes: those of a bf16 weight and its rest (base/split_float.h);
// an f32 weight is its own.
#pragma once

#include "backend/cpu/vector.h"

namespace llama_tp {

template <class Where>
Floats load_master(const bf16* w, const int16_t* rest, Where i) {
  const Words high = widened(load_bits<HalfWords>(w, i)) << 16;
  const Words low = widened(load_bits<HalfWords>(rest, i));
  return floats_of(high + ((low ^ 0x8000u) - 0x8000u));  // with the sign of 16 bits carried to 32
}
template <class Where>
Floats load_master(const float* w, const int16_t*, Where i) {
  return load(w, i);
}

// NaN has one form, since rounding could carry a NaN's bits over into those of a number.
template <class Where>
void store_master(bf16* w, int16_t* rest, Where i, Floats master) {
  const Words nan = Words{} + 0x7fc00000u;
  const Words bits = master == master ? bits_of(master) : nan;
  store_bits(w, i, narrowed((bits + 0x8000u) >> 16));
  // bits − (w << 16): the low half, read as signed.
  store_bits(rest, i, narrowed(bits & 0xffffu));
}
template <class Where>
void store_master(float* w, int16_t*, Where i, Floats master) {
  store(w, i, master);
}

}  // namespace llama_tp
