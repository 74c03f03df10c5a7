#!/usr/bin/env python3
"""Goldens for the tokenizers: small ones of every kind, and what Hugging Face's `tokenizers` and `sentencepiece` make of
random Unicode with them.

    scripts/goldens/tokenizer_goldens.py            writes tests/goldens/tokenizers/ again
    scripts/goldens/tokenizer_goldens.py --check    encodes and decodes the committed cases again and compares

Needs tokenizers and sentencepiece (`scripts/venv` makes them). All text, for training too, is generated here.

A folder tests/goldens/tokenizers/<name>/ holds tokenizer.json or tokenizer.model, and cases.jsonl. A line with "text":
    ids          encoded, without special tokens around it
    framed       with them                                        (absent: as ids)
    as_text      as ids, special tokens in the text not parsed    (absent: as ids)
    decoded      of framed, special tokens skipped
    decoded_all  of framed, nothing skipped                       (absent: as decoded)
A line without "text" decodes random "ids". The model's folders lack as_text and decoded_all: the library knows neither.
"""

import argparse
import contextlib
import json
import pathlib
import random
import sys
import tempfile

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from random_text import SPACE, random_text, words

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "goldens" / "tokenizers"

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace("{1,3}", "")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


# ---------------------------------------------------------------------------------------------------------- tokenizers


def trained(name, size, alphabet=(), pre_tokenizer=None, **parts):
    """A BPE tokenizer of `size` tokens with the given parts, trained on generated text.

    It is trained on text that is not split, so that merges cross the borders of words and a wrong split shows in ids.
    """
    draw = random.Random(name)
    model = {key: parts.pop(key) for key in ("unk_token", "fuse_unk", "byte_fallback", "ignore_merges") if key in parts}
    tokenizer = Tokenizer(models.BPE(**model))
    special = parts.pop("special", [])
    for part, value in parts.items():
        setattr(tokenizer, part, value)
    if alphabet:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    elif isinstance(pre_tokenizer, pre_tokenizers.Metaspace):
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=sorted(alphabet),
                                  show_progress=False)
    tokenizer.train_from_iterator([words(draw, 8) for _ in range(300)], trainer)
    tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


def changed(tokenizer, change):
    """The tokenizer with its JSON edited: for spellings that the library reads but does not write."""
    tree = json.loads(tokenizer.to_str())
    change(tree)
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":"))


def with_bytes(tree):
    """All 256 byte tokens behind the others."""
    vocabulary = tree["model"]["vocab"]
    for token in BYTES:
        vocabulary.setdefault(token, len(vocabulary))


def template(before, behind, tokenizer):
    single = " ".join(before + ["$A"] + behind)
    return processors.TemplateProcessing(single=single, pair=f"{single} $B",
                                         special_tokens=[(t, tokenizer.token_to_id(t)) for t in before + behind])


def llama3():
    tokenizer = trained("llama3", 480, alphabet=pre_tokenizers.ByteLevel.alphabet(), ignore_merges=True,
                        pre_tokenizer=pre_tokenizers.Sequence([
                            pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
                        decoder=decoders.ByteLevel())

    def words_without_merges(tree):
        vocabulary = tree["model"]["vocab"]
        for word in ("Ġbabun", "kunstunthe", "ðŁĻĤðŁĻĤ", "123", "ĊĊĊ"):
            vocabulary.setdefault(word, len(vocabulary))

    tokenizer = Tokenizer.from_str(changed(tokenizer, words_without_merges))
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|eot_id|>x"])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False),
                                                    template(["<|begin_of_text|>"], [], tokenizer)])
    return tokenizer.to_str()


def qwen():
    """Normalized to composed characters, but for the names of tokens that are looked for before."""
    tokenizer = trained("qwen", 400, alphabet=pre_tokenizers.ByteLevel.alphabet(), normalizer=normalizers.NFC(),
                        pre_tokenizer=pre_tokenizers.Sequence([
                            pre_tokenizers.Split(Regex(QWEN), "isolated"),
                            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
                        decoder=decoders.ByteLevel())
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<e\u0301>", normalized=True), AddedToken("o\u0308", normalized=False),
                          AddedToken("\u0327", normalized=False)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer.to_str()


def gpt2():
    tokenizer = trained("gpt2", 440, alphabet=pre_tokenizers.ByteLevel.alphabet(),
                        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True), decoder=decoders.ByteLevel())
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken("<sep>", rstrip=True), "<|endoftext|>"])
    tokenizer.add_tokens([AddedToken("word", single_word=True), AddedToken("<both>", lstrip=True, rstrip=True),
                          AddedToken("ing", normalized=True), AddedToken("ingot", normalized=False), "  ", "é"])
    tokenizer.post_processor = template(["<sep>"], ["<|endoftext|>", "<sep>"], tokenizer)

    def merges_as_strings(tree):
        tree["model"]["merges"] = [" ".join(pair) for pair in tree["model"]["merges"]]

    return changed(tokenizer, merges_as_strings)


