#!/usr/bin/env python3
"""Goldens for chat templates: conversations as transformers' apply_chat_template renders, tokenizes and masks them.

    scripts/goldens/chat_goldens.py            writes tests/goldens/chat/ again
    scripts/goldens/chat_goldens.py --check    renders everything again and compares with what is committed

Needs transformers (`scripts/venv` makes it). The Jinja templates are written here, each after the documented format of
its models, with `generation` blocks around what an assistant learns to write: its text and the token that ends it.

A folder tests/goldens/chat/<template>[.<tokenizer>]/ holds tokenizer.json (one of tests/goldens/tokenizers, with the
template's tokens added), tokenizer_config.json, perhaps chat_template.jinja, and cases.jsonl, a conversation a line:
    messages    roles and contents
    text        rendered without, prompt: with a generation prompt
    ids, mask   of `text`; 1 for the tokens that are learned
"""

import argparse
import filecmp
import json
import pathlib
import sys
import tempfile

from transformers import AddedToken, PreTrainedTokenizerFast

GOLDENS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "goldens"
DATE = "03 Feb 2025"  # stands for today


def learned(text):
    return "{% generation %}{{ " + text + " }}{% endgeneration %}"


def header(role):
    return "'<|start_header_id|>" + role + "<|end_header_id|>\\n\\n'"


def llama3(begin, loop):
    return (begin + "{% for message in " + loop + " %}{% if message['role'] == 'assistant' %}{{ " + header("assistant") +
            " }}" + learned("message['content'] | trim + '<|eot_id|>'") + "{% else %}{{ " +
            header("' + message['role'] + '") + " + message['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}{{ " + header("assistant") + " }}{% endif %}")


def llama31(date):
    return llama3("{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}"
                  "{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}" + date +
                  "{{ bos_token + " + header("system") + " + 'Cutting Knowledge Date: December 2023\\nToday Date: ' + "
                  "date_string + '\\n\\n' + system + '<|eot_id|>' }}", "rest")


def each_role(start, end, after="\\n", generation_end="\\n"):
    """Roles named in the text: start + role + …, with the same form for all of them. `end` is an expression."""
    begin = lambda role: "{{ '" + start.replace("ROLE", role) + "' }}"
    parts = "".join("{% " + word + " message['role'] == '" + role + "' %}" + begin(role) +
                    (learned("message['content'] + " + end) if role == "assistant" else
                     "{{ message['content'] + " + end + " }}") + "{{ '" + after + "' }}"
                    for word, role in (("if", "system"), ("elif", "user"), ("elif", "assistant")))
    return "{% for message in messages %}" + parts + "{% endif %}{% endfor %}{% if add_generation_prompt %}" + begin(
        "assistant") + "{% endif %}"


SYSTEM_APART = ("{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
                "{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}")
CHATML = each_role("<|im_start|>ROLE\\n", "'<|im_end|>'")
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

# name → template, added tokens, BOS and EOS. Names of the folders are <template of the program>[.<tokenizer or variant>].
TEMPLATES = {
    "llama-2": (SYSTEM_APART + "{% for message in rest %}{% if loop.index0 == 0 and system is defined %}"
                "{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}"
                "{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
                "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% else %}" +
                learned("' ' + content.strip() + ' ' + eos_token") + "{% endif %}{% endfor %}", []),
    "llama-3": (llama3("{{ bos_token }}", "messages"), ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
    "llama-3.1": (llama31("{% set date_string = '26 Jul 2024' %}"),
                  ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
    "llama-3.2": (llama31("{% if not date_string is defined %}{% if strftime_now is defined %}{% set date_string = "
                          "strftime_now('%d %b %Y') %}{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"),
                  ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
    "mistral": (SYSTEM_APART + "{{ bos_token }}{% for message in rest %}{% if message['role'] == 'user' %}"
                "{% if loop.first and system is defined %}{{ ' [INST] ' + system + '\\n\\n' + message['content'] + "
                "' [/INST]' }}{% else %}{{ ' [INST] ' + message['content'] + ' [/INST]' }}{% endif %}{% else %}" +
                learned("' ' + message['content'] + eos_token") + "{% endif %}{% endfor %}", []),
    "mistral-first": ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
                      "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}" +
                      learned("message['content'] + eos_token") + "{% endif %}{% endfor %}", []),
    "chatml": (CHATML, ["<|im_start|>", "<|im_end|>"]),
    "chatml.default": ("{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful AI assistant "
                       "named SmolLM, trained by Hugging Face<|im_end|>\\n' }}{% endif %}" + CHATML,
                       ["<|im_start|>", "<|im_end|>"]),
    "chatml.tools": ("{% if tools %}{{ '<|im_start|>system\\n' }}{% if messages[0]['role'] == 'system' %}"
                     "{{ messages[0]['content'] }}{% else %}{{ '" + QWEN + "' }}{% endif %}"
                     "{{ '\\n\\nYou are given tools: ' + tools | tojson + '<|im_end|>\\n' }}"
                     "{% elif messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\n" + QWEN + "<|im_end|>\\n' }}"
                     "{% endif %}" + CHATML, ["<|im_start|>", "<|im_end|>"]),
    "phi-3": (each_role("<|ROLE|>\\n", "'<|end|>'") + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}",
              ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]),
    "zephyr": (each_role("<|ROLE|>\\n", "eos_token"), []),
    "granite": (each_role("<|start_of_role|>ROLE<|end_of_role|>", "'<|end_of_text|>'"),
                ["<|start_of_role|>", "<|end_of_role|>"]),
    "nemotron": ("{{ '<extra_id_0>System' }}{% for message in messages %}{% if message['role'] == 'system' %}"
                 "{{ '\\n' + message['content'].strip() }}{% endif %}{% endfor %}{{ '\\n\\n' }}"
                 "{% for message in messages %}{% if message['role'] == 'user' %}"
                 "{{ '<extra_id_1>User\\n' + message['content'].strip() + '\\n' }}{% elif message['role'] == 'assistant' %}"
                 "{{ '<extra_id_1>Assistant\\n' }}" + learned("message['content'].strip() + '\\n'") +
                 "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<extra_id_1>Assistant\\n' }}{% endif %}",
                 ["<extra_id_0>", "<extra_id_1>"]),
}
TEMPLATES |= {name + ".llama2": TEMPLATES[name] for name in ("llama-2", "mistral", "mistral-first", "zephyr")}

