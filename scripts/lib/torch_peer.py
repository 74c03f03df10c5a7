#!/usr/bin/env python3
"""The peer of scripts/gpu_check's training: the same block shape by transformers under torch.compile with flash attention,
bf16 autocast on f32 weights, fused AdamW; random weights and tokens, one GPU.

    scripts/lib/torch_peer.py CONFIG.json BLOCK_SIZE SAMPLES

Prints one line: tokens/s, and FLOP/s as llama_tp counts the model's (attention's causal half, no embedding). Where the
layers of the config do not fit, halves them: FLOP/s are what can be compared then.
"""

import json
import statistics
import sys
import time

import torch
import transformers

WARM_UP, STEPS = 2, 4


def model_flops(config, block, samples):
    h, layers, heads = config.hidden_size, config.num_hidden_layers, config.num_attention_heads
    kv, d = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    weights = layers * (h * (heads + 2 * kv) * d + heads * d * h + 3 * h * config.intermediate_size + 2 * h)
    weights += config.vocab_size * h + h
    return 6 * (weights + layers * heads * d * block) * block * samples


def step_seconds(config, block, samples):
    torch.manual_seed(1)
    with torch.device("cuda"):
        model = transformers.LlamaForCausalLM(config)
    model.config.use_cache = False
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    tokens = torch.randint(0, config.vocab_size, (samples, block), device="cuda")
    run = torch.compile(model)

    def step():
        with torch.autocast("cuda", torch.bfloat16):
            loss = run(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = []
    for _ in range(WARM_UP + STEPS):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[WARM_UP:])


def main():
    path, block, samples = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with open(path, encoding="utf-8") as file:
        options = json.load(file)
    while True:
        config = transformers.LlamaConfig(**options, attn_implementation="sdpa")
        try:
            seconds = step_seconds(config, block, samples)
            break
        except torch.cuda.OutOfMemoryError:
            if options["num_hidden_layers"] == 1:
                raise
            options["num_hidden_layers"] //= 2
        torch.cuda.empty_cache()
    print(f"torch {torch.__version__}, compiled, {options['num_hidden_layers']} layers: {block * samples / seconds:,.0f} tokens/s"
          f" ({samples} x {block} tokens in {seconds:.3f} s), {model_flops(config, block, samples) / seconds / 1e9:,.0f} GFLOP/s")


main()