SENTENCEPIECE_DECODER = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]


def llama2():
    tokenizer = trained("llama2", 420, special=["<unk>", "<s>", "</s>"], unk_token="<unk>", fuse_unk=True,
                        byte_fallback=True,
                        normalizer=normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]),
                        pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="never"),
                        decoder=decoders.Sequence(SENTENCEPIECE_DECODER))
    tokenizer.post_processor = template(["<s>"], [], tokenizer)

    def whole_text(tree):
        with_bytes(tree)
        tree["pre_tokenizer"] = None

    return changed(tokenizer, whole_text)


def llama2_metaspace():
    tokenizer = trained("llama2_metaspace", 420, special=["<unk>", "<s>", "</s>"], unk_token="<unk>", fuse_unk=True,
                        byte_fallback=True, pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first"),
                        decoder=decoders.Sequence(SENTENCEPIECE_DECODER))

    def without_split(tree):
        with_bytes(tree)
        tree["pre_tokenizer"]["split"] = False

    tokenizer = Tokenizer.from_str(changed(tokenizer, without_split))
    tokenizer.add_tokens([AddedToken("<new>", normalized=False), AddedToken("un", normalized=True)])
    tokenizer.post_processor = template(["<s>"], ["</s>"], tokenizer)
    return tokenizer.to_str()


def metaspace_always():
    tokenizer = trained("metaspace_always", 300, special=["<unk>", "<pad>"], unk_token="<unk>",
                        pre_tokenizer=pre_tokenizers.Metaspace(), decoder=decoders.Metaspace())

    def old_spelling(tree):
        tree["pre_tokenizer"] = {"type": "Metaspace", "replacement": SPACE, "add_prefix_space": True}
        tree["decoder"] = {"type": "Metaspace", "replacement": SPACE, "add_prefix_space": True}
        tree["model"].pop("byte_fallback")

    return changed(tokenizer, old_spelling)


def metaspace_never():
    tokenizer = trained("metaspace_never", 300, special=["<unk>"], unk_token="<unk>", fuse_unk=True,
                        normalizer=normalizers.Replace("e", "é"),
                        pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="never"),
                        decoder=decoders.Metaspace(prepend_scheme="never"))
    tokenizer.add_tokens([AddedToken("the end", normalized=True), AddedToken("sea", normalized=False),
                          AddedToken("sélé", normalized=True, lstrip=True)])
    return tokenizer.to_str()


def byte_level(name, *steps, **parts):
    tokenizer = trained(name, 340, alphabet=pre_tokenizers.ByteLevel.alphabet(), decoder=decoders.ByteLevel(),
                        pre_tokenizer=pre_tokenizers.Sequence(list(steps)), **parts)
    return tokenizer.to_str()


def decomposed():
    return byte_level("decomposed", pre_tokenizers.ByteLevel(False), normalizer=normalizers.NFD())


def compatible():
    return byte_level("compatible", pre_tokenizers.ByteLevel(False), normalizer=normalizers.NFKC())


def compatible_decomposed():
    return byte_level("compatible_decomposed", pre_tokenizers.ByteLevel(False),
                      normalizer=normalizers.Sequence([normalizers.Replace("fl", "\ufb02"), normalizers.NFKD()]))


def digits():
    return byte_level("digits", pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False))


def threes():
    return byte_level("threes", pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
                      pre_tokenizers.Split(Regex(r"[一-龥぀-ゟ゠-ヿ]+"), "isolated"),
                      pre_tokenizers.Split(Regex(r"[!-/:-~]?[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
                                                 r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"),
                      pre_tokenizers.ByteLevel(False, use_regex=False))


def letters_first():
    return byte_level("letters_first", pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(False),
                      pre_tokenizers.Digits(False), pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated"))


def cased():
    return byte_level("cased", pre_tokenizers.Split(Regex(CASED), "removed", invert=True),
                      pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False))


def no_decoder(name, step):
    return trained(name, 200, special=["<unk>"], unk_token="<unk>", pre_tokenizer=step).to_str()


def whitespace():
    return no_decoder("whitespace", pre_tokenizers.Whitespace())


def punctuation():
    return no_decoder("punctuation", pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(),
                                                             pre_tokenizers.Punctuation("merged_with_next")]))