TURNS = [
    ["Hello", "Good day to you!"],
    ["How many apples has Tom?", "Four apples.", "And now?", "Five, since he found one."],
    ["  Zoë asks:\n\n 'Wie spät?' ", "\n\nEs ist 日本 time 🙂 \u00a0", "\u3000{content} {bos} }", " {system}%s\\n "],
    ["one", "two", "three", "four", "five"],
]
SYSTEMS = [None, "You answer briefly.", "  Be kind.\n\nAlways. \n"]


def conversations(with_system):
    for system in SYSTEMS if with_system else [None]:
        for turns in TURNS:
            roles = ("user", "assistant")
            messages = [{"role": roles[i % 2], "content": content} for i, content in enumerate(turns)]
            yield ([{"role": "system", "content": system}] if system is not None else []) + messages


def make_tokenizer(name):
    kind = "llama2" if name.endswith(".llama2") else "llama3"
    bos, eos = ("<s>", "</s>") if kind == "llama2" else ("<|begin_of_text|>", "<|end_of_text|>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(GOLDENS / "tokenizers" / kind / "tokenizer.json"),
                                        bos_token=bos, eos_token=eos, clean_up_tokenization_spaces=False)
    template, added = TEMPLATES[name]
    known = tokenizer.get_vocab()
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in added if token not in known],
                         special_tokens=True)
    tokenizer.chat_template = template
    return tokenizer


def cases(name, tokenizer):
    for messages in conversations(with_system=not name.startswith("mistral-first")):
        ask = lambda **options: tokenizer.apply_chat_template(messages, date_string=DATE, **options)
        out = ask(return_dict=True, return_assistant_tokens_mask=True)
        yield {"messages": messages, "text": ask(tokenize=False), "prompt": ask(tokenize=False, add_generation_prompt=True),
               "ids": out["input_ids"], "mask": out["assistant_masks"]}


def write(name, root):
    tokenizer, folder = make_tokenizer(name), root / name
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    if name == "llama-3":  # in its place of newer models
        (folder / "chat_template.jinja").write_text(tokenizer.chat_template)
    elif name == "zephyr":  # in a list
        config["chat_template"] = [{"name": "default", "template": tokenizer.chat_template}]
    else:
        config["chat_template"] = tokenizer.chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n")
    lines = [json.dumps(case, ensure_ascii=False) + "\n" for case in cases(name, tokenizer)]
    (folder / "cases.jsonl").write_text("".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed files; writes nothing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch) if arguments.check else GOLDENS / "chat"
        for name in TEMPLATES:
            write(name, root)
        if arguments.check:
            files = [file.relative_to(root) for file in sorted(root.rglob("*")) if file.is_file()]
            other = filecmp.cmpfiles(root, GOLDENS / "chat", files, shallow=False)
            bad = [str(file) for file in other[1] + other[2]]
            print("\n".join(bad) or "chat: the committed goldens are what this script makes")
            sys.exit(bool(bad))


if __name__ == "__main__":
    main()
