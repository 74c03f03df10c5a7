# shellcheck shell=bash disable=SC2034,SC2154
# What the scripts share: saying what happens, and starting ranks on any machine.
# Sourced, with $script as the name to speak under.

say() { echo "$script: $*"; }
fail() {
  echo "$script: $*" >&2
  exit 1
}

# The command as one could type it: quoted only where the shell needs it.
typed() {
  local word words=()
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./:=,+-]+$ ]]; then words+=("$word"); else words+=("${word@Q}"); fi
  done
  echo "${words[*]}"
}

# Shows a command, runs it, and says which one it was when it fails.
show_and_run() {
  echo
  echo "\$ $(typed "$@")"
  "$@" || fail "this command failed (exit status $?, its reason is above):  $(typed "$@")"
}

# The same of a command under mpirun that writes a text to stdout: mpirun forwards stderr apart from it, into the midst of
# the last words, so that it is shown behind them.
show_and_tell() {
  local notes status=0
  notes=$(mktemp)
  echo
  echo "\$ $(typed "$@")"
  "$@" 2> "$notes" || status=$?
  cat "$notes" >&2
  rm "$notes"
  [ "$status" = 0 ] || fail "this command failed (exit status $status, its reason is above):  $(typed "$@")"
}

# Each rank takes a GPU of its own, where the program may use one: one GPU is too few for two ranks.
has_one_gpu() {
  local gpus
  gpus=${CUDA_VISIBLE_DEVICES-$(nvidia-smi -L 2> /dev/null | sed -n 's/^GPU \([0-9]*\):.*/\1/p' | paste -sd, || true)}
  [[ $gpus =~ ^[^,]+$ ]]
}

# Open MPI refuses root unless told twice, and more ranks than cores unless told once. $launch then starts two ranks.
prepare_two_ranks() {
  source scripts/lib/gvisor.sh
  if [[ ${LD_PRELOAD-} == *gvisor_addresses* ]]; then say "under gVisor, Open MPI wants what  source scripts/lib/gvisor.sh  sets: set here"; fi
  launch=(mpirun --oversubscribe -np 2)
  say "two ranks; --oversubscribe lets Open MPI start them where there are fewer cores"
  if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    say "as root, Open MPI wants OMPI_ALLOW_RUN_AS_ROOT=1 and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 in the environment: set here"
  fi
  if has_one_gpu; then
    launch+=(-x CUDA_VISIBLE_DEVICES=)
    say "there is one GPU, and each of two ranks would want its own: they compute on the CPU (-x CUDA_VISIBLE_DEVICES= hides it)"
  fi
}

build() {
  show_and_run make --silent "-j$(nproc)"
}
