# shellcheck shell=bash disable=SC2034,SC2154,SC2012
# The stages of scripts/gpu_check, which sets $backend, $program, $launcher, $on_device, $out, and for the stage that
# runs $name and $deadline. A stage's output is its log; what it says on descriptor 3 is for the report, the last line in few
# words.

# A stage, and the most seconds that it may take. Most take far less, so that all together fit; should they not, those that
# come first matter most: whether results are right, what a step takes, then all else.
stages=("machine 30" "operations 100" "run 75" "kernels 35" "training 60" "rehearsal 60" "decode 90" "ranks 90" "parts 90"
  "peer 90" "products 90" "resume 25" "memcheck 45" "racecheck 45" "synccheck 25")

tell() { echo "$*" | tee -a /dev/fd/3; }
# How something ended: its status, which is returned, and words. The last of what failed is a failed stage's reason.
tell_end() {
  tell "${*:2}"
  [ "$1" = 0 ] || echo "${*:2}" >> "$out/failures.txt"
  return "$1"
}
skip() {
  tell "$*"
  exit 2
}

# A command in what is left of the stage's time, shown in the log before it runs.
try() {
  local left=$((deadline - SECONDS)) status
  echo "\$ $(typed "$@")" >&2
  if [ "$left" -lt 2 ]; then
    echo "no time was left for: $(typed "$@")" | tee -a "$out/failures.txt" >&3
    return 124
  fi
  timeout --kill-after=5 "$left" "$@"
  status=$?
  if [ $status = 137 ] && [ "$SECONDS" -ge "$deadline" ]; then status=124; fi # it did not end when it was told to
  if [ $status != 0 ]; then echo "$(typed "$@"): $(why $status)" | tee -a "$out/failures.txt" >&3; fi
  return $status
}

# Of a command that failed: the program's own words, a test's, or what there is.
why() {
  local line
  line=$(grep -ahE '^llama_tp: |C\+\+ exception with description|: Failure$' "$out/$name.log" "$out/part.txt" 2> /dev/null | tail -n 1)
  if [ "$1" = 124 ]; then line="stopped at the end of the stage's time"; fi
  echo "exit status $1${line:+: $line}"
}

# A model's config with so many layers.
with_layers() { sed "s/\"num_hidden_layers\": *[0-9]*/\"num_hidden_layers\": $2/" "data/configs/$1.json" > "$out/$1-$2.json" && echo "$out/$1-$2.json"; }

# What the stages run, on a GPU and in a dry run on the CPU.
large=llama-3.1-8b large_layers="32 24 16 8 4 2 1" context=16384 block=4096 samples=4 forwards=4 steps=20 mesh_steps=6 wide=2048 wide_samples=97
if_cpu() {
  if [ "$backend" = cpu ]; then
    large=bench-134m large_layers="12 2" context=128 block=64 samples=1 forwards=2 steps=6 mesh_steps=4 wide=256 wide_samples=3
  fi
}

stage_machine() {
  if [ "$backend" = cuda ]; then try nvidia-smi; try nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used,clocks.sm,clocks.max.sm --format=csv,noheader >&3; fi
  lscpu | grep -E '^(Model name|CPU\(s\))' >&3
  df -h /dev/shm . || true
  try "$program" bench --config data/configs/bench-134m.json --backend "$backend" --generate --prompt-tokens 1 --n-predict 1 2>&1 | tee "$out/part.txt"
  grep -E '^(cpu|cuda|llama_tp): ' "$out/part.txt" > "$out/program.txt"
  cat "$out/program.txt" >&3
  grep -qE '^(cpu|cuda): ' "$out/program.txt"
}

# ---- the kernels on the device

