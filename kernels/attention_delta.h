// What all of attention's backward ways begin with (attention_delta.cu).
#pragma once

#include "kernels/attention.h"

namespace llama_tp::kernels {

// δ[a, t] = Σ_d dout[t, a·D + d] · out[t, a·D + d], [A, T]: the workspace that workspace.h counts.
template <class X>
void attention_delta(Stream stream, const AttentionOutputs<X>& outputs, float* delta, const AttentionShape& shape);

}  // namespace llama_tp::kernels
