#!/usr/bin/env bash
# The same training, with both annealings, with one thread, with two, and killed
# twice in the middle of them (SIGKILL) and resumed, writes byte-identical
# checkpoints, best parameters, metrics and capsules.
#
#   resume_test.sh FEWSTEP
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
fewstep=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat >recipe.toml <<'TOML'
name = "resume"
seed = 3
[task]
source = "sinusoid"
family = "meta_sgd"
shots = 5
queries = 10
[network]
input = [1, 1, 1]
layers = [{op = "dense", units = 24}, {op = "tanh"}, {op = "dense", units = 24},
          {op = "group_norm", groups = 4}, {op = "relu"},
          {op = "dense", units = 1}]
loss = "mean_squared_error"
[inner]
rule = "meta_sgd"
steps = 2
rate = 0.01
[outer]
optimizer = "adam"
rate = 1e-3
schedule = "cosine"
tasks = 27
iterations = 1500
clip_norm = 10.0
multi_step = true
multi_step_iterations = 1300
order_annealing = 450
[run]
validate_every = 250
validate_tasks = 50
checkpoint_every = 70
TOML

train() { "$fewstep" train recipe.toml --quiet "$@"; }
train --out one --set run.threads=1
train --out two --set run.threads=2

# Killed at its first checkpoint, and once more after resuming. The checkpoint
# says how far the killed run was: it must not have been done.
killed() {
  local before pid
  before=$(stat -c %Y.%s killed/checkpoint.npz 2>/dev/null || echo none)
  "$fewstep" train recipe.toml --quiet --out killed "$@" &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    [ "$(stat -c %Y.%s killed/checkpoint.npz 2>/dev/null || echo none)" = \
      "$before" ] || break
    sleep 0.02
  done
  kill -9 "$pid" 2>/dev/null || { echo "run ended before the kill"; return 1; }
  wait "$pid" 2>/dev/null || true
  [ ! -e killed/resume.capsule ] || { echo "killed run was done"; return 1; }
}
# On a busy machine a run may end before this script comes to kill it.
for attempt in 1 2 3 none; do
  [ "$attempt" != none ] || exit 1
  rm -rf killed
  killed --set run.threads=2 || continue
  sleep 1.1  # The next checkpoint's time differs by a second at least.
  killed --resume --set run.threads=1 || continue
  break
done
train --out killed --resume --set run.threads=2

for file in checkpoint.npz best.npz metrics.jsonl resume.capsule; do
  cmp "one/$file" "two/$file"
  cmp "one/$file" "killed/$file"
done
# The comparison can fail: another seed gives another checkpoint.
short=(--set outer.iterations=10 --set outer.multi_step_iterations=5
       --set outer.order_annealing=4)
train --out other --set seed=4 "${short[@]}" >/dev/null
train --out same "${short[@]}" >/dev/null
if cmp -s other/checkpoint.npz same/checkpoint.npz; then
  echo "canary: two seeds gave the same checkpoint"
  exit 1
fi
echo "byte-identical: 1 thread, 2 threads, killed twice and resumed"
