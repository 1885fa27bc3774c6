#!/usr/bin/env bash
# The benchmarks say what is wrong with their arguments, and engine_bench times
# and answers. Peers are not needed here.
#
#   bench_test.sh ENGINE_BENCH SOURCE_FOLDER
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
engine_bench=$1 bench=$2/tools/bench
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# expect STATUS PATTERN COMMAND...
expect() {
  local status=0 output
  output=$("${@:3}" 2>&1) || status=$?
  if [[ $status != "$1" ]] || ! grep -qE -- "$2" <<<"$output"; then
    echo "${*:3}: expected status $1 and /$2/, got $status and:"
    echo "$output"
    exit 1
  fi
}
expect 2 "no case sinus; there are: sinusoid sinusoid-maml" \
  bash "$bench/bench.sh" --only sinus
expect 2 "--threads two: not a number" bash "$bench/bench.sh" --threads two
expect 2 "--out needs a value" bash "$bench/bench.sh" --out
expect 2 "unknown option --fast" bash "$bench/bench.sh" --fast
expect 2 "no curve depth; there are: tasks steps" \
  bash "$bench/curves.sh" --only depth

cat >recipe.toml <<'TOML'
name = "small"
[task]
source = "episodes"
path = "none"
[network]
input = [1, 5, 5]
layers = [{op = "conv2d", filters = 2, kernel = 3}, {op = "relu"},
          {op = "dense", units = 3}]
loss = "softmax_cross_entropy"
[inner]
rule = "meta_sgd"
rate = 0.1
[outer]
tasks = 3
iterations = 10
[run]
threads = 1
TOML
small=("$engine_bench" recipe.toml --random 3 6 --repeats 1 --seconds 0)
# Forward: 9 * 9 * 2 = 162 and 18 * 3 = 54; a gradient takes the first layer
# twice and the second three times: 486. 3 tasks of 3 * 3 + 6 gradients.
expect 0 '"multiply_adds":21870,.*"tasks_per_s":[0-9]' "${small[@]}"
expect 0 '^21870,3$' "${small[@]}" --fields multiply_adds,tasks
expect 2 "no speed in" "${small[@]}" --fields speed
expect 3 "none" "$engine_bench" recipe.toml
serve() { printf '%s\n' "$@" | "${small[@]}" --serve; }
expect 0 '"seconds":[0-9]' serve "time 2" quit
expect 2 "there are .time N." serve "time none"
serve "gradient g.npz 0" "time 1" "gradient h.npz 0" >/dev/null
cmp g.npz h.npz
serve "gradient g.npz 0" >/dev/null
cmp g.npz h.npz
echo "the benchmarks' own checks are well"
