"""A checkpoint that ./llama_tp trained and saved on two ranks, in the hands of transformers, and back.

    scripts/interop [--checkpoint DIR]          LLAMA_TP names another binary than ./llama_tp

Takes the newest checkpoint of out/demo (what scripts/demo leaves) or trains one for twenty steps on two ranks. Then, every
program run being one of two ranks: transformers loads it whole; its tokenizer gives the same ids; loss, logits and
gradients agree; both write the same greedy text. One line a check; exit status 1 if one fails.

Tolerances are those of the goldens, in f32: logits within 2e-5 of the largest, gradients within 1e-4 of the largest of
their tensor. The reference runs in double, so all of the tolerance is the program's. A token's loss is
log(sum(exp(logits))) - logit[target]: each half moves by at most the logits' error, so the mean moves by at most twice it.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts" / "goldens"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402 (the line above must come before transformers)
import transformers  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import model_reference as reference  # noqa: E402

RANKS = 2
LOGITS_TOLERANCE, GRADIENT_TOLERANCE = 2e-5, 1e-4
BLOCK = 128
PROMPTS = ["Mia went to", "Once upon a time", "\"How many", "The cat sat"]
ODD_TEXTS = ["", " ", "  two  spaces ", "tab\tline\r\nend\n\n", "naïve café ÀÉ", "你好,世界", "🙂👩‍👩‍👧 ok", "١٢٣ 12345", "don't I'LL",
             "<|endoftext|> inside <|endoftext|>", "\u200b\u00a0\u3000", "e\u0301 \U0001d4d0"]


class Failed(Exception):
    """A check that does not hold, with the reason."""


def program(*arguments, ranks=RANKS, text=None):
    """stdout of llama_tp under mpirun (without it where ranks is 0)."""
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",  # root, in a container
                       CUDA_VISIBLE_DEVICES="")  # two ranks on a machine with one GPU
    launcher = ["mpirun", "--oversubscribe", "-np", str(ranks)] if ranks else []
    command = launcher + [os.environ.get("LLAMA_TP", "./llama_tp")] + [str(argument) for argument in arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, input=text, capture_output=True, encoding="utf-8")
    if done.returncode != 0:
        first = next((line for line in done.stderr.splitlines() if line.strip(" -")), "nothing on stderr")
        raise Failed(f"{first[:400]}\n     from: {' '.join(command)}")
    return done.stdout


def newest_checkpoint(folder):
    found = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()]
    return max(found, key=lambda path: int(path.name[11:]), default=None)


def train_briefly(folder):
    demo = ROOT / "data" / "demo"
    program("train", "--config", demo / "config.json", "--tokenizer", demo, "--train-file", demo / "train.jsonl",
            "--output-dir", folder, "--tensor-parallel", RANKS, "--block-size", 128,
            "--per-device-train-batch-size", 8, "--max-steps", 20, "--learning-rate", 3e-3)
    return newest_checkpoint(folder)


def largest_difference(got, want):
    if got.shape != want.shape:
        raise Failed(f"shape {list(got.shape)} instead of {list(want.shape)}")
    return (got.double() - want).abs().max().item()


class Interop:
    """The checkpoint, transformers' model of it in double and its tokenizer, and the checks one by one."""

    def __init__(self, checkpoint, scratch):
        self.checkpoint, self.scratch = checkpoint, scratch
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=torch.float64, attn_implementation="eager").eval()
        self.texts = [json.loads(line)["text"] for line in (ROOT / "data/demo/validation.jsonl").open(encoding="utf-8")]

    def samples(self):
        """Lines of ids with labels: of several lengths, whole and masked."""
        eos = self.tokenizer.eos_token_id
        stream = [i for text in self.texts for i in self.tokenizer.encode(text, add_special_tokens=False) + [eos]]
        lines = []
        for index, length in enumerate((BLOCK, 97, 64, 33)):
            ids = stream[index * BLOCK:index * BLOCK + length]
            labels = list(ids)
            labels[:index * 9] = [reference.IGNORED] * (index * 9)
            lines.append({"input_ids": ids, "labels": labels})
        return lines

    def write_lines(self, lines):
        file = self.scratch / "lines.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return file

    def loads_whole(self):
        model, info = transformers.AutoModelForCausalLM.from_pretrained(self.checkpoint, output_loading_info=True)
        wrong = {kind: sorted(map(str, info[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")}
        if any(wrong.values()):
            raise Failed(f"from_pretrained reports {wrong}")
        return f"{sum(p.numel() for p in model.parameters()):,} parameters, none missing, none left over"

    def same_ids(self):
        texts = self.texts + ODD_TEXTS
        lines = "".join(json.dumps(text) + "\n" for text in texts)
        got = [json.loads(line) for line in program("tokenize", "-m", self.checkpoint, "--jsonl", ranks=0,
                                                    text=lines).splitlines()]
        want = [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]
        if len(got) != len(want):
            raise Failed(f"{len(got)} lines of ids for {len(want)} texts")
        for text, ours, theirs in zip(texts, got, want):
            if ours != theirs:
                raise Failed(f"{text!r}: {ours} instead of {theirs}")
        return f"{len(texts)} texts, {sum(map(len, want)):,} ids"

    def same_loss_and_logits(self):
        lines = self.samples()
        dump = self.scratch / "logits.safetensors"
        report = json.loads(program("eval", "-m", self.checkpoint, "--file", self.write_lines(lines), "--block-size",
                                    BLOCK, "--dtype", "float32", "--dump-logits", dump, "--json"))
        targets = reference.count_targets(lines)
        want, loss = reference.forward_backward(self.model, lines, targets)
        largest = max(logits.abs().max().item() for logits in want)
        got = load_file(dump)
        if set(got) != {f"{name}.{i}" for name in ("logits", "input_ids") for i in range(len(lines))}:
            raise Failed(f"--dump-logits wrote {sorted(got)}")
        if any(got[f"input_ids.{i}"].tolist() != line["input_ids"] for i, line in enumerate(lines)):
            raise Failed("--dump-logits wrote other tokens than it was given")
        difference = max(largest_difference(got[f"logits.{i}"], logits) for i, logits in enumerate(want))
        if difference > LOGITS_TOLERANCE * largest:
            raise Failed(f"logits differ by {difference:.2e}, {difference / largest:.1e} of the largest")
        self.compare_loss(report, loss, targets, largest)
        return (f"loss {report['loss']:.6f} (transformers {loss:.6f}); logits within {difference / largest:.1e} of the "
                f"largest, {LOGITS_TOLERANCE:.0e} granted")

    def compare_loss(self, report, loss, targets, largest_logit):
        if report["tokens"] != targets:
            raise Failed(f"{report['tokens']} targets instead of {targets}")
        if not abs(report["loss"] - loss) <= 2 * LOGITS_TOLERANCE * largest_logit:
            raise Failed(f"loss {report['loss']:.7f} instead of {loss:.7f}")

    def same_loss_on_text(self):
        report = json.loads(program("eval", "-m", self.checkpoint, "--file", "data/demo/validation.jsonl",
                                    "--block-size", BLOCK, "--dtype", "float32", "--json"))
        eos = self.tokenizer.eos_token_id
        stream = [i for text in self.texts for i in self.tokenizer.encode(text, add_special_tokens=False) + [eos]]
        blocks = [{"input_ids": stream[first:first + BLOCK]} for first in range(0, len(stream), BLOCK)]
        blocks = [block for block in blocks if len(block["input_ids"]) > 1]  # one token alone has no target
        targets = reference.count_targets(blocks)
        loss = largest = 0.0
        for block in blocks:
            ids = torch.tensor([block["input_ids"]])
            with reference.in_double(torch.float64), torch.no_grad():
                out = self.model(input_ids=ids, labels=ids, num_items_in_batch=targets)
            loss += out.loss.item()
            largest = max(largest, out.logits.abs().max().item())
        self.compare_loss(report, loss, targets, largest)
        return f"loss {report['loss']:.6f} (transformers {loss:.6f}) over {targets:,} targets of the validation text"

    def same_gradients(self):
        lines = self.samples()
        dump = self.scratch / "gradients.safetensors"
        program("train", "--model", self.checkpoint, "--train-file", self.write_lines(lines), "--output-dir",
                self.scratch / "trained", "--tensor-parallel", RANKS, "--block-size", BLOCK,
                "--per-device-train-batch-size", 2, "--gradient-accumulation-steps", 2, "--max-steps", 1, "--dtype",
                "float32", "--dump-gradients", dump)
        self.model.zero_grad()
        reference.forward_backward(self.model, lines, reference.count_targets(lines))
        want, got = reference.gradients(self.model), load_file(dump)
        if got.keys() != want.keys():
            raise Failed(f"names that only one side has: {sorted(got.keys() ^ want.keys())}")
        errors = {name: largest_difference(got[name], want[name]) / want[name].abs().max().item() for name in want}
        worst = max(errors, key=errors.get)
        if not errors[worst] <= GRADIENT_TOLERANCE:
            raise Failed(f"{worst} differs by {errors[worst]:.1e} of its largest")
        return f"{len(errors)} tensors; worst {worst}: {errors[worst]:.1e} of its largest, {GRADIENT_TOLERANCE:.0e} granted"

    def same_greedy_text(self):
        model = transformers.AutoModelForCausalLM.from_pretrained(self.checkpoint, dtype=torch.float32)
        length = ties = 0
        for prompt in PROMPTS:
            got = program("generate", "-m", self.checkpoint, "-p", prompt, "-n", 48, "--temp", 0, "--dtype", "float32")
            inputs = self.tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
            out = model.generate(**inputs, max_new_tokens=48, do_sample=False, output_logits=True,
                                 return_dict_in_generate=True)
            ids = out.sequences[0, inputs["input_ids"].shape[1]:]
            want = self.tokenizer.decode(ids, skip_special_tokens=True)
            # Where the two best logits are closer than both programs' errors, either token is right: compare up to there.
            logits = torch.cat(out.logits)
            best = logits.topk(2).values
            close = (best[:, 0] - best[:, 1] < 4 * LOGITS_TOLERANCE * logits.abs().max()).nonzero()
            if len(close):
                ties += 1
                want = self.tokenizer.decode(ids[:close[0].item()], skip_special_tokens=True)
                got = got[:len(want)]
            if got.rstrip("\n") != want.rstrip("\n"):
                raise Failed(f"{prompt!r}: {got!r} instead of {want!r}")
            length += len(want)
        return f"{len(PROMPTS)} prompts, {length} characters" + (f", {ties} cut at a tie" if ties else "")


def main():
    parser = argparse.ArgumentParser(prog="scripts/interop", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=pathlib.Path, help="instead of the newest of out/demo")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        try:
            checkpoint = arguments.checkpoint or newest_checkpoint(ROOT / "out" / "demo") or train_briefly(scratch / "run")
            interop = Interop(checkpoint.resolve(), scratch)
        except Failed as failure:
            sys.exit(f"FAIL train: {failure}")
        print(f"interop: {checkpoint}, transformers {transformers.__version__}, torch {torch.__version__}, {RANKS} ranks")
        checks = [interop.loads_whole, interop.same_ids, interop.same_loss_and_logits, interop.same_loss_on_text,
                  interop.same_gradients, interop.same_greedy_text]
        failures = 0
        for check in checks:
            name = check.__name__.replace("_", " ")
            try:
                print(f"ok   {name}: {check()}", flush=True)
            except Failed as failure:
                failures += 1
                print(f"FAIL {name}: {failure}", flush=True)
    print(f"interop: {len(checks) - failures} of {len(checks)} checks hold")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