stage_operations() {
  [ "$backend" = cuda ] || skip "the tests of operations on the CPU are make test's"
  [ -x "$on_device" ] || skip "there is no $on_device: this build has no CUDA"
  local status suite
  try env LLAMA_TP_TEST_ALL=1 "$on_device" --gtest_color=no | tee "$out/part.txt"
  status=$?
  # An error of the device stays with its process and fails all that comes behind: once more, each suite in one of its own.
  if [ $status != 0 ] && [ $status != 124 ]; then
    tell "$(why $status); once more, each suite alone:"
    for suite in $("$on_device" --gtest_list_tests < /dev/null | grep -E '^[A-Za-z]+\.$'); do
      try env LLAMA_TP_TEST_ALL=1 "$on_device" --gtest_color=no "--gtest_filter=$suite*"
    done > "$out/part.txt" 2>&1
    cat "$out/part.txt"
  fi
  grep -E '^\[  FAILED  \] .*\(' "$out/part.txt" | sed 's/ ([0-9]* ms)//' >&3
  tell_end $status "$(grep -c '^\[       OK' "$out/part.txt") tests passed, $(grep -cE '^\[  FAILED  \] .*\(' "$out/part.txt") failed"
}

# ---- whole commands, beside the CPU backend

train() { # ranks output-folder options …
  local ranks=$1 folder=$2 start=()
  shift 2
  if [ "$ranks" -gt 1 ]; then start=("$launcher" --oversubscribe -np "$ranks"); fi
  try "${start[@]}" "$program" train --config data/demo/config.json --tokenizer data/demo --train-file data/demo/train.jsonl \
    --output-dir "$out/$folder" --block-size 256 --learning-rate 3e-3 --logging-steps 1 "$@"
}

# The largest distance of two runs' losses from each other, relative, or of their gradient norms; fails beyond `most`, or
# where steps are missing.
steps_agree() { # folder folder most first-step last-step [grad_norm]
  awk -v most="$3" -v first="$4" -v last="$5" -v key="${6:-loss}" '
    BEGIN { before = length(key) + 3; many = key == "loss" ? "losses" : "gradient norms" }
    match($0, /"step":[0-9]+/) { step = substr($0, RSTART + 7, RLENGTH - 7) + 0 }
    match($0, "\"" key "\":[^,}]+") { value = substr($0, RSTART + before, RLENGTH - before) + 0 }
    step < first || step > last { next }
    FNR == NR { one[step] = value; next }
    step in one { n++; d = one[step] > value ? one[step] - value : value - one[step]; d /= one[step]; if (d > worst) worst = d
                  if (!(d == d)) bad = 1 }
    END { printf "steps %d to %d: %d %s of %d, apart by %.2e at most (%.0e allowed)\n", first, last, n, many, last - first + 1, worst, most
          exit bad || n != last - first + 1 || worst > most }' "$out/$1/metrics.jsonl" "$out/$2/metrics.jsonl"
}
compare() { # what, and steps_agree's
  local what=$1 line
  shift
  line=$(steps_agree "$@")
  tell_end $? "$what: $line"
}

# Steps of AdamW from the same weights: differences of rounding grow from step to step. f32: 2^-24 at the start, allowed a
# thousandth; bf16: 2^-8 in each activation, allowed two hundredths. A wrong kernel is off by far more in the first steps.
stage_run() {
  local dtype most status=0
  if_cpu
  for dtype in float32 bfloat16; do
    most=1e-3
    if [ $dtype = bfloat16 ]; then most=2e-2; fi
    train 1 "$dtype-cpu" --per-device-train-batch-size 4 --dtype $dtype --max-steps "$steps" --save-steps 0 --backend cpu &&
      train 1 "$dtype" --per-device-train-batch-size 4 --dtype $dtype --max-steps "$steps" --save-steps $((steps / 2)) --backend "$backend" &&
      compare "$dtype, $backend beside cpu" "$dtype-cpu" "$dtype" $most 1 "$steps" || status=1
  done
  local where
  for where in cpu "$backend"; do
    try "$program" eval -m "$out/float32" --file data/demo/validation.jsonl --block-size 256 --backend "$where" | tee "$out/eval-$where.txt" &&
      tell "$where: $(tail -n 1 "$out/eval-$where.txt")" || status=1
    try "$program" generate -m "$out/float32" -p "Once there was" -n 24 --temp 0 --backend "$where" 2> "$out/generate-$where.err" | tee "$out/generate-$where.txt" || status=1
  done
  switches_change_nothing || status=1
  [ $status = 0 ] || return 1
  if cmp -s "$out/generate-cpu.txt" "$out/generate-$backend.txt"; then
    tell "losses follow the CPU's, and both wrote the same 24 tokens"
  else
    tell_end 1 "the texts differ: $(tail -n 1 "$out/generate-cpu.txt") / $(tail -n 1 "$out/generate-$backend.txt")" || status=1
  fi
  return $status
}

