// make accesses: what each kernel asks of memory at typical shapes: those of Llama 3.1 8B in bf16, cut to few tokens.
// Of global memory the bytes, how much of the sectors that hold them they are, how much of it is read or written 16
// bytes a lane at once, and sectors a request; of shared memory wavefronts a request (accesses/requests.h). Then every
// line that needs more than bytes that lie best would.
//   accesses --launches: threads and bytes of shared memory of each kernel there, for scripts/kernels_on_paper
#include <cstring>

#include "accesses/report.h"
#include "emulation/device_memory.h"
#include "kernel_runs.h"

namespace llama_tp::kernels {
namespace {

constexpr int64_t hidden = 4096, feed_forward = 14336, vocabulary = 128256, heads = 32, kv_heads = 8;

// One sequence of as many queries and keys.
AttentionSizes attention(int64_t head_dim, int32_t queries, int32_t keys) {
  return {4, 1, head_dim, queries, keys, {0, queries, 0, keys}};
}

void run_all() {
  run_norms<bf16>({}, 512, hidden);  // of which norm_backward gives a block two
  run_head_norms<bf16>({heads, kv_heads, 128, 1e-6f}, 32);
  run_rope<bf16>({heads, kv_heads, 128, 128, 16, 16});
  run_activation<bf16>({}, 4, feed_forward);
  run_embedding<bf16>(64, 48, hidden);
  run_elementwise<bf16>(64, hidden);
  run_sums<bf16>(1 << 17, 64, hidden);
  run_adamw<bf16>(1 << 16);
  run_matrix_vector<bf16>(1, 64, hidden);
  run_matrix_vector<bf16>(8, 64, hidden);
  run_cross_entropy<bf16>(4, vocabulary);
  run_sample(1, vocabulary);
  for (const int64_t head_dim : {64, 128}) {
    AttentionRun<bf16> training(attention(head_dim, 384, 384));
    training.forward_tiles();
    training.backward_tiles();
    training.forward_hopper();
    training.backward_hopper();
    AttentionRun<bf16>(attention(head_dim, 1, 1024)).forward_few_queries();
  }
  AttentionRun<bf16>(attention(96, 1, 1024)).forward_rows();
  AttentionRun<float> in_f32(attention(64, 64, 64));
  in_f32.forward_rows();
  in_f32.backward_rows();
}

}  // namespace
}  // namespace llama_tp::kernels

int main(int argc, char** argv) {
  const llama_tp::emulation::DeviceAccess access;
  llama_tp::kernels::run_all();
  if (argc > 1 && std::strcmp(argv[1], "--launches") == 0)
    llama_tp::accesses::print_launches();
  else
    llama_tp::accesses::print_report();
}
