#!/usr/bin/env python3
"""Trains the demo's tokenizer on its corpus: byte-level BPE behind Llama 3's split into words.

    scripts/make_demo_tokenizer.py [--data data/demo] [--vocabulary 1792]

Writes tokenizer.json and tokenizer_config.json beside the corpus. Needs Hugging Face's `tokenizers`; the result is
committed, so only a new corpus asks for it. The one special token both begins a text and ends it: a story in a packed
block then follows the same token that a prompt follows.
"""

import argparse
import json
import pathlib

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

STORY_END = "<|endoftext|>"

# Llama 3's words: contractions, letters with the character before them, up to three digits, punctuation, line ends, spaces.
WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def train(texts, vocabulary):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[STORY_END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{STORY_END} $A", pair=f"{STORY_END} $A {STORY_END} $B",
        special_tokens=[(STORY_END, tokenizer.token_to_id(STORY_END))])
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data/demo"))
    parser.add_argument("--vocabulary", type=int, default=1792)
    options = parser.parse_args()

    texts = [json.loads(line)["text"] for line in (options.data / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    tokenizer = train(texts, options.vocabulary)
    tokenizer.save(str(options.data / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": STORY_END, "eos_token": STORY_END,
              "clean_up_tokenization_spaces": False, "model_max_length": 512}
    (options.data / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts))
    characters = sum(map(len, texts))
    print(f"{options.data}/tokenizer.json: {tokenizer.get_vocab_size()} tokens; the corpus is {tokens} of them, "
          f"{characters / tokens:.2f} characters each")


if __name__ == "__main__":
    main()
