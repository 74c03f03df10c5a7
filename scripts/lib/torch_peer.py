#!/usr/bin/env python3
"""PyTorch's attention and training at the sizes of scripts/gpu_check, on one GPU (where there is none, on the CPU).

    scripts/lib/torch_peer.py attention CONFIG.json TOKENS
    scripts/lib/torch_peer.py training CONFIG.json BLOCK_SIZE SAMPLES FORWARDS

attention: one causal sequence by scaled_dot_product_attention, in bf16, with whichever of its flash and cuDNN backends is
faster: µs forward and backward, and FLOP/s of what the mask leaves (4 a pair of a query and a key and element of a head
forward, 10 backward).

training: transformers with flash attention, bf16 autocast on f32 weights, fused AdamW; random weights and tokens. Blocks
are compiled by torch.compile, once for all of them: compiling the model as a whole takes minutes. A step has so many
forwards and backwards, each of so many samples. tokens/s, and FLOP/s as
llama_tp counts the model's (attention's causal half, no embedding). Where the layers of the config do not fit, halves them:
FLOP/s are what can be compared then.
"""

import json
import statistics
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

WARM_UP, STEPS = 2, 4  # of attention
TRAINING_WARM_UP, TRAINING_STEPS = 1, 3  # the first step has every shape and compiles; on a GPU each takes seconds
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds_of(work):
    synchronize()
    begin = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - begin


def median_seconds(work, warm_up, times):
    return statistics.median([seconds_of(work) for _ in range(warm_up + times)][warm_up:])


# ---- attention


def attention_seconds(backend, heads, kv_heads, dim, tokens):
    def normals(of):
        return torch.randn(1, of, tokens, dim, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)

    q, k, v = normals(heads), normals(kv_heads), normals(kv_heads)

    def forward():
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    out = forward()
    dout = torch.randn_like(out)
    return (
        median_seconds(forward, WARM_UP, STEPS),
        median_seconds(lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True), WARM_UP, STEPS),
    )


def measure_attention(options, tokens):
    heads = options["num_attention_heads"]
    dim = options.get("head_dim") or options["hidden_size"] // heads
    measured = {}
    for name, backend in (("flash", SDPBackend.FLASH_ATTENTION), ("cuDNN", SDPBackend.CUDNN_ATTENTION)):
        try:
            measured[name] = attention_seconds(backend, heads, options["num_key_value_heads"], dim, tokens)
        except RuntimeError as error:
            print(f"{name}: {str(error).splitlines()[0]}", file=sys.stderr)
    pairs = heads * dim * tokens * (tokens + 1) / 2
    for which, words, flops in ((0, "forward", 4 * pairs), (1, "backward", 10 * pairs)):
        name = min(measured, key=lambda one: measured[one][which])
        seconds = measured[name][which]
        print(f"torch {torch.__version__}, attention by {name}: {seconds * 1e6:.1f} µs {words}, {flops / seconds / 1e9:,.0f} GFLOP/s")


# ---- training


def model_flops(config, block, samples):
    h, layers, heads = config.hidden_size, config.num_hidden_layers, config.num_attention_heads
    kv, d = config.num_key_value_heads, config.head_dim
    weights = layers * (h * (heads + 2 * kv) * d + heads * d * h + 3 * h * config.intermediate_size + 2 * h)
    weights += config.vocab_size * h + h
    return 6 * (weights + layers * heads * d * block) * block * samples


def step_seconds(config, block, samples, forwards):
    import transformers

    torch.manual_seed(1)
    with torch.device(DEVICE):
        model = transformers.LlamaForCausalLM(config)
    model.config.use_cache = False
    for layer in model.model.layers:
        layer.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    tokens = torch.randint(0, config.vocab_size, (samples, block), device=DEVICE)

    def step():
        for _ in range(forwards):
            with torch.autocast(DEVICE, torch.bfloat16):
                loss = model(input_ids=tokens, labels=tokens).loss / forwards
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return median_seconds(step, TRAINING_WARM_UP, TRAINING_STEPS)


def measure_training(options, block, samples, forwards):
    import transformers

    while True:
        config = transformers.LlamaConfig(**options, attn_implementation="sdpa")
        try:
            seconds = step_seconds(config, block, samples, forwards)
            break
        except torch.cuda.OutOfMemoryError:
            if options["num_hidden_layers"] == 1:
                raise
            options["num_hidden_layers"] //= 2
        torch.cuda.empty_cache()
    print(
        f"torch {torch.__version__}, blocks compiled, {options['num_hidden_layers']} layers:"
        f" {block * samples * forwards / seconds:,.0f} tokens/s ({samples * forwards} x {block} tokens in {seconds:.3f} s),"
        f" {model_flops(config, block, samples * forwards) / seconds / 1e9:,.0f} GFLOP/s"
    )


def main():
    what, path, *sizes = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        options = json.load(file)
    if what == "attention":
        measure_attention(options, *map(int, sizes))
    else:
        measure_training(options, *map(int, sizes))


main()
