#!/usr/bin/env bash
# Measures steps on the emulated Cortex-M4F and fits the table behind
# `fewstep inspect`'s instructions.
#
#   tools/calibrate_core.sh BUILD > tools/fewstep/core_table.h
#
# BUILD is a build folder with tests. Needs what the firmware tests need. The
# errors of the fit go to standard error.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

[[ $# -eq 1 ]] || { echo "usage: calibrate_core.sh BUILD" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --build "$1" --target golden_capsules fit_core_table >&2
"$1/tests/firmware/golden_capsules" "$work" --calibration >&2
cmake -S "$root/tests/firmware/image" -B "$work/cross" -G Ninja \
  --toolchain "$root/ports/cortex-m/toolchain.cmake" >&2
cmake --build "$work/cross" --target cost_of_all >&2
compiler=$(arm-none-eabi-g++ -dumpfullversion)

for capsule in "$work"/*.capsule; do
  last=
  for tile in 1 2 4 8 16 32; do
    output=$("$root/ports/cortex-m/run_qemu.sh" "$work/cross/cost_of_all.elf" \
      "$capsule" "$tile" 0)
    value() { sed -n "s/^$1 //p" <<<"$output"; }
    [[ $(value tile) != "${last:-}" ]] || break  # The whole set at once.
    last=$(value tile)
    echo "$capsule $last $(value instructions)"
  done
done >"$work/measurements"
"$1/tools/fit_core_table" "Cortex-M4F" "gcc $compiler -O2" \
  <"$work/measurements"
