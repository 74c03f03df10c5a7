#!/usr/bin/env python3
"""Golden for supervised fine-tuning: a plain transformers loop over conversations, 30 AdamW steps.

    scripts/goldens/sft.py            writes tests/goldens/sft/ again
    scripts/goldens/sft.py --check    computes everything again and compares with what is committed

Needs torch, transformers, numpy and safetensors (`scripts/venv` makes them).

tests/goldens/sft/ holds a model folder (config.json, model.safetensors, tokenizer with a chat template) and
    messages.jsonl      conversations;  completions.jsonl    prompts and completions
    input.jsonl         the conversations' input_ids and labels
    golden.json         completions: input_ids and labels of each line; the options of the run over the conversations, for
                        each step the lines of each micro-batch, and loss and grad_norm of each step
The labels are what apply_chat_template's assistant mask leaves, and of a completion those of the tokens that hold any of it.
A micro-batch is padded to its longest line; the loss is the sum over the step's learned tokens divided by their number
(num_items_in_batch). The golden is in double; f32 must stay within a tenth of what the C++ test grants.
"""

import argparse
import filecmp
import json
import pathlib
import sys
import tempfile

import numpy
import torch
import transformers
from safetensors.torch import save_file

import chat_goldens
import model_reference as reference
import models
import training

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "goldens" / "sft"
STEPS = 30
SPEC = dict(hidden_size=32, num_attention_heads=8, num_key_value_heads=4, intermediate_size=28, vocab_size=500,
            max_position_embeddings=512, tie_word_embeddings=True)
LOSS_TOLERANCE = 1e-4  # of the C++ test, relative

CONVERSATIONS = [
    ("Be brief.", ["Who lives in the barn?", "A cow and two hens."]),
    (None, ["What does the cow say?", "Moo.", "And the hens?", "They say nothing at night."]),
    (None, ["Count to three.", "One, two, three."]),
    ("You know the weather.", ["Will it rain?", "Yes: take your boots.", "And tomorrow?", "Sun, and 日本 clouds 🙂."]),
    (None, ["\n\nWhere is the cat? ", " In the kitchen, where the fish was."]),
    ("Answer in one word.", ["A colour?", "Red", "Another?", "Blue", "A third?", "Green"]),
    (None, ["Tell me of the fox.", "The fox ran over the hill and did not come back until the evening, when it was cold."]),
    (None, ["Hi", "Hello!"]),
    ("Be kind.", ["I lost my hat.", "Let us look for it together."]),
    (None, ["Is four more than three?", "It is."]),
]
COMPLETIONS = [("The cow says", " moo"), ("2 + 2 =", "4"), ("", "Once upon a time"), ("Colours:\n", "\nred\nblue"),
               ("Wie spät ist", " es?"), ("The end<|end_of_text|>", "of it<|end_of_text|>"), ("def f(x):\n    ", "return x")]


def masked(ids, mask):
    return {"input_ids": ids, "labels": [i if m else reference.IGNORED for i, m in zip(ids, mask)]}


def write_texts(folder):
    lines = []
    for system, turns in CONVERSATIONS:
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
        lines.append({"messages": ([{"role": "system", "content": system}] if system else []) + messages})
    models_lines = lambda values: "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    (folder / "messages.jsonl").write_text(models_lines(lines))
    (folder / "completions.jsonl").write_text(models_lines({"prompt": p, "completion": c} for p, c in COMPLETIONS))
    return [line["messages"] for line in lines]


def conversation(tokenizer, messages):
    out = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    return masked(out["input_ids"], out["assistant_masks"])


def completion(tokenizer, prompt, text):
    """BOS in front, EOS behind; learned from the token on that holds the first character of the text."""
    encoding = tokenizer(prompt + text)
    ids, first = encoding["input_ids"], encoding.char_to_token(len(prompt))
    if ids[-1] != tokenizer.eos_token_id:
        ids = ids + [tokenizer.eos_token_id]
    return masked(ids, [i >= first for i in range(len(ids))])


def padded(samples):
    longest = max(len(sample["input_ids"]) for sample in samples)
    fill = lambda sample, key, value: sample[key] + [value] * (longest - len(sample[key]))
    return {"input_ids": torch.tensor([fill(sample, "input_ids", 0) for sample in samples]),
            "labels": torch.tensor([fill(sample, "labels", reference.IGNORED) for sample in samples]),
            "attention_mask": torch.tensor([[1] * len(s["input_ids"]) + [0] * (longest - len(s["input_ids"]))
                                            for s in samples])}


def train(folder, weights, samples, dtype):
    model = reference.load_model(folder / "config.json", weights, dtype).train()
    optimizer = training.make_optimizer(model)
    run = {"loss": [], "grad_norm": []}
    plan = training.batches(len(samples))[:STEPS]
    for micro_batches in plan:
        used = [[samples[line] for line in micro] for micro in micro_batches]
        items = reference.count_targets([sample for micro in used for sample in micro])
        total = 0.0
        for micro in used:
            with reference.in_double(dtype):
                loss = model(**padded(micro), num_items_in_batch=items, use_cache=False).loss
                loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), training.OPTIONS["max_grad_norm"])
        run["loss"].append(total)
        run["grad_norm"].append(norm.item())
        optimizer.step()
        optimizer.zero_grad()
    options = training.OPTIONS | {"max_steps": STEPS, "lr_scheduler_type": "constant", "warmup_steps": 0}
    return {"options": options, "micro_batches": plan} | run


def write(folder):
    folder.mkdir(parents=True, exist_ok=True)
    messages = write_texts(folder)
    tokenizer = chat_goldens.make_tokenizer("chatml")
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    models.write_json(folder / "tokenizer_config.json", {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token,
                                                         "chat_template": tokenizer.chat_template})
    random = numpy.random.Generator(numpy.random.PCG64(7))
    models.write_configs(folder, SPEC)
    (folder / "respelled.json").unlink()
    weights = models.draw_weights(random, SPEC, folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    samples = [conversation(tokenizer, each) for each in messages]
    exact, single = (train(folder, weights, samples, dtype) for dtype in (torch.float64, torch.float32))
    error = max(abs(a - b) / a for a, b in zip(exact["loss"], single["loss"]))
    print(f"sft: loss {exact['loss'][0]:.4f} → {exact['loss'][-1]:.4f}, f32 error {error:.0e}")
    if error > LOSS_TOLERANCE / 10:
        raise SystemExit("sft: too sensitive for a golden")
    (folder / "input.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    completions = [completion(tokenizer, *each) for each in COMPLETIONS]
    models.write_json(folder / "golden.json", {"completions": completions} | exact)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed files; writes nothing")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)  # one order of summation
    if not arguments.check:
        return write(FOLDER)
    with tempfile.TemporaryDirectory() as scratch:
        write(pathlib.Path(scratch))
        new, old = (json.loads((folder / "golden.json").read_text()) for folder in (pathlib.Path(scratch), FOLDER))
        same = all(new[key] == old[key] for key in ("completions", "options", "micro_batches"))
        same = same and filecmp.cmp(pathlib.Path(scratch) / "input.jsonl", FOLDER / "input.jsonl", shallow=False)
        same = same and numpy.allclose(new["loss"], old["loss"], rtol=0, atol=1e-7)
        print("sft: the committed golden is what this script makes" if same else "sft: another golden")
        sys.exit(not same)


if __name__ == "__main__":
    main()
