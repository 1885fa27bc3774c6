#!/usr/bin/env bash
# What `fewstep train --engine cuda` does about a GPU that is missing, too old,
# too small, or fails: exit status 5, or 4 for numbers that are not finite, a
# message with the remedy, and the last checkpoint as it was.
#
#   cuda_failures_test.sh FEWSTEP_FAKE_GPU
#
# FEWSTEP_FAKE_GPU is `fewstep` on a CUDA runtime without a GPU
# (tests/support/fake_cuda.h), which fails as told; its kernels do nothing.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
fewstep=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat >recipe.toml <<'TOML'
name = "failures"
[task]
source = "sinusoid"
family = "maml"
shots = 5
queries = 5
[network]
input = [1, 1, 1]
layers = [{op = "dense", units = 8}, {op = "relu"}, {op = "dense", units = 1}]
loss = "mean_squared_error"
[inner]
rule = "meta_sgd"
steps = 2
rate = 0.01
[outer]
tasks = 4
iterations = 20
[run]
validate_every = 10
validate_tasks = 20
checkpoint_every = 5
threads = 1
TOML

train() { "$fewstep" train recipe.toml --quiet "$@"; }
train --out run
train --out straight --set outer.iterations=40
cp -r run before

# fails STATUS FAKE_CUDA TEXT...: the run goes on with --engine cuda on such a
# GPU: it ends with the status, its message has every text, and nothing that a
# run is resumed from has changed.
n_failed=0
fails() {
  local status=$1 gpu=$2 got=0 text
  shift 2
  FEWSTEP_FAKE_CUDA=$gpu train --out run --resume --engine cuda \
    --set outer.iterations=40 >out 2>err || got=$?
  if [ $got -ne "$status" ]; then
    echo "with $gpu: exit status $got, not $status: $(cat err)"
    n_failed=$((n_failed + 1))
  fi
  for text in "$@"; do
    case $(cat err) in
      *"$text"*) ;;
      *)
        echo "with $gpu: no \"$text\" in: $(cat err)"
        n_failed=$((n_failed + 1))
        ;;
    esac
  done
  for file in checkpoint.npz best.npz; do
    cmp "run/$file" "before/$file" || n_failed=$((n_failed + 1))
  done
}
fails 5 "devices=0" "there is no NVIDIA GPU here" "use --engine cpu"
fails 5 "driver=0" "no NVIDIA driver is loaded" "install the driver"
fails 5 "driver=11040" "the driver knows CUDA 11.4" "update the driver"
fails 5 "kernels=0" "built for other GPUs" "-DCMAKE_CUDA_ARCHITECTURES="
fails 5 "memory=20000" "--engine cuda" "lower "
fails 5 "fail=cudaMalloc:1:2" "memory is used up" "lower outer.tasks"
fails 5 "fail=cudaHostAlloc:1:2" "memory is used up"
fails 5 "fail=cudaStreamSynchronize:1:719" "the GPU failed" "--resume" \
  "the last checkpoint is intact" "unspecified launch failure"
fails 5 "fail=cudaGraphLaunch:1:719" "the GPU failed" "--resume"
# Kernels that did nothing leave what is no number.
fails 4 "devices=1" "not finite" "the checkpoint of iteration 20 is intact"
[ $n_failed -eq 0 ]

# After all of that the run goes on as if nothing had been.
train --out run --resume --set outer.iterations=40
cmp run/checkpoint.npz straight/checkpoint.npz
cmp run/failures.capsule straight/failures.capsule
echo "every failure has its status, its remedy, and the checkpoint"
