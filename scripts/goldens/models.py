#!/usr/bin/env python3
"""Goldens for the model: tiny random models of each family whose logits, loss and gradients transformers has computed.

    scripts/goldens/models.py            writes tests/goldens/models/ again
    scripts/goldens/models.py --check    computes everything again and compares with what is committed

Needs torch, transformers, numpy and safetensors (`scripts/venv` makes them); the versions that made the committed files
are in each about.json. Weights and texts come from numpy's PCG64 by the model's name, so they do not depend on torch.

A folder tests/goldens/models/<name>/ holds
    config.json            one spelling of the configuration (`rope_theta`, `torch_dtype` or `rope_parameters`, `dtype`)
    respelled.json         the same model in the other spelling
    model.safetensors      the weights, f32 (or bf16, where the name ends so)
    input.jsonl            a sample a line: {"input_ids", "labels"}; without labels the ids are the labels; -100 is no target
    golden.safetensors     f32: logits.<line> [sequence, vocabulary]; loss [1]; grad.<HF name> of every parameter, where
                           loss = sum over the targets of all lines / their number (label i + 1 belongs to token i)
    about.json             versions, and the largest errors that transformers itself makes in the folder's own dtype
    generation.json        (some) prompts with 12 greedy tokens each, EOS ignored; generation.safetensors: logits.<prompt>
                           [12, vocabulary], those that each new token was taken from
training/ has no golden.safetensors but training.json: the options, for each step the lines of each micro-batch, and
what came out: loss, grad_norm (before clipping) and learning_rate a step, and each parameter's L2 norm after the last.

The weights are drawn wide, so that a mistake shows: attention far from uniform, logits spread over several units, norm
weights around 1 but not 1, biases not 0. A model that double and f32 disagree on would make a poor golden: refused.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import zlib

import numpy
import torch
import transformers
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch_file
from safetensors.torch import save_file

import model_reference as reference
from training import train

GOLDENS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "goldens" / "models"
NEW_TOKENS = 12
# What the C++ tests grant in f32. transformers' own f32 must stay far inside, or the model is too sensitive to judge by.
LOGITS_TOLERANCE, GRADIENT_TOLERANCE = 2e-5, 1e-4

# What the configurations of a family have besides the sizes, and what its newest spelling writes out of the defaults.
FAMILIES = {
    "llama": dict(architecture="LlamaForCausalLM", common=dict(hidden_act="silu", rms_norm_eps=1e-6),
                  defaults=dict(attention_bias=False, mlp_bias=False, tie_word_embeddings=False, head_dim=None)),
    "qwen2": dict(architecture="Qwen2ForCausalLM", common=dict(hidden_act="silu", rms_norm_eps=1e-6),
                  defaults=dict(tie_word_embeddings=False, use_sliding_window=False)),
    "mistral": dict(architecture="MistralForCausalLM", common=dict(hidden_act="silu", rms_norm_eps=1e-6),
                    defaults=dict(tie_word_embeddings=False, head_dim=None, sliding_window=None)),
    "qwen3": dict(architecture="Qwen3ForCausalLM", common=dict(hidden_act="silu", rms_norm_eps=1e-6),
                  defaults=dict(attention_bias=False, tie_word_embeddings=False, use_sliding_window=False)),
    "phi3": dict(architecture="Phi3ForCausalLM", common=dict(hidden_act="silu", rms_norm_eps=1e-5, pad_token_id=None),
                 defaults=dict(tie_word_embeddings=False, sliding_window=None)),
    "granite": dict(architecture="GraniteForCausalLM", common=dict(hidden_act="silu", rms_norm_eps=1e-6),
                    defaults=dict(attention_bias=False, mlp_bias=False, tie_word_embeddings=False)),
    "nemotron": dict(architecture="NemotronForCausalLM", common=dict(hidden_act="relu2", norm_eps=1e-5),
                     defaults=dict(attention_bias=False, mlp_bias=False, tie_word_embeddings=False, head_dim=None)),
    "smollm3": dict(architecture="SmolLM3ForCausalLM",
                    common=dict(hidden_act="silu", rms_norm_eps=1e-6, pad_token_id=None),
                    defaults=dict(attention_bias=False, mlp_bias=False, tie_word_embeddings=True,
                                  use_sliding_window=False, sliding_window=None)),
    "starcoder2": dict(architecture="Starcoder2ForCausalLM", common=dict(norm_epsilon=1e-5),
                       defaults=dict(hidden_act="gelu_pytorch_tanh", use_bias=True, tie_word_embeddings=True,
                                     sliding_window=None)),
    "stablelm": dict(architecture="StableLmForCausalLM", common=dict(layer_norm_eps=1e-5),
                     defaults=dict(hidden_act="silu", use_qkv_bias=False, tie_word_embeddings=False,
                                   use_parallel_residual=False, qk_layernorm=False)),
    "jais2": dict(architecture="Jais2ForCausalLM", common=dict(layer_norm_eps=1e-5),
                  defaults=dict(hidden_act="relu2", attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
                                head_dim=None)),
    "gemma": dict(architecture="GemmaForCausalLM", common=dict(rms_norm_eps=1e-6),
                  defaults=dict(hidden_act="gelu_pytorch_tanh", attention_bias=False, tie_word_embeddings=True,
                                pad_token_id=0)),
}

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}

# name → sizes and options. Heads and intermediate size divide by 4, or by the number that ends the name; vocabularies by
# nothing; lengths of the samples.
MODELS = {
    "mha": dict(hidden_size=24, num_attention_heads=4, intermediate_size=36, vocab_size=103, lengths=[24, 17, 9]),
    "gqa": dict(hidden_size=32, num_attention_heads=8, num_key_value_heads=4, intermediate_size=28, vocab_size=103,
                lengths=[23, 16, 5], new_spelling=True, prompts=[7, 1, 12]),
    "kv_replicated": dict(hidden_size=24, num_attention_heads=8, num_key_value_heads=2, head_dim=6,
                          intermediate_size=28, vocab_size=61, lengths=[19, 2, 13]),
    "mqa_tied": dict(hidden_size=28, num_attention_heads=4, num_key_value_heads=1, head_dim=8, intermediate_size=36,
                     vocab_size=103, tie_word_embeddings=True, pad_token_id=5, lengths=[21, 11, 8], new_spelling=True),
    "biases": dict(hidden_size=32, num_attention_heads=8, num_key_value_heads=2, intermediate_size=28, vocab_size=71,
                   attention_bias=True, mlp_bias=True, rms_norm_eps=1e-5, lengths=[22, 15]),
    "head_dim": dict(hidden_size=24, num_attention_heads=4, num_key_value_heads=2, head_dim=14, intermediate_size=28,
                     vocab_size=53, pad_token_id=0, rope_theta=500.0, lengths=[20, 7, 14], new_spelling=True),
    "rope_linear": dict(hidden_size=24, num_attention_heads=4, intermediate_size=20, vocab_size=41, rope_theta=100.0,
                        rope={"type": "linear", "factor": 2.5}, lengths=[24, 10]),
    # Samples of one length: the frequencies follow the longest position of a forward, and batching must not matter here.
    "rope_dynamic": dict(hidden_size=24, num_attention_heads=4, intermediate_size=20, vocab_size=41,
                         rope={"rope_type": "dynamic", "factor": 2.0}, rope_theta=100.0, max_position_embeddings=16,
                         lengths=[24, 24], new_spelling=True, prompts=[9, 15, 18]),
    # Wavelengths 6, 20, 63 and 199 against bounds of 16 and 64: kept, blended, blended, divided.
    "rope_llama3": dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=20,
                        vocab_size=41, rope=LLAMA3, rope_theta=100.0, max_position_embeddings=128, lengths=[24, 18]),
    # Wavelengths 6, 20, 63 and 199 turn 8, 2.4, 0.8 and 0.2 times in the original context: kept, blended, blended, divided.
    "rope_yarn": dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=20, vocab_size=41,
                      rope={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 48, "beta_fast": 6.0,
                            "beta_slow": 0.4}, rope_theta=100.0, max_position_embeddings=192, lengths=[24, 18]),
    # The first layer sees everything, the second has a window; biases on q, k and v alone.
    "qwen2": dict(family="qwen2", hidden_size=32, num_attention_heads=8, num_key_value_heads=4, intermediate_size=28,
                  vocab_size=71, use_sliding_window=True, sliding_window=5, max_window_layers=1, rope_theta=1000.0,
                  lengths=[22, 15, 6], prompts=[9, 2]),
    "qwen2_tied": dict(family="qwen2", hidden_size=24, num_attention_heads=4, num_key_value_heads=1,
                       intermediate_size=36, vocab_size=53, tie_word_embeddings=True, lengths=[17, 12], new_spelling=True,
                       layer_types=["sliding_attention", "full_attention"], use_sliding_window=True, sliding_window=3,
                       rope={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}),
    "mistral": dict(family="mistral", hidden_size=24, num_attention_heads=8, num_key_value_heads=2, head_dim=10,
                    intermediate_size=36, vocab_size=59, sliding_window=7, lengths=[23, 16, 4], prompts=[11, 3]),
    # On four ranks a key head is held by two, and the norm of the heads is held by all.
    "qwen3": dict(family="qwen3", hidden_size=24, num_attention_heads=8, num_key_value_heads=2, head_dim=6,
                  intermediate_size=28, vocab_size=67, attention_bias=True, lengths=[21, 14, 9], prompts=[8, 1],
                  new_spelling=True),
    "qwen3_tied": dict(family="qwen3", hidden_size=28, num_attention_heads=4, num_key_value_heads=4, head_dim=10,
                       intermediate_size=20, vocab_size=43, tie_word_embeddings=True, use_sliding_window=True,
                       sliding_window=6, max_window_layers=1, lengths=[35, 12]),
    "qwen3_bf16": dict(family="qwen3", hidden_size=24, num_attention_heads=8, num_key_value_heads=2, head_dim=6,
                       intermediate_size=28, vocab_size=67, lengths=[21, 14], dtype="bfloat16"),
    "phi3": dict(family="phi3", hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=36,
                 vocab_size=73, partial_rotary_factor=0.5, sliding_window=6, lengths=[20, 13, 7], prompts=[9, 2]),
    # The first sample is longer than the original context, the second is not; so are the prompts with what follows.
    "phi3_longrope": dict(family="phi3", hidden_size=24, num_attention_heads=4, num_key_value_heads=1,
                          intermediate_size=28, vocab_size=47, tie_word_embeddings=True, pad_token_id=4,
                          rope={"type": "longrope", "short_factor": [1.1, 1.4, 1.9], "long_factor": [1.3, 2.5, 6.0]},
                          rope_theta=100.0, original_max_position_embeddings=16, lengths=[24, 11], prompts=[17, 4],
                          new_spelling=True),
    "granite": dict(family="granite", hidden_size=32, num_attention_heads=8, num_key_value_heads=4,
                    intermediate_size=28, vocab_size=79, attention_bias=True, mlp_bias=True, attention_multiplier=0.3,
                    residual_multiplier=0.6, embedding_multiplier=2.5, logits_scaling=0.7, lengths=[22, 10, 5],
                    prompts=[8, 2]),
    "granite_tied_bf16": dict(family="granite", hidden_size=32, num_attention_heads=8, num_key_value_heads=4,
                              intermediate_size=28, vocab_size=79, attention_multiplier=0.3, residual_multiplier=0.6,
                              embedding_multiplier=2.5, logits_scaling=0.7, tie_word_embeddings=True, lengths=[22, 10],
                              dtype="bfloat16", new_spelling=True),
    "nemotron": dict(family="nemotron", hidden_size=24, num_attention_heads=8, num_key_value_heads=2, head_dim=12,
                     intermediate_size=44, vocab_size=61, partial_rotary_factor=0.5, lengths=[21, 16, 3],
                     prompts=[9, 4]),
    "nemotron_biases": dict(family="nemotron", hidden_size=28, num_attention_heads=4, num_key_value_heads=4,
                            head_dim=8, intermediate_size=20, vocab_size=53, attention_bias=True, mlp_bias=True,
                            tie_word_embeddings=True, partial_rotary_factor=0.75, lengths=[19, 12], new_spelling=True),
    # One layer turns, by YaRN, whose magnitude is not 1 and is not the other layer's, which has the window.
    "smollm3": dict(family="smollm3", hidden_size=32, num_attention_heads=4, num_key_value_heads=2,
                    intermediate_size=28, vocab_size=83, tie_word_embeddings=False, no_rope_layers=[0, 1],
                    rope={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
                    use_sliding_window=True, sliding_window=5, lengths=[21, 14, 5], prompts=[9, 2]),
    # Every second layer does not turn (where the gradient of a bias of k would be 0); the other has the window.
    "smollm3_tied": dict(family="smollm3", hidden_size=24, num_attention_heads=4, num_key_value_heads=4,
                         intermediate_size=20, vocab_size=53, mlp_bias=True, tie_word_embeddings=True,
                         no_rope_layer_interval=2, layer_types=["sliding_attention", "full_attention"],
                         use_sliding_window=True, sliding_window=4, lengths=[19, 11], new_spelling=True),
    "starcoder2": dict(family="starcoder2", hidden_size=32, num_attention_heads=8, num_key_value_heads=2,
                       intermediate_size=44, vocab_size=61, sliding_window=6, lengths=[21, 16, 3], prompts=[9, 4]),
    "starcoder2_bare": dict(family="starcoder2", hidden_size=24, num_attention_heads=4, num_key_value_heads=4,
                            intermediate_size=20, vocab_size=53, use_bias=False, tie_word_embeddings=False,
                            lengths=[19, 12], new_spelling=True),
    # A quarter of a head turns, as no key says.
    "stablelm": dict(family="stablelm", hidden_size=32, num_attention_heads=4, num_key_value_heads=4,
                     intermediate_size=36, vocab_size=59, lengths=[20, 13, 4], prompts=[10, 3]),
    "stablelm_biases": dict(family="stablelm", hidden_size=32, num_attention_heads=8, num_key_value_heads=2,
                            intermediate_size=28, vocab_size=43, use_qkv_bias=True, tie_word_embeddings=True,
                            partial_rotary_factor=0.5, lengths=[18, 11], new_spelling=True),
    "gemma": dict(family="gemma", hidden_size=28, num_attention_heads=8, num_key_value_heads=2, head_dim=10,
                  intermediate_size=36, vocab_size=59, hidden_act="gelu", lengths=[21, 14, 5], prompts=[9, 3]),
    "gemma_head": dict(family="gemma", hidden_size=24, num_attention_heads=4, num_key_value_heads=4, head_dim=8,
                       intermediate_size=28, vocab_size=43, attention_bias=True, tie_word_embeddings=False,
                       pad_token_id=0, lengths=[18, 11], new_spelling=True),
    "gemma_bf16": dict(family="gemma", hidden_size=28, num_attention_heads=8, num_key_value_heads=2, head_dim=10,
                       intermediate_size=36, vocab_size=59, lengths=[21, 14], dtype="bfloat16"),
    "jais2": dict(family="jais2", hidden_size=24, num_attention_heads=4, num_key_value_heads=2, intermediate_size=44,
                  vocab_size=47, lengths=[19, 12], prompts=[8, 3]),
    "gqa_3": dict(hidden_size=30, num_attention_heads=6, num_key_value_heads=3, head_dim=6, intermediate_size=33,
                  vocab_size=103, attention_bias=True, lengths=[23, 16, 5], prompts=[8, 3]),
    "qwen3_3": dict(family="qwen3", hidden_size=24, num_attention_heads=6, num_key_value_heads=1, head_dim=6,
                    intermediate_size=21, vocab_size=67, lengths=[21, 14], tie_word_embeddings=True),
    "gqa_8": dict(hidden_size=32, num_attention_heads=16, num_key_value_heads=2, head_dim=4, intermediate_size=40,
                  vocab_size=103, lengths=[23, 16, 5], prompts=[5, 9], new_spelling=True),
    "phi3_8": dict(family="phi3", hidden_size=32, num_attention_heads=8, num_key_value_heads=8, intermediate_size=24,
                   vocab_size=73, partial_rotary_factor=0.5, lengths=[20, 13]),
    "qwen3_8": dict(family="qwen3", hidden_size=24, num_attention_heads=8, num_key_value_heads=4, head_dim=6,
                    intermediate_size=24, vocab_size=67, lengths=[21, 14]),
    "gqa_f16": dict(hidden_size=32, num_attention_heads=8, num_key_value_heads=4, intermediate_size=28, vocab_size=103,
                    lengths=[23, 16, 5], dtype="float16"),
    "gqa_bf16": dict(hidden_size=32, num_attention_heads=8, num_key_value_heads=4, intermediate_size=28,
                     vocab_size=103, lengths=[23, 16, 5], dtype="bfloat16"),
    "biases_tied_bf16": dict(hidden_size=32, num_attention_heads=8, num_key_value_heads=2, intermediate_size=28,
                             vocab_size=71, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
                             lengths=[22, 15], dtype="bfloat16", new_spelling=True),
}
TRAINING = dict(hidden_size=32, num_attention_heads=8, num_key_value_heads=2, intermediate_size=28, vocab_size=61,
                attention_bias=True, mlp_bias=True, tie_word_embeddings=True, pad_token_id=3, new_spelling=True,
                lengths=[20, 3, 14, 9, 17, 6, 11, 19, 2, 8, 13, 5])


def write_json(file, value):
    """A list: an item a line. An object: a key a line."""
    if isinstance(value, list):
        lines, ends = map(json.dumps, value), "[]"
    else:
        lines, ends = (f"{json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()), "{}"
    file.write_text(ends[0] + "\n " + ",\n ".join(lines) + "\n" + ends[1] + "\n")


def write_configs(folder, spec):
    """config.json and respelled.json: old and new spelling of one model; the old one leaves out what has a default."""
    family = FAMILIES[spec.get("family", "llama")]
    common = {"architectures": [family["architecture"]], "model_type": spec.get("family", "llama"),
              "num_hidden_layers": 2} | family["common"]
    common |= {"max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2}
    common |= {key: value for key, value in spec.items()
               if key not in ("family", "lengths", "prompts", "rope", "rope_theta", "new_spelling", "dtype")}
    dtype, theta, rope = spec.get("dtype", "float32"), spec.get("rope_theta", 10000.0), spec.get("rope")
    old = common | {"rope_theta": theta, "rope_scaling": rope, "torch_dtype": dtype}
    new = {"num_key_value_heads": common["num_attention_heads"]} | family["defaults"]
    if "head_dim" in new:
        new["head_dim"] = common["hidden_size"] // common["num_attention_heads"]
    parameters = {"rope_theta": theta} | (rope or {})
    if "partial_rotary_factor" in common:
        parameters["partial_rotary_factor"] = common["partial_rotary_factor"]
    parameters["rope_type"] = parameters.pop("type", None) or parameters.get("rope_type", "default")
    new |= common | {"rope_parameters": parameters, "dtype": dtype}
    new.pop("partial_rotary_factor", None)
    names = ("respelled.json", "config.json") if spec.get("new_spelling") else ("config.json", "respelled.json")
    for name, config in zip(names, (old, new)):
        write_json(folder / name, config)


def draw_weights(random, spec, folder):
    """{HF name: f32 tensor}, wide: scores of attention have a deviation near 2, logits near 3."""
    gains = {"q_proj": 1.4, "k_proj": 1.4, "qkv_proj": 1.4, "lm_head": 3.0}
    config = reference.read_config(folder / "config.json")
    model = transformers.AutoModelForCausalLM.from_config(config)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    weights = {}
    for name, shape in shapes.items():
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            drawn = random.uniform(0.5, 2.5, shape)
        elif name.endswith("norm.weight"):
            drawn = random.uniform(0.5, 1.5, shape) - (spec.get("family") in ("nemotron", "gemma"))  # whose norms add 1
        elif name.endswith(".bias"):
            drawn = random.normal(0, 0.5, shape)
        elif "embed_tokens" in name:
            drawn = random.normal(0, 3.0 / shape[1] ** 0.5 if config.tie_word_embeddings else 1.0, shape)
        else:
            gain = next((gain for part, gain in gains.items() if part in name), 1.0)
            drawn = random.normal(0, gain / shape[1] ** 0.5, shape)
        weights[name] = torch.tensor(drawn, dtype=getattr(torch, spec.get("dtype", "float32")))
    return weights


def draw_samples(random, spec):
    """Lines of input.jsonl: the first all targets without labels; the others masked at their start, middle or end."""
    samples = []
    for index, length in enumerate(spec["lengths"]):
        ids = random.integers(0, spec["vocab_size"], length).tolist()
        if length > 4:
            ids[3] = spec.get("pad_token_id", ids[1])  # a repeated token, or the one without an embedding gradient
        sample = {"input_ids": ids}
        if index > 0:
            labels = numpy.array(ids)
            start = random.integers(0, length)
            labels[[slice(0, length // 3), slice(start, start + 2), slice(length - 2, length)][index % 3]] = -100
            sample["labels"] = labels.tolist()
        samples.append(sample)
    return samples


def own_errors(folder, weights, samples, logits, loss, gradients, dtype):
    """How far transformers in `dtype` is from the golden: the largest of each kind, relative to the largest magnitude."""
    model = reference.load_model(folder / "config.json", weights, dtype)
    got_logits, got_loss = reference.forward_backward(model, samples, reference.count_targets(samples))
    got = reference.gradients(model)
    by_name = {name: reference.relative_error(got[name], want) for name, want in gradients.items()}
    return {"logits": max(map(reference.relative_error, got_logits, logits)), "loss": abs(got_loss - loss),
            "gradient": max(by_name.values()), "gradient_name": max(by_name, key=by_name.get)}


def about(folder, **facts):
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": numpy.__version__}
    write_json(folder / "about.json", {"made_by": "scripts/goldens/models.py", "versions": versions} | facts)


def rounded(value):
    return {key: float(f"{item:.3g}") if isinstance(item, float) else item for key, item in value.items()}


def write_generation(folder, model, random, spec):
    prompts, tensors, continuations = [], {}, []
    for index, length in enumerate(spec["prompts"]):
        prompt = random.integers(3, spec["vocab_size"], length).tolist()
        ids, logits = reference.greedy(model, prompt, NEW_TOKENS)
        best = logits.topk(2).values
        margin = ((best[:, 0] - best[:, 1]).min() / logits.abs().max()).item()
        if margin < 10 * LOGITS_TOLERANCE or 2 in ids:
            raise SystemExit(f"{folder.name}: prompt {index} has a margin of {margin:.1e} or meets EOS: another seed")
        prompts.append(prompt)
        continuations.append(ids)
        tensors[f"logits.{index}"] = logits.to(torch.float32)
    write_json(folder / "generation.json", [{"prompt": p, "continuation": c} for p, c in zip(prompts, continuations)])
    save_file(tensors, folder / "generation.safetensors")


def start_folder(root, name, spec):
    """Writes what a golden starts from. Returns (folder, weights, samples, the random numbers that are left)."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    random = numpy.random.Generator(numpy.random.PCG64(zlib.crc32(name.encode())))
    write_configs(folder, spec)
    weights = draw_weights(random, spec, folder)
    samples = draw_samples(random, spec)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "input.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return folder, weights, samples, random


