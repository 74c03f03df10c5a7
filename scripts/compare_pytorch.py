#!/usr/bin/env python3
"""Training side by side with PyTorch and transformers: tokens/s and peak memory, in one run, as ratios.

    scripts/compare_pytorch.py                                    all rows (some minutes)
    scripts/compare_pytorch.py --only compile-bf16,ours-bf16      some rows
    scripts/compare_pytorch.py --layers 6 --hidden 288 --steps 5  another size
    scripts/compare_pytorch.py --device cuda --ranks 8 --config data/configs/llama-3.1-8b.json --batch 1 \\
        --sequence 16384 --gradient-checkpointing --only fsdp2-bf16,ours-fsdp-bf16,ours-tp-bf16

The work: a random Llama (12 layers of 768, 12 heads, MHA, MLP 2,048, vocabulary 32,000, untied: 134M parameters, or what
--config says), batches of 2 x 512 tokens, AdamW. Rows run one after the other, each in processes of its own: one rank, or
--ranks of them, which on the CPU share the cores. Ranks of FSDP have a batch each, those of tensor parallelism one
together; ours also divide the tokens between the products (sequence parallelism) unless SP is off.
tokens/s is the median step after the first two (the first allocates, or compiles); peak memory is the largest of the
ranks: on the CPU VmHWM, what the process ever held in RAM, weights and program included; on a GPU what the driver counts
as in use, of PyTorch's cache the most that it ever held. The peers use torch's fused AdamW and no gradient clipping; ours
clips, as it does by default. Loading and compiling are not timed.

Needs torch, transformers and, for tp_plan, accelerate (run it with the Python that scripts/venv prints), and ./llama_tp.
torch.compile needs a C++ compiler and Python's headers (python3-dev).
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
WARM_UP = 2


@dataclasses.dataclass(frozen=True)
class Row:
    title: str
    dtype: str
    mode: str  # ours, or of the peers eager, compile, tp_plan, fsdp2
    many: str = ""  # what --ranks of them divide; one rank where it is empty
    sequence_parallel: str = "on"  # of ours

    def ranks(self, arguments):
        return arguments.ranks if self.many else 1


ROWS = {
    "eager-f32": Row("transformers, f32", "float32", "eager"),
    "compile-f32": Row("torch.compile, f32", "float32", "compile"),
    "eager-bf16": Row("transformers, bf16 autocast", "bfloat16", "eager"),
    "compile-bf16": Row("torch.compile, bf16 autocast", "bfloat16", "compile"),
    "tp-plan-bf16": Row('tp_plan="auto", bf16 autocast', "bfloat16", "tp_plan", "tensor-parallel"),
    "fsdp2-bf16": Row("FSDP2, bf16", "bfloat16", "fsdp2", "fsdp"),
    "ours-f32": Row("llama_tp, f32", "float32", "ours"),
    "ours-bf16": Row("llama_tp, bf16", "bfloat16", "ours"),
    "ours-tp-bf16": Row("llama_tp, bf16, TP", "bfloat16", "ours", "tensor-parallel"),
    "ours-tp-sp-off-bf16": Row("llama_tp, bf16, TP, SP off", "bfloat16", "ours", "tensor-parallel", "off"),
    "ours-fsdp-bf16": Row("llama_tp, bf16, FSDP", "bfloat16", "ours", "fsdp"),
}
# ours, peer
RATIOS = [("ours-f32", "eager-f32"), ("ours-f32", "compile-f32"), ("ours-bf16", "eager-bf16"),
          ("ours-bf16", "compile-bf16"), ("ours-tp-bf16", "tp-plan-bf16"), ("ours-tp-sp-off-bf16", "tp-plan-bf16"),
          ("ours-tp-bf16", "fsdp2-bf16"), ("ours-fsdp-bf16", "fsdp2-bf16")]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(ROWS), help=f"rows, from: {', '.join(ROWS)}")
    parser.add_argument("--steps", type=int, default=6, help=f"after {WARM_UP} to warm up")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--ranks", type=int, default=2, help="of the rows of several ranks; on cuda each has a GPU")
    for name, default in dict(layers=12, hidden=768, heads=12, intermediate=2048, vocabulary=32000, batch=2,
                              sequence=512).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--config", type=pathlib.Path, help="config.json of a Llama, instead of those sizes")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="of all rows")
    parser.add_argument("--program", default="./llama_tp")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there as well")
    parser.add_argument("--worker", help=argparse.SUPPRESS)  # a row's name, inside the processes that run a peer
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = [name for name in arguments.only.split(",") if name not in ROWS]
    if unknown:
        parser.error(f"--only: no row is called {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if arguments.steps < 1:
        parser.error("--steps: at least 1")
    if arguments.ranks < 1:
        parser.error("--ranks: at least 1")
    return arguments


def write_config(path, arguments):
    if arguments.config:
        path.write_text(arguments.config.read_text())
        return
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": arguments.vocabulary,
              "hidden_size": arguments.hidden, "intermediate_size": arguments.intermediate,
              "num_hidden_layers": arguments.layers, "num_attention_heads": arguments.heads,
              "num_key_value_heads": arguments.heads, "hidden_act": "silu", "rms_norm_eps": 1e-6,
              "max_position_embeddings": max(2048, arguments.sequence), "rope_theta": 10000.0,
              "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2}
    path.write_text(json.dumps(config, indent=1))


def write_work(folder, arguments):
    """config.json, and the ids as samples of one length, so that every step has the same work; enough for --ranks of
    FSDP, which have a batch each."""
    write_config(folder / "config.json", arguments)
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    draw = random.Random(0)
    with (folder / "train.jsonl").open("w") as file:
        for _ in range((arguments.steps + WARM_UP) * arguments.batch * arguments.ranks):
            ids = [draw.randrange(vocabulary) for _ in range(arguments.sequence)]
            file.write(json.dumps({"input_ids": ids}) + "\n")


# The peers: what runs inside their processes.

def load_model(row, folder, device):
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    if row.mode == "tp_plan":
        from transformers.distributed import DistributedConfig

        return transformers.AutoModelForCausalLM.from_pretrained(
            folder / "peer", dtype=torch.float32, distributed_config=DistributedConfig(tp_plan="auto"))
    config = transformers.LlamaConfig.from_pretrained(folder, dtype=torch.float32)
    if row.mode == "fsdp2":
        return load_sharded(config, device)
    with torch.device(device):
        model = transformers.LlamaForCausalLM(config)
    return torch.compile(model) if row.mode == "compile" else model


def load_sharded(config, device):
    """FSDP2 as its documentation has it: made without memory, divided, and only then filled; gathered in bf16, gradients
    summed in f32."""
    import torch
    import transformers
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    mesh = torch.distributed.init_device_mesh(device, (torch.distributed.get_world_size(),))
    for part in [*model.model.layers, model]:
        fully_shard(part, mesh=mesh, mp_policy=policy)
    model.to_empty(device=device)
    model.model.rotary_emb = LlamaRotaryEmbedding(config).to(device)  # its frequencies are in no state that is filled
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=config.initializer_range) if parameter.dim() > 1 else parameter.fill_(1)
    return model


def make_optimizer(model):
    """AdamW, with distributed and plain tensors in groups of their own: torch's fused step does not mix them."""
    import torch
    from torch.distributed.tensor import DTensor

    parameters = list(model.parameters())
    groups = [[p for p in parameters if isinstance(p, DTensor) == distributed] for distributed in (True, False)]
    return torch.optim.AdamW([{"params": group} for group in groups if group], lr=1e-4, fused=True)