# Whether grids begin early and tokens ahead of the host (docs/cuda.md) is no matter of rounding: no bit may change,
# neither of one text nor of four at once, whose products are other kernels. No text ends before the others: the next
# tokens of these would be made beside it or not, by other kernels.
switches_change_nothing() {
  local texts switch status=0
  for texts in 1 4; do
    printf '{"prompt": "%s"}\n' "Once there was" "One day" "The old man" "She said" | head -n $texts > "$out/prompts.jsonl"
    for switch in LLAMA_TP_EARLY_GRIDS=1 LLAMA_TP_EARLY_GRIDS=0 LLAMA_TP_TOKENS_AHEAD=0; do
      try env $switch "$program" generate -m "$out/bfloat16" --prompts-file "$out/prompts.jsonl" -n 100 --temp 0 --ignore-eos --logprobs \
        --backend "$backend" > "$out/$switch.txt" || return 1
      cmp "$out/LLAMA_TP_EARLY_GRIDS=1.txt" "$out/$switch.txt" && continue
      tell_end 1 "of $texts at once, texts differ with $switch" || status=1
    done
  done
  [ $status != 0 ] || tell "one text, and four at once: the same bits without early grids, and without tokens ahead"
  return $status
}

stage_resume() {
  if_cpu
  [ -d "$out/bfloat16/checkpoint-$((steps / 2))" ] || skip "the stage run left no checkpoint to resume"
  train 1 resumed --per-device-train-batch-size 4 --dtype bfloat16 --max-steps "$steps" --save-steps 0 --backend "$backend" --resume-from-checkpoint "$out/bfloat16/checkpoint-$((steps / 2))" &&
    compare "resumed in the middle, to the bit" bfloat16 resumed 0 $((steps / 2 + 1)) "$steps"
}

# By sockets NCCL takes 33 MiB of /dev/shm for each group of each rank, and containers have 64 as a rule. Root can enlarge it.
room_for_nccl() { # MiB
  local size free
  [ "$backend" = cuda ] || return 0
  size_and_free() { df --output=size,avail --block-size=1M /dev/shm 2> /dev/null | tail -n 1; }
  read -r size free <<< "$(size_and_free)"
  if [ "${free:-0}" -lt "$1" ] && mount -o "remount,size=$((size + $1))m" /dev/shm; then
    read -r size free <<< "$(size_and_free)"
    tell "/dev/shm was too small for NCCL, and has $size MiB now"
  fi
  [ "${free:-0}" -ge "$1" ] || skip "/dev/shm has ${free:-0} MiB left, and NCCL takes up to $1 here; make it larger (docker run --shm-size=1g)"
}

# Ranks share the one device (LLAMA_TP_SHARE_DEVICE; each has an NCCL_HOSTID of its own then): slow, but the real calls.
stage_ranks() {
  local status=0 mesh
  if_cpu
  room_for_nccl 320 # four ranks of two groups
  train 1 alone --dtype float32 --max-steps "$mesh_steps" --save-steps 0 --backend "$backend" --per-device-train-batch-size 4 || return 1
  mesh_run() { # ranks name samples-a-rank options …
    local ranks=$1 name=$2 each=$3
    shift 3
    train "$ranks" "$name" --dtype float32 --max-steps "$mesh_steps" --save-steps 0 --backend "$backend" --per-device-train-batch-size "$each" "$@" &&
      compare "$ranks ranks, $*, beside one" alone "$name" 1e-3 1 "$mesh_steps" || status=1
  }
  mesh_run 2 tp2 4 --tensor-parallel 2
  mesh_run 2 fsdp2 2 --tensor-parallel 1 --fsdp 2
  mesh_run 4 tp2fsdp2 2 --tensor-parallel 2 --fsdp 2
  mesh_run 4 dp2tp2 2 --data-parallel 2 --tensor-parallel 2
  mesh_run 4 tp4 4 --tensor-parallel 4
  local text=(generate -m "$out/tp2" -p "Once there was" -n 16 --temp 0 --backend "$backend")
  try "$program" "${text[@]}" | tee "$out/generate-1.txt" &&
    try "$launcher" --oversubscribe -np 2 "$program" "${text[@]}" | tee "$out/generate-2.txt" || status=1
  if cmp "$out/generate-1.txt" "$out/generate-2.txt"; then
    [ $status != 0 ] || tell "losses are those of one rank, and two ranks wrote its 16 tokens"
  else
    [ ! -s "$out/generate-1.txt" ] || try_without_switches "${text[@]}"
    tell_end 1 "the text of two ranks is not that of one" || status=1
  fi
  return $status
}