def write_model(root, name, spec):
    folder, weights, samples, random = start_folder(root, name, spec)
    model = reference.load_model(folder / "config.json", weights, torch.float64)
    targets = reference.count_targets(samples)
    logits, loss = reference.forward_backward(model, samples, targets)
    gradients = reference.gradients(model)
    respelled = reference.load_model(folder / "respelled.json", weights, torch.float64)
    if not torch.equal(reference.forward_backward(respelled, samples, targets)[0][0], logits[0]):
        raise SystemExit(f"{name}: respelled.json is another model")

    tensors = {f"logits.{index}": values for index, values in enumerate(logits)}
    tensors |= {f"grad.{key}": values for key, values in gradients.items()}
    tensors["loss"] = torch.tensor([loss], dtype=torch.float64)
    save_file({key: values.to(torch.float32).contiguous() for key, values in tensors.items()},
              folder / "golden.safetensors")
    errors = {"float32": own_errors(folder, weights, samples, logits, loss, gradients, torch.float32)}
    if errors["float32"]["logits"] > LOGITS_TOLERANCE / 4 or errors["float32"]["gradient"] > GRADIENT_TOLERANCE / 4:
        raise SystemExit(f"{name}: too sensitive for a golden: {errors}")
    if spec.get("dtype") == "bfloat16":
        errors["bfloat16"] = own_errors(folder, weights, samples, logits, loss, gradients, torch.bfloat16)
    about(folder, loss=loss, targets=targets, error_of_transformers={k: rounded(v) for k, v in errors.items()})
    if "prompts" in spec:
        write_generation(folder, model, random, spec)
    spread = torch.cat(logits).std().item()
    print(f"{name:17} loss {loss:7.4f}  logits' deviation {spread:4.1f}  f32 error: logits "
          f"{errors['float32']['logits']:.0e}, gradients {errors['float32']['gradient']:.0e}")