def first_line():
    """A sign of a space before the first piece alone, not before every line."""
    return no_decoder("first_line", pre_tokenizers.Sequence([pre_tokenizers.Split("\n", "isolated"),
                                                             pre_tokenizers.Metaspace(prepend_scheme="first")]))


def empty_matches():
    return no_decoder("empty_matches", pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex("(?=[aeiou])|u*"), "merged_with_next"), pre_tokenizers.Split(Regex("l*"), "isolated")]))


def gaps():
    """Byte fallback without all bytes, nothing for the unknown, ids with holes, no decoder."""
    tokenizer = trained("gaps", 180, byte_fallback=True)

    def holes(tree):
        vocabulary = tree["model"]["vocab"]
        for token in BYTES[0x80:0xC8]:
            vocabulary[token] = 1000 + len(vocabulary)

    return changed(tokenizer, holes)


def replaced():
    """Every decoder in an order where fused text is replaced and stripped at both ends."""
    tokenizer = trained("replaced", 220, special=["<unk>"], unk_token="<unk>", byte_fallback=True,
                        normalizer=normalizers.Sequence([normalizers.Replace(Regex(r"\s+"), " "),
                                                         normalizers.Replace("...", "…"), normalizers.Prepend("..")]),
                        decoder=decoders.Sequence([decoders.Strip("a", 1, 0), decoders.ByteFallback(), decoders.Fuse(),
                                                   decoders.Strip(".", 2, 0), decoders.Replace("…", "..."),
                                                   decoders.Replace(Regex(r"[aeiou]{2}"), "-"), decoders.Fuse(),
                                                   decoders.Strip(".", 0, 0)]))
    return changed(tokenizer, with_bytes)


BEHAVIORS = ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous")


def split(behavior, invert):
    pattern = Regex(r"\w|(?<=\.)\.|\s(?=\S)")
    return lambda: no_decoder("split", pre_tokenizers.Split(pattern, behavior, invert=invert))


FORMS = (qwen, decomposed, compatible, compatible_decomposed)
KINDS = {f.__name__: f for f in (llama3, gpt2, llama2, llama2_metaspace, metaspace_always, metaspace_never, digits, threes,
                                 letters_first, cased, whitespace, punctuation, first_line, empty_matches, gaps, replaced,
                                 *FORMS)}
KINDS.update({f"split_{b}{'_inverted' * i}": split(b, bool(i)) for b in BEHAVIORS for i in (0, 1)})


# -------------------------------------------------------------------------------------------------------------- models


def train_model(path, name, rules=(), **options):
    draw = random.Random(name)
    sentences = iter([words(draw, 30) for _ in range(80)])
    # The model keeps the name of its file of rules, so that must not vary.
    with path.open("wb") as file, tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        if rules:
            lines = ["\t".join(" ".join(f"{ord(c):X}" for c in side) for side in rule) for rule in rules]
            pathlib.Path("rules.tsv").write_text("\n".join(lines) + "\n")
            options["normalization_rule_tsv"] = "rules.tsv"
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=sentences, model_writer=file, minloglevel=2,
                                                 model_type="bpe", num_threads=1, **options)


MODELS = {
    "model_llama2": dict(vocab_size=460, byte_fallback=True, normalization_rule_name="identity", split_digits=True,
                         remove_extra_whitespaces=False, add_dummy_prefix=True, character_coverage=0.99),
    "model_rules": dict(vocab_size=160, byte_fallback=False, pad_id=3, user_defined_symbols=["<sep>", "ab"],
                        rules=[("\ufb01", "fi"), ("½", "1/2"), ("\u3000", " "), ("e\u0301", "é"), ("\u200b", "")],
                        character_coverage=0.99),
}


# --------------------------------------------------------------------------------------------------------------- cases


def lean(case, **defaults):
    """The case without what its defaults say anyway."""
    return {key: value for key, value in case.items() if key not in defaults or value != case[defaults[key]]}


