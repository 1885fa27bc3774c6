#!/usr/bin/env bash
# `fewstep inspect`'s instructions of a step against the emulated Cortex-M4F.
#
#   estimate_test.sh FEWSTEP ELF BOUND COMPILER CAPSULE...
#
#   FEWSTEP   the tool
#   ELF       image/cost.cpp with every operation
#   BOUND     largest relative error; `stated`: what inspect itself says
#   COMPILER  version of gcc that built ELF
#
# At every tile that inspect lists. The table is of gcc 12: with another major
# version the errors are printed, and the test counts as skipped (77).
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

fewstep=$1 elf=$2 bound=$3 compiler=$4
shift 4
root=$(cd "$(dirname "$0")/../.." && pwd)
failed=0
for capsule in "$@"; do
  json=$("$fewstep" inspect --json "$capsule")
  # "tile instructions error" of each step; the arenas have tiles without.
  estimates=$(awk -F'[:,]' '
    /"tile"/ { tile = $2 }
    /"instructions"/ { instructions = $2 }
    /"error"/ { print tile + 0, instructions + 0, $2 + 0 }' <<<"$json")
  [[ -n $estimates ]] || { echo "$capsule: no estimate" >&2; exit 1; }
  while read -r tile estimate error; do
    output=$("$root/ports/cortex-m/run_qemu.sh" "$elf" "$capsule" "$tile" 0) ||
      { echo "$capsule, tile $tile: $output" >&2; exit 1; }
    measured=$(sed -n 's/^instructions //p' <<<"$output")
    [[ $bound == stated ]] || error=$bound
    awk -v name="$(basename "$capsule" .capsule), tile $tile" \
      -v estimate="$estimate" -v measured="$measured" -v error="$error" 'BEGIN {
        off = estimate / measured - 1
        bad = off > error || off < -error
        printf "%s: %d instructions, estimated %d: %+.1f %% off%s\n", name,
          measured, estimate, 100 * off, bad ? ", over the bound" : ""
        exit bad
      }' || failed=1
  done <<<"$estimates"
done
if [[ ${compiler%%.*} != 12 ]]; then
  echo "estimate: bound not checked: it is for gcc 12, this is $compiler"
  exit 77
fi
exit $failed
