# shellcheck shell=bash disable=SC2012,SC2154
# The stages of scripts/gpu_check that run the kernels under compute-sanitizer, by the means of gpu_stages.sh.

# Small shapes, each kernel among them; the sanitizer makes everything some ten times slower.
attention_tests='Attention.Results*:Attention.BackwardKeeps*:Attention.Large*'
small_tests="Linear.*:Rope.*:Norm.Apply*:Norm.AddNorm*:HeadNorm.*:Embedding.*:Elementwise.*:CrossEntropy.GradientMay*:Sample.Chances*:FeedChoices.*:AdamW.Clipping*:Activation.BackwardMay*:Activation.Forward*:$attention_tests"
# The toolkit's that is in use, else the newest one's.
sanitizer_below() { ls "$1/cuda/bin/compute-sanitizer" 2> /dev/null || ls "$1"/cuda*/bin/compute-sanitizer 2> /dev/null | sort -V | tail -n 1; }
# 20253 is 2025.3; 0 where it does not say.
sanitizer_version() {
  local version
  version=$("$sanitizer" --version 2> /dev/null | sed -n 's/^Version \([0-9]*\)\.\([0-9]*\).*/\1\2/p')
  echo "${version:-0}"
}
# Sets options, and misread, the filter of kernels of which it reports what is not so.
choose_options() {
  local known
  known=$("$sanitizer" --help 2>&1)
  options=() misread=""
  if [ "$name" = memcheck ]; then
    options=(--report-api-errors no) # libraries ask for what a driver may lack, and our own code looks at every answer
  elif [[ $known == *num-cuda-barriers* ]]; then
    options=(--num-cuda-barriers 64) # of a block: what it counts itself can be too few, and right kernels fail then
  fi
  # Until 2026.3 (docs/cuda.md has the source) it takes the order by which Hopper's kernels are right for a race.
  if [ "$name" = racecheck ] && [ "$(sanitizer_version)" -lt 20263 ] && [[ $known == *kernel-name-exclude* ]]; then misread=kns=_hopper; fi
}
# Leaves what this run adds to the log in part.txt. Through no pipe, which a process that cannot be killed would hold open.
run_sanitizer() { # tests option …
  local before status
  before=$(wc -l < "$out/$name.log")
  try "$sanitizer" --tool "$name" --target-processes all --error-exitcode 9 "${@:2}" "$on_device" --gtest_color=no "--gtest_filter=$1"
  status=$?
  tail -n "+$((before + 1))" "$out/$name.log" > "$out/part.txt"
  return $status
}
sanitizer_summary() { (grep 'ERROR SUMMARY\|RACECHECK SUMMARY' "$out/part.txt" || echo "no summary") | tail -n 1 | sed 's/^=* *//'; }
# What it found, and its warnings that it may have missed something: first lines, with one blank behind the equals signs.
sanitizer_reports() { grep -E '^=+ [A-Z]' "$out/part.txt" | grep -vE "COMPUTE-SANITIZER|SUMMARY|Target application|process didn't"; }

sanitize() {
  local sanitizer options misread status result=1 tests reports words
  [ "$backend" = cuda ] || skip "compute-sanitizer looks at devices only"
  sanitizer=$(command -v compute-sanitizer || sanitizer_below /usr/local)
  [ -n "$sanitizer" ] || skip "there is no compute-sanitizer here (it comes with the CUDA toolkit)"
  [ -x "$on_device" ] || skip "there is no $on_device: this build has no CUDA"
  choose_options
  run_sanitizer "$small_tests" "${options[@]}" ${misread:+--kernel-name-exclude "$misread"}
  status=$?
  tests=$(grep -c '^\[       OK' "$out/part.txt")
  if grep -q 'Device not supported' "$out/part.txt"; then skip "compute-sanitizer does not work on this machine: device not supported"; fi
  if under_gvisor /proc/version && [ "$tests" = 0 ]; then skip "compute-sanitizer does not work under gVisor"; fi
  words="$(sanitizer_summary); $tests tests passed, exit status $status"
  reports=$(sanitizer_reports)
  if [ -n "$reports" ]; then
    sort <<< "$reports" | uniq -c | sort -rn | head -n 20 >&3
    words+="; its reports: see below"
  elif [ "$tests" != 0 ] && { [ $status = 0 ] || [ $status = 124 ]; }; then
    result=0 # also at the end of its time, of what it saw
  fi
  if [ -n "$misread" ]; then
    run_sanitizer "$attention_tests" "${options[@]}" --kernel-name "$misread"
    tell "Hopper's attention, not judged, since this racecheck is known to report races there that are none: $(sanitizer_summary)"
  fi
  tell_end $result "$words"
}
stage_memcheck() { sanitize; }
stage_racecheck() { sanitize; }
stage_synccheck() { sanitize; }