def peak_memory(device):
    """The most that this process held, in bytes."""
    if device == "cpu":
        status = pathlib.Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    import torch

    free, total = torch.cuda.mem_get_info()  # the context, NCCL's and the libraries' memory are in no cache
    return total - free - torch.cuda.memory_reserved() + torch.cuda.max_memory_reserved()


def prepare_process(row, arguments):
    """Its threads or its GPU, and its group of ranks."""
    import torch

    ranks = row.ranks(arguments)
    if arguments.device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    else:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks))
    if row.many:
        torch.distributed.init_process_group("nccl" if arguments.device == "cuda" else "gloo")


def work(arguments):
    """A peer's process: trains, then prints a line of JSON, each rank its own."""
    import torch

    row, device = ROWS[arguments.worker], arguments.device
    prepare_process(row, arguments)
    model = load_model(row, arguments.folder, device)
    if arguments.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model.train()
    optimizer = make_optimizer(model)
    autocast = row.dtype == "bfloat16" and row.mode != "fsdp2"  # which gathers in bf16
    half = torch.autocast(device, torch.bfloat16) if autocast else contextlib.nullcontext()
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    replicas = row.ranks(arguments) if row.many == "fsdp" else 1  # ranks with batches of their own
    rank = torch.distributed.get_rank() if replicas > 1 else 0
    lines = [json.loads(line)["input_ids"] for line in (arguments.folder / "train.jsonl").open()]
    seconds = []
    for step in range(arguments.steps + WARM_UP):
        first = (step * replicas + rank) * arguments.batch
        ids = torch.tensor(lines[first:first + arguments.batch], device=device)
        wait()
        start = time.perf_counter()
        with half:
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        wait()
        seconds.append(time.perf_counter() - start)
    tokens = arguments.batch * arguments.sequence * replicas
    report = {"tokens_per_second": tokens / statistics.median(seconds[WARM_UP:]),
              "peak_memory_bytes": peak_memory(device), "loss": loss.item()}
    sys.stdout.write(f"\n{json.dumps(report)}\n")
    sys.stdout.flush()
    if row.many:
        torch.distributed.destroy_process_group()