def write_training(root):
    folder, weights, samples, _ = start_folder(root, "training", TRAINING)
    exact = train(folder, weights, samples, torch.float64)
    single = train(folder, weights, samples, torch.float32)
    error = max(abs(a - b) for a, b in zip(exact["loss"], single["loss"]))
    if error > 1e-5:  # the C++ test grants 1e-4
        raise SystemExit(f"training: f32 and double part by {error:.1e}: too sensitive for a golden")
    write_json(folder / "training.json", exact)
    about(folder, largest_loss_error_of_float32=float(f"{error:.3g}"))
    print(f"{'training':17} loss {exact['loss'][0]:.4f} → {exact['loss'][-1]:.4f}, gradient norms "
          f"{min(exact['grad_norm']):.2f} to {max(exact['grad_norm']):.2f}, f32 error {error:.0e}")


def differences(folder, committed):
    """Names of the files that are not the same: bytes, or for golden numbers 1e-6 of the largest magnitude."""
    for file in sorted(folder.rglob("*")):
        old = committed / file.relative_to(folder)
        if file.is_dir() or file.name == "about.json":
            continue
        if not old.exists():
            yield f"{old}: missing"
        elif file.name in ("golden.safetensors", "generation.safetensors"):
            new_tensors, old_tensors = load_torch_file(file), load_torch_file(old)
            if new_tensors.keys() != old_tensors.keys() or any(
                    reference.relative_error(new_tensors[key], old_tensors[key]) > 1e-6 for key in new_tensors):
                yield f"{old}: other numbers"
        elif file.name == "training.json":
            new_run, old_run = json.loads(file.read_text()), json.loads(old.read_text())
            if not numpy.allclose(new_run["loss"], old_run["loss"], rtol=0, atol=1e-7):
                yield f"{old}: other losses"
        elif file.read_bytes() != old.read_bytes():
            yield f"{old}: other bytes"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="WORD", default="", help="models with this word in their name alone")
    parser.add_argument("--check", action="store_true", help="compare with the committed files; writes nothing")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)  # one order of summation
    torch.manual_seed(0)      # of the weights that ours replace
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch) if arguments.check else GOLDENS
        for name, spec in MODELS.items():
            if arguments.only in name:
                write_model(root, name, spec)
        if arguments.only in "training":
            write_training(root)
        if arguments.check:
            found = list(differences(root, GOLDENS))
            print("\n".join(found) or f"{GOLDENS.name}: the committed goldens are what this script makes")
            sys.exit(bool(found))


if __name__ == "__main__":
    main()