# Which of these is to blame, if any: the text of two ranks again, each time without one of them.
try_without_switches() { # what writes the text
  local switch
  for switch in LLAMA_TP_CUDA_GRAPH=0 LLAMA_TP_EARLY_GRIDS=0 NCCL_LAUNCH_ORDER_IMPLICIT=0; do
    if try env $switch "$launcher" --oversubscribe -np 2 "$program" "$@" > "$out/part.txt" && cmp "$out/part.txt" "$out/generate-1.txt"; then
      tell "with $switch the text of two ranks is that of one"
    fi
  done
}

# The demo's config with one layer, so wide; its random weights are smaller, so that logits stay near 1.
wide_config() {
  sed -e "s/\"hidden_size\": *[0-9]*/\"hidden_size\": $wide/; s/\"intermediate_size\": *[0-9]*/\"intermediate_size\": $((2 * wide))/" \
    -e 's/"num_hidden_layers": *[0-9]*/"num_hidden_layers": 1/; s/"initializer_range": *[0-9.]*/"initializer_range": 0.02/' \
    data/demo/config.json > "$out/wide.json"
}

# In how many parts the tokens of a run's forward went, by the calls that it counted: two sums of a layer and the embedding's.
parts_of_run() { # folder collective
  local calls
  calls=$(sed -n "s/.*\"collective\":\"$2\",[^{]*{\"forward\":{\"calls\":\([0-9]*\),.*/\1/p" "$out/$1/memory.json")
  echo $((${calls:-0} / 3))
}

# Collectives in parts beside products, which no other stage has: a GPU's tokens go so where ranks exchange 128 MiB of them
# or more (token_parts in src/backend/cuda). These 24,832 of 2,048 f32 are 194 MiB: three parts, the last one the smallest.
# A step is 5.5 TFLOP at most, and two ranks need 2.2 GiB each; in the three runs of two steps each sends 8.7 GB by sockets.
#
# Two ranks add in another order than one, no more. That is 2^-24 · √n of a sum of n numbers, 4e-6 in a product of 4,096 and
# 1e-5 in a gradient over all tokens; errors of either sign, of which a mean over the tokens, or a norm of 30 million
# gradients, keeps far less: on the CPU they are apart by 5e-9 at this size. The first step of AdamW moves each weight by
# 1e-4 whatever its gradient: those alone may move otherwise whose gradients are as small as that error, and the loss
# hardly follows these. So 1e-5 is allowed; with one part of three not gathered, a small model's loss is off by 3e-3.
stage_parts() {
  local status=0 most=1e-5 parts
  if_cpu
  room_for_nccl 100 # two ranks of one group
  wide_config
  wide_run() { # ranks name options …
    train "$1" "$2" --config "$out/wide.json" --dtype float32 --learning-rate 1e-4 --max-steps 2 --save-steps 0 --save-only-model \
      --backend "$backend" --per-device-train-batch-size "$wide_samples" "${@:3}" || return
    rm -rf "$out/$2"/checkpoint-* # of 116 MiB
  }
  wide_mesh() { # name collective options …
    local name=$1 what="2 ranks, ${*:3}"
    wide_run 2 "$name" --tensor-parallel 2 "${@:3}" || return
    parts=$(parts_of_run "$name" "$2")
    what+=", parts: $parts, beside one"
    compare "$what" wide "$name" $most 1 2 && compare "$what" wide "$name" $most 1 2 grad_norm || return
    case $backend:$parts in
      cpu:1 | cuda:[2-9]) ;;
      *) tell_end 1 "$what: these are the parts whose calls its memory.json counts; a GPU has 2 or more here, the CPU 1" ;;
    esac
  }
  wide_run 1 wide || return 1
  wide_mesh wide-sequence reduce_scatter --sequence-parallel on || status=1
  wide_mesh wide-whole all_reduce --sequence-parallel off || status=1
  wide_mesh wide-again reduce_scatter --sequence-parallel on --gradient-checkpointing || status=1
  [ $status = 0 ] || return 1
  if [ "$backend" = cpu ]; then tell "losses and gradient norms are those of one rank, but the CPU has no parts"; else tell "in $parts parts, losses and gradient norms are those of one rank"; fi
}

