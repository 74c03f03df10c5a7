"""Fifty AdamW steps of transformers' Llama: what the trainer must follow."""

import torch
from transformers import get_cosine_schedule_with_warmup
from transformers.trainer_pt_utils import get_parameter_names

import model_reference as reference

# A norm of 4 lies inside what this run meets, so that some steps are clipped and some are not.
OPTIONS = {"max_steps": 50, "learning_rate": 3e-3, "lr_scheduler_type": "cosine", "warmup_steps": 5,
           "weight_decay": 0.1, "adam_beta1": 0.88, "adam_beta2": 0.96, "adam_epsilon": 1e-7, "max_grad_norm": 4.0,
           "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
# The names that transformers' Trainer spares from weight decay (Trainer.get_decay_parameter_names, 5.23).
NOT_DECAYED = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


def batches(samples):
    """For each step its micro-batches, as lists of lines: the file in order, again and again."""
    size, accumulation = OPTIONS["per_device_train_batch_size"], OPTIONS["gradient_accumulation_steps"]
    step = lambda first: [[(first + micro * size + i) % samples for i in range(size)] for micro in range(accumulation)]
    return [step(index * size * accumulation) for index in range(OPTIONS["max_steps"])]


def make_optimizer(model):
    decayed = set(get_parameter_names(model, [torch.nn.LayerNorm], NOT_DECAYED))
    named = list(model.named_parameters())
    groups = [{"params": [p for name, p in named if name in decayed], "weight_decay": OPTIONS["weight_decay"]},
              {"params": [p for name, p in named if name not in decayed], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=OPTIONS["learning_rate"], eps=OPTIONS["adam_epsilon"],
                             betas=(OPTIONS["adam_beta1"], OPTIONS["adam_beta2"]))


def train(folder, weights, samples, dtype):
    """Returns the contents of training.json. torch clips by max_grad_norm / (norm + 1e-6), never up."""
    model = reference.load_model(folder / "config.json", weights, dtype)
    optimizer = make_optimizer(model)
    schedule = get_cosine_schedule_with_warmup(optimizer, OPTIONS["warmup_steps"], OPTIONS["max_steps"])
    plan = batches(len(samples))
    run = {"loss": [], "grad_norm": [], "learning_rate": []}
    for micro_batches in plan:
        used = [samples[line] for micro in micro_batches for line in micro]
        _, loss = reference.forward_backward(model, used, reference.count_targets(used))
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIONS["max_grad_norm"])
        run["loss"].append(loss)
        run["grad_norm"].append(norm.item())
        run["learning_rate"].append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    norms = {name: parameter.norm().item() for name, parameter in model.named_parameters()}
    return {"options": OPTIONS, "micro_batches": plan} | run | {"final_norms": norms}