def json_case(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    framed = tokenizer.encode(text).ids
    tokenizer.encode_special_tokens = True
    as_text = tokenizer.encode(text, add_special_tokens=False).ids
    tokenizer.encode_special_tokens = False
    return lean({"text": text, "ids": ids, "framed": framed, "as_text": as_text, "decoded": tokenizer.decode(framed),
                 "decoded_all": tokenizer.decode(framed, skip_special_tokens=False)},
                framed="ids", as_text="ids", decoded_all="decoded")


def json_ids_case(tokenizer, ids):
    return lean({"ids": ids, "decoded": tokenizer.decode(ids),
                 "decoded_all": tokenizer.decode(ids, skip_special_tokens=False)}, decoded_all="decoded")


def model_case(model, text):
    ids = model.encode(text)
    return {"text": text, "ids": ids, "framed": [model.bos_id()] + ids, "decoded": model.decode(ids)}


def model_ids_case(model, ids):
    return {"ids": ids, "decoded": model.decode(ids)}


FIXED = ["", " ", "  two", "Hello, world! It's 2024.", "a\n\n\nb \n c\t\td  ", "<s>x</s> <unk>", "the end of the sea",
         "x<both>     y <sep>   \n  z  <mask> a", "word sword words_ word. \u0301word"]


# Composed and decomposed: accents, also in the wrong order and after what takes none; Hangul whole, by its letters and
# half; signs with one canonical equal, with one that is never composed, and with a compatible one.
SPELLINGS = ["caf\u00e9 cafe\u0301 \u0301", "<\u00e9> <e\u0301>, \u00f6 or o\u0308 or a\u0327o\u0308",
             "q\u0307\u0323 q\u0323\u0307 e\u0301\u0323 \u1ec7 s\u0323\u0307",
             "\ud55c\uad6d \u1112\u1161\u11ab \ud558\u11ab \u1112\u1161x\u11ab",
             "\u212b \u2126 \u0958 \u0915\u093c \ufb1d \U0001d15e", "\ufb01 \u2460 \uff76\uff9e \u00bd \u01c4 x\u00b2 \ufdfa flow"]


def inputs(name, names, size, texts):
    draw = random.Random("cases of " + name)
    written = FIXED + [words(draw, 8) for _ in range(3)] + [random_text(draw, names) for _ in range(texts)]
    if KINDS.get(name) in FORMS:
        written += SPELLINGS
    lists = [[draw.randrange(size) for _ in range(draw.choice([1, 3, 12]))] for _ in range(texts // 3)]
    return written, lists


def open_tokenizer(folder):
    """What turns a text and a list of ids into cases, the names of its added tokens, and the number of its ids."""
    if (folder / "tokenizer.model").exists():
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        return lambda t: model_case(model, t), lambda i: model_ids_case(model, i), [], model.vocab_size()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    names = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    size = max(tokenizer.get_vocab().values()) + 1
    return lambda t: json_case(tokenizer, t), lambda i: json_ids_case(tokenizer, i), names, size


def write():
    for name in [*KINDS, *MODELS]:
        folder = FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        if name in MODELS:
            train_model(folder / "tokenizer.model", name, **MODELS[name])
        else:
            (folder / "tokenizer.json").write_text(KINDS[name]() + "\n", encoding="utf-8")
        of_text, of_ids, names, size = open_tokenizer(folder)
        texts, lists = inputs(name, names, size, 9 if name.startswith("split") else 30)
        cases = [of_text(text) for text in texts] + [of_ids(ids) for ids in lists]
        lines = [json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases]
        (folder / "cases.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
        print(f"{name}: {size} ids, {len(cases)} cases")
    (FOLDER / "about.json").write_text(json.dumps({"tokenizers": tokenizers.__version__,
                                                   "sentencepiece": sentencepiece.__version__}, indent=2) + "\n")


def check():
    wrong = 0
    for folder in sorted(path for path in FOLDER.iterdir() if path.is_dir()):
        of_text, of_ids, _, _ = open_tokenizer(folder)
        for line in (folder / "cases.jsonl").read_text(encoding="utf-8").split("\n")[:-1]:
            case = json.loads(line)
            again = of_text(case["text"]) if "text" in case else of_ids(case["ids"])
            if again != case:
                print(f"{folder.name}: committed {case}, now {again}")
                wrong += 1
    print(f"{wrong} cases differ" if wrong else "all cases are as committed")
    return wrong == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed cases, write nothing")
    if parser.parse_args().check:
        sys.exit(0 if check() else 1)
    write()


if __name__ == "__main__":
    main()