# ---- one rank of larger meshes, and speed

# As many layers as fit: the first number for which the command does not run out of memory, be it by its plan, or later, by
# what libraries take beside it. 2 where none does, which is no failure of the program.
with_most_layers() { # command …, in which LAYERS stands for the config
  local layers config line status
  for layers in $large_layers; do
    config=$(with_layers "$large" "$layers")
    local words=()
    for line in "$@"; do words+=("${line/LAYERS/$config}"); done
    try "${words[@]}" > "$out/part.txt" 2>&1
    status=$?
    cat "$out/part.txt"
    if [ $status = 0 ]; then
      cat "$out/part.txt" >&3
      return
    fi
    grep -qE ' are free \(|out of memory' "$out/part.txt" || return 1
  done
  tell "there is too little memory for $large with num_hidden_layers $layers: $(why $status)"
  return 2
}

stage_rehearsal() {
  local status=0 of_mesh mesh ranks=8
  if_cpu
  if [ "$backend" = cpu ]; then ranks=4; fi
  for mesh in "--tensor-parallel $ranks" "--tensor-parallel 1 --fsdp $ranks"; do
    # shellcheck disable=SC2086 # options and their values
    with_most_layers "$program" bench --config LAYERS --backend "$backend" --block-size "$context" --per-device-train-batch-size 1 --steps 2 \
      --rehearse "rank=0,world=$ranks" $mesh
    of_mesh=$?
    if [ $status != 1 ] && [ $of_mesh != 0 ]; then status=$of_mesh; fi
    if grep -q '  as planned  *NO' "$out/part.txt"; then tell_end 1 "not as planned: $mesh" || status=1; fi
  done
  [ $status != 2 ] || tell "there is too little memory for a mesh: see below"
  [ $status != 0 ] || tell "one rank of $ranks of $large, $context tokens: see below"
  return $status
}

stage_kernels() {
  if_cpu
  try "$program" bench --config "data/configs/$large.json" --backend "$backend" --kernels --block-size "$context" --per-device-train-batch-size 1 | tee -a /dev/fd/3
  local status=$?
  [ $status != 0 ] || tell "$large, $context tokens: see below"
  return $status
}

# The share of what the datasheet (data/devices) of this GPU has for bf16; the cards of PCIe and NVL have less than those
# of one name that are on a board.
of_the_datasheet() {
  local sheet name gpu="" form
  if [ "$backend" = cuda ]; then gpu=$(nvidia-smi -i "$CUDA_VISIBLE_DEVICES" --query-gpu=name --format=csv,noheader); fi
  form=$(grep -oiwE 'PCIe|NVL' <<< "$gpu")
  for sheet in data/devices/*.json; do
    name=$(basename "$sheet" .json)
    grep -qiw "$name" <<< "$gpu" || continue
    [ -z "$form" ] || grep -qi "\"name\": *\"[^\"]*$form" "$sheet" || continue
    sed -n 's/^training .* \([0-9]*\) GFLOP\/s.*/\1/p' "$out/part.txt" | awk -v sheet="$(sed -n 's/.*"bf16_flops": *\([0-9.e]*\).*/\1/p' "$sheet")" -v name="$name" \
      '{ printf "model FLOPs: %.1f%% of the %.0f TFLOP/s of data/devices/%s.json\n", 100 * $1 * 1e9 / sheet, sheet / 1e12, name }'
    return
  done
  grep '^training ' "$out/part.txt"
}

