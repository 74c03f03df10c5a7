// The model: embedding, blocks, head; read `train` from top to bottom. There is no autograd: what forward keeps is
// pushed on the step arena, backward reads it from the last block to the first, and all of it is popped when `train`
// ends (with recompute, what a block kept as soon as that block is done).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/block.h"
#include "model/fsdp.h"
#include "model/head.h"

namespace llama_tp {

// Keys and values of what a sequence has seen, of every block: [G, C, D] each.
struct KeyValueCache {
  std::vector<Tensor> keys, values;
  int64_t rows = 0;  // C
};

struct TransformerOptions {
  // Keep only the residual stream between blocks and run each block's forward again in backward (Chen et al. 2016).
  bool recompute = false;
  FsdpOptions fsdp;
};

class Transformer {
 public:
  Transformer(const ModelConfig& config, Parameters& parameters, Runtime& runtime,
              const TransformerOptions& options = {});

  // Before the first forward after the weights changed: once a step.
  void open_step() const { fsdp_.open_norms(); }

  // Forward, loss and backward of one micro-batch. Adds the gradient of scale · Σ loss to the gradients and Σ loss to
  // loss[0] ([1] f64). on_gradient_ready: called with every unit but the norms'.
  void train(const Batch& batch, float scale, const Tensor& loss, const OnGradientReady& on_gradient_ready);
  // Behind a step's last backward: the norms' gradients are in the ranks' pieces.
  void reduce_norms() const { fsdp_.reduce_norms(); }

  // Forward without keeping anything: x [S, H], the normed hidden states. Keys and values are kept if there is a cache.
  void infer(const Batch& batch, KeyValueCache* cache, const Tensor& x);
  // Forward without gradients: adds Σ loss to loss[0] ([1] f64).
  void add_loss(const Batch& batch, const Tensor& loss);
  const Head& head() const { return head_; }
  // The head's weight, for as long as its logits are asked for.
  WholeUnit whole_head() const { return {fsdp_, head_unit(), Use::values}; }

  KeyValueCache push_cache(int64_t rows);

  // Runs a forward and names the first place whose values are not finite: "the attention of block 3". "" if all are.
  std::string first_not_finite(const Batch& batch);

  const ModelConfig& config() const { return config_; }
  Runtime& runtime() const { return runtime_; }

 private:
  // [S, H] of a batch of T tokens; S: see Stream.
  Shape stream_shape(const Batch& batch) const { return {embedding_tp_.own_tokens(batch.tokens()), config_.hidden}; }
  Stream push_stream(const Tensor& normed) const;
  void embed(const Batch& batch, const Stream& out);
  Tensor push_rope(const Batch& batch);
  void make_rope_table(const Batch& batch, const Tensor& table);
  void make_rope_table(const Tensor& positions, int64_t length, const Tensor& table);
  void forward(const Batch& batch, const Tensor& rope, const Tensor& normed);
  void backward(const Batch& batch, const Tensor& rope, const Tensor& dx, const OnGradientReady& on_gradient_ready);
  void backward_blocks(const Batch& batch, const Tensor& rope, const Tensor& dx,
                       const OnGradientReady& on_gradient_ready);
  const Norm& norm_after(size_t layer) const;
  float embedding_multiplier() const;
  const Unit& embedding_unit() const { return parameters_.unit_of(parameters_.embedding()); }
  const Unit& head_unit() const { return parameters_.unit_of(parameters_.head()); }
  bool is_finite(const Tensor& tensor) const;

  const ModelConfig& config_;
  Parameters& parameters_;
  Runtime& runtime_;
  bool recompute_;
  Fsdp fsdp_;
  TensorParallel embedding_tp_;
  Head head_;
  std::vector<Block> blocks_;
  std::vector<Stream> streams_;    // before each block, and behind the last
  std::vector<BlockSaved> saved_;  // of each block
  std::vector<float> frequencies_;
  int64_t frequencies_length_ = 0;  // the length that they are for; 0: none yet
  Tensor frequencies_tensor_;       // [R/2] f32
};

}  // namespace llama_tp