# The rows, from outside.

class Failed(Exception):
    """A row that did not run, with the reason."""


def run(command, **environment):
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=dict(os.environ, **environment),
                          capture_output=True, text=True)
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip(" -")]
        errors = [line for line in lines if "Error" in line and "ChildFailedError" not in line] or lines
        raise Failed((errors or [f"exit status {done.returncode}"])[0][:300])
    return done.stdout


def measure_peer(name, arguments, folder):
    row, ranks = ROWS[name], ROWS[name].ranks(arguments)
    if row.mode == "tp_plan" and not (folder / "peer").exists():  # tp_plan shards what it loads: there must be a file
        run([sys.executable, "-c", "import sys, transformers as t; t.LlamaForCausalLM("
             "t.LlamaConfig.from_pretrained(sys.argv[1])).save_pretrained(sys.argv[1] + '/peer')", folder])
    launcher = [sys.executable]
    if row.many:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks]
    options = [f"--{key}={getattr(arguments, key)}" for key in ("batch", "sequence", "steps", "device", "ranks")]
    options += ["--gradient-checkpointing"] * arguments.gradient_checkpointing
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if arguments.device == "cpu" else {}
    output = run(launcher + [pathlib.Path(__file__).resolve(), "--worker", name, "--folder", folder] + options,
                 HF_HUB_OFFLINE="1", OMP_NUM_THREADS=str(max(1, os.cpu_count() // ranks)), **hidden)
    reports = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    if len(reports) != ranks:
        raise Failed(f"{len(reports)} of {ranks} ranks reported")
    return {"tokens_per_second": min(report["tokens_per_second"] for report in reports),
            "peak_memory_bytes": max(report["peak_memory_bytes"] for report in reports),
            "loss": statistics.mean(report["loss"] for report in reports)}


def measure_ours(name, arguments, folder):
    row, ranks = ROWS[name], ROWS[name].ranks(arguments)
    output = folder / name
    run(["mpirun", "--oversubscribe", "-np", ranks, arguments.program, "train", "--config", folder / "config.json",
         "--train-file", folder / "train.jsonl", "--output-dir", output, "--backend", arguments.device,
         "--tensor-parallel", ranks if row.many == "tensor-parallel" else 1, "--fsdp", ranks if row.many == "fsdp" else 1,
         "--sequence-parallel", row.sequence_parallel, "--save-only-model",
         "--block-size", arguments.sequence, "--per-device-train-batch-size", arguments.batch,
         *["--gradient-checkpointing"] * arguments.gradient_checkpointing,
         "--max-steps", arguments.steps + WARM_UP, "--learning-rate", "1e-4", "--dtype", row.dtype],
        OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")  # Open MPI refuses root without both
    steps = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return {"tokens_per_second": statistics.median(step["tokens_per_second"] for step in steps[WARM_UP:]),
            "peak_memory_bytes": steps[-1]["peak_memory_bytes"], "loss": steps[-1]["loss"]}


def machine(device):
    """The GPU's name, or the processor's, the number of cores and what it multiplies bf16 with."""
    if device == "cuda":
        import torch

        return f"{torch.cuda.get_device_name()}, {torch.cuda.device_count()} of them"
    text = pathlib.Path("/proc/cpuinfo").read_text()
    name = text.split("model name")[1].split(":", 1)[1].split("\n")[0].strip() if "model name" in text else "CPU"
    flags = [shown for flag, shown in (("avx512f", "AVX512"), ("avx512_bf16", "bf16"), ("amx_bf16", "AMX"))
             if flag in text]
    return f"{name}, {len(os.sched_getaffinity(0))} cores ({' '.join(flags) or 'no AVX512'})"


def print_header(arguments):
    import torch
    import transformers

    shape = arguments.config.name if arguments.config else (
        f"{arguments.layers} layers x {arguments.hidden}, vocabulary {arguments.vocabulary:,}")
    checkpointing = ", gradient checkpointing" if arguments.gradient_checkpointing else ""
    print(f"{machine(arguments.device)}; torch {torch.__version__}, transformers {transformers.__version__}\n"
          f"{shape}, batch {arguments.batch} x {arguments.sequence}, AdamW{checkpointing}; median of {arguments.steps} "
          f"steps after {WARM_UP}\n\n"
          f"{'what':<32} {'ranks':>5} {'tokens/s':>9} {'peak GiB a rank':>16} {'last loss':>10}")
    load = os.getloadavg()[0]
    if arguments.device == "cpu" and load > 0.5:
        print(f"(load average {load:.1f}: other programs use this machine, so the figures are too low)", file=sys.stderr)


def print_ratios(found):
    print(f"\n{'ours / peer':<56} {'tokens/s':>9} {'memory':>8}")
    for ours, peer in RATIOS:
        if ours in found and peer in found:
            speed, memory = (found[ours][key] / found[peer][key] for key in ("tokens_per_second", "peak_memory_bytes"))
            print(f"{ROWS[ours].title + ' / ' + ROWS[peer].title:<56} {speed:>8.2f}x {memory:>7.2f}x")


def main():
    arguments = parse_arguments()
    if arguments.worker:
        return work(arguments)
    print_header(arguments)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_work(folder, arguments)
        for name in arguments.only.split(","):
            row = ROWS[name]
            print(f"{row.title:<32} {row.ranks(arguments):>5} ", end="", flush=True)
            try:
                figures = (measure_ours if row.mode == "ours" else measure_peer)(name, arguments, folder)
            except (Failed, OSError) as failure:
                print(f"did not run: {failure}")
                continue
            found[name] = figures
            print(f"{figures['tokens_per_second']:>9,.0f} {figures['peak_memory_bytes'] / 2**30:>16.2f} "
                  f"{figures['loss']:>10.3f}")
    if any(ours in found and peer in found for ours, peer in RATIOS):
        print_ratios(found)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(arguments.device), "rows": found}, indent=1) + "\n")
    sys.exit(len(found) < len(arguments.only.split(",")))


if __name__ == "__main__":
    main()