train_with_most_layers() { # options of the products
  with_most_layers "$program" bench --config LAYERS --backend "$backend" --train --block-size "$block" --per-device-train-batch-size "$samples" --gradient-accumulation-steps "$forwards" --steps 3 "$@"
}

stage_training() {
  if_cpu
  train_with_most_layers || return
  tell "$(of_the_datasheet)"
}

# The products of a step, which are the same for any number of layers, tuned; then the stage training again with them.
stage_products() {
  [ "$backend" = cuda ] || skip "the CPU backend has no products to choose for"
  local tuned=$out/products.json before
  rm -f "$tuned"
  large_layers=1 with_most_layers "$program" bench --config LAYERS --backend "$backend" --train --block-size "$block" --per-device-train-batch-size "$samples" --steps 1 --tune-products "$tuned" || return
  train_with_most_layers --products "$tuned" || return
  before=$(tail -n 1 "$out/training.md" 2> /dev/null)
  tell "$(of_the_datasheet) with tuned products; without: ${before:-not measured}"
}

# As it is, then without tokens ahead of the host, then also without grids that begin early, and without CUDA graphs.
stage_decode() {
  local setting switches=() generation status=0
  if_cpu
  for setting in "" LLAMA_TP_TOKENS_AHEAD=0 LLAMA_TP_EARLY_GRIDS=0 LLAMA_TP_CUDA_GRAPH=0; do
    [ "$backend" = cuda ] || [ -z "$setting" ] || continue
    if [ -n "$setting" ]; then
      switches+=("$setting")
      tell "${switches[*]}:"
    fi
    try env "${switches[@]}" "$program" bench --config "data/configs/$large.json" --backend "$backend" --generate --prompt-tokens "$((block / 8))" --n-predict 32 | tee -a /dev/fd/3 || status=1
    : "${generation:=$(tail -n 1 "$out/$name.md")}"
  done
  tell "$generation"
  return $status
}

# The same attention and training by PyTorch, where it is installed, and how much faster we are.
stage_peer() {
  local status=0 layers=8
  if_cpu
  if [ "$backend" = cpu ]; then layers=2; fi
  try python3 -c 'from importlib.util import find_spec; exit(not (find_spec("torch") and find_spec("transformers")))' || skip "there is no python3 with torch and transformers here"
  [ "$backend" = cpu ] || try python3 -c 'import torch; assert torch.cuda.is_available()' || skip "PyTorch sees no CUDA device here"
  try python3 scripts/lib/torch_peer.py attention "data/configs/$large.json" "$context" | tee "$out/part.txt" || status=1
  cat "$out/part.txt" >&3
  ratio "attention, forward" "$(microseconds 'attention, forward' "$out/kernels.log")" "$(number_before ' µs forward' "$out/part.txt")"
  ratio "attention, backward" "$(microseconds 'attention, backward' "$out/kernels.log")" "$(number_before ' µs backward' "$out/part.txt")"
  try python3 scripts/lib/torch_peer.py training "$(with_layers "$large" "$layers")" "$block" "$samples" "$forwards" | tee "$out/part.txt" || status=1
  cat "$out/part.txt" >&3
  ratio "training, in FLOP/s" "$(number_before ' GFLOP/s' "$out/part.txt")" "$(grep '^training ' "$out/training.log" 2> /dev/null | number_before ' GFLOP/s')"
  return $status
}

# Of a line of `bench --kernels`.
microseconds() { sed -n "s/^$1 *\([0-9.]*\) .*/\1/p" "$2" 2> /dev/null | tail -n 1; }
# The number in front of these words, without its commas.
number_before() { sed -n "s#.* \([0-9.,]*\)$1.*#\1#p" "${2:--}" 2> /dev/null | tail -n 1 | tr -d ,; }
# ratio WHAT SMALLER LARGER: how many times as fast we are.
ratio() {
  if [ -z "$2" ] || [ -z "$3" ]; then tell "$1: no ratio, since one of the two was not measured"; else
    tell "$1: llama_tp is $(awk -v a="$2" -v b="$3" 'BEGIN { printf "%.2f", b / a }') times as fast as PyTorch"
  fi
}
