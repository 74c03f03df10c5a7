"""What transformers computes for a checkpoint, held in double.

The goldens are to be nearer to the truth than any f32 program can be, so the models run in float64. transformers goes
back to f32 in a few places whatever the model's dtype is (the norm's variance, the softmax, rotary angles, the loss);
`in_double` makes those places double as well. Every sample runs alone: no padding, no packing.
"""

import contextlib
import json

import torch
from transformers import AutoConfig, AutoModelForCausalLM

IGNORED = -100  # a label that is no target, as in torch's cross-entropy


@contextlib.contextmanager
def in_double(dtype):
    """While dtype is float64, transformers' own `float32` and `.float()` mean float64 too."""
    if dtype != torch.float64:
        yield
        return
    kept = torch.float32, torch.float, torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = kept


def read_config(config_file):
    values = json.loads(config_file.read_text())
    return AutoConfig.for_model(values.pop("model_type"), **values)


def load_model(config_file, weights, dtype):
    """The model with eager attention and the given weights {HF name: array}; all of them are used, none made up."""
    config = read_config(config_file)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").to(dtype)
    tensors = {name: torch.as_tensor(values).to(dtype) for name, values in weights.items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    tied = ["lm_head.weight"] if config.tie_word_embeddings else []
    if missing != tied or unexpected:
        raise SystemExit(f"{config_file}: missing {missing}, unexpected {unexpected}")
    return model.eval()


def forget_longer_sequences(model):
    """Dynamic RoPE keeps the frequencies of the longest sequence it has seen; a golden must not depend on the order."""
    rotary = type(model.model.rotary_emb)
    model.model.rotary_emb = rotary(model.config).to(model.lm_head.weight.dtype)


def labels_of(sample):
    return sample.get("labels", sample["input_ids"])


def count_targets(samples):
    """Targets of a batch: label i + 1 belongs to token i, so the first label of a sample is never one."""
    return sum(label != IGNORED for sample in samples for label in labels_of(sample)[1:])


def forward_backward(model, samples, targets):
    """One forward and backward a sample, each loss divided by `targets`, so that losses and gradients add up.

    Returns (logits of each sample [sequence, vocabulary], loss). Gradients are added to the parameters' own.
    """
    logits, loss = [], 0.0
    for sample in samples:
        forget_longer_sequences(model)
        ids, labels = torch.tensor([sample["input_ids"]]), torch.tensor([labels_of(sample)])
        with in_double(model.dtype):
            out = model(input_ids=ids, labels=labels, num_items_in_batch=targets, use_cache=False)
            out.loss.backward()
        logits.append(out.logits[0].detach())
        loss += out.loss.item()
    return logits, loss


def gradients(model):
    """{HF name: gradient}; a tied head has none of its own."""
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def greedy(model, prompt, count):
    """Greedy continuation by transformers' generate with its KV cache. Returns (ids, logits [count, vocabulary])."""
    forget_longer_sequences(model)
    model.generation_config.eos_token_id = None
    with in_double(model.dtype), torch.no_grad():
        out = model.generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False, output_logits=True,
                             return_dict_in_generate=True)
    return out.sequences[0, len(prompt):].tolist(), torch.cat(out.logits)


def relative_error(got, want):
    """Largest difference as a share of the tensor's largest magnitude (the measure of the C++ tests)."""
    scale = want.abs().max().item()
    return (got.double() - want.double()).abs().max().item() / scale if scale else got.abs().max().item()
