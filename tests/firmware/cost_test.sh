#!/usr/bin/env bash
# What one step costs on the emulated Cortex-M4F, against its bounds.
#
#   cost_test.sh ELF CAPSULE TILE INSTRUCTIONS RAM COMPILER
#
#   ELF           image/cost.cpp
#   CAPSULE       network_a, network_b or network_c of golden_capsules
#   TILE          examples at a time
#   INSTRUCTIONS  bound of one step, 0: none (counted all the same)
#   RAM           bound of arena + session + stack, bytes
#   COMPILER      version of gcc that built ELF
#
# Counts are the same in every run, and must be the same for any data: a step
# has no branch that depends on it. The bounds were set for gcc 12.2 at -O2;
# with another major version they are printed, and the test counts as skipped
# (77).
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

elf=$1 capsule=$2 tile=$3 instructions_max=$4 ram_max=$5 compiler=$6
root=$(cd "$(dirname "$0")/../.." && pwd)
name=$(basename "$capsule" .capsule)
fail() { echo "cost_test.sh: $name, tile $tile: $*" >&2; exit 1; }

value() { sed -n "s/^$1 //p" <<<"$output"; }

same=
for data in 0 1 2 3; do
  output=$("$root/ports/cortex-m/run_qemu.sh" "$elf" "$capsule" "$tile" \
    "$data") || fail "$output"
  instructions=$(value instructions)
  [[ $(value tile) == "$tile" ]] || fail "runs at tile $(value tile)"
  [[ -n $instructions ]] || fail "no count: $output"
  [[ ${same:=$instructions} == "$instructions" ]] ||
    fail "$same instructions with data 0, $instructions with data $data"
done
ram=$(value ram_bytes)
bound=$instructions_max
[[ $bound != 0 ]] || bound=none
echo "cost: $name, tile $tile: $instructions instructions (bound $bound)," \
  "$ram bytes of RAM (bound $ram_max): arena $(value arena_bytes)," \
  "session $(value session_bytes), stack $(value stack_bytes);" \
  "gcc $compiler, bounds for 12.2"
if [[ ${compiler%%.*} != 12 ]]; then
  echo "cost: bounds not checked: they are for gcc 12, this is $compiler"
  exit 77
fi
if [[ $instructions_max -gt 0 && $instructions -gt $instructions_max ]]; then
  fail "$instructions instructions, $((instructions - instructions_max)) over"
fi
[[ $ram -le $ram_max ]] || fail "$ram bytes of RAM, $((ram - ram_max)) over"
