#!/usr/bin/env bash
# The way from a capsule to firmware, as ports/README.md tells it: export the
# headers, build the example for Cortex-M4F, for this machine and, where its
# compiler and qemu-aarch64 are, for Linux on AArch64, run all, and compare them
# with `fewstep adapt` and `fewstep inspect`.
#
#   example_test.sh FEWSTEP GOLDEN WORK CASE TILE...
#
#   FEWSTEP  the command line tool
#   GOLDEN   folder of golden_capsules, with CASE.capsule and CASE.npz
#   WORK     folder for the builds, kept between runs
#   TILE     1, 2, 4 or FULL
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

fewstep=$1 golden=$2 work=$3 case=$4
shift 4
root=$(cd "$(dirname "$0")/../.." && pwd)
headers=$golden/$case
fail() { echo "example_test.sh: $case: $*" >&2; exit 1; }

"$fewstep" export "$golden/$case.capsule" -o "$headers/model.h"
host=$("$fewstep" adapt "$golden/$case.capsule" \
  --episodes "$golden/$case.npz" --json)
host_hash=$(sed -n 's/.*"parameter_hash": "\([0-9a-f]*\)".*/0x\1/p' \
  <<<"$host" | head -n 1)
arenas=$("$fewstep" inspect "$golden/$case.capsule" --json |
  sed -n '/"arena"/,/\]/s/.*"bytes": \([0-9]*\).*/\1/p')
[[ -n $host_hash && -n $arenas ]] || fail "fewstep adapt or inspect said nothing"

# build SYSTEM [OPTION...]: the example of `headers` in $work/$case/SYSTEM
build() {
  local folder=$work/$case/$1 log
  shift
  log=$(cmake -S "$root" -B "$folder" -G Ninja -DFEWSTEP_BUILD_HOST=OFF \
    -DFEWSTEP_BUILD_TESTS=OFF -DFEWSTEP_INSTALL=OFF -DFEWSTEP_WERROR=ON \
    -DFEWSTEP_EXAMPLE_HEADERS="$headers" "$@" 2>&1 &&
    cmake --build "$folder" 2>&1) || { echo "$log"; fail "does not build"; }
}
value() { sed -n "s/^$1 \([^ ]*\).*/\1/p"; }
# What no target may change: everything but costs and the arena.
bits() { grep -E '^(support_loss|query_error|output|parameter_hash)'; }

build linux
here=$("$work/$case/linux/ports/examples/fewstep_example_adapt")
[[ $(value parameter_hash <<<"$here") == "$host_hash" ]] ||
  fail "the example on this machine gives other bits than fewstep adapt"

if command -v aarch64-linux-gnu-g++ >/dev/null &&
  command -v qemu-aarch64 >/dev/null; then
  build aarch64 --toolchain "$root/ports/linux/aarch64.cmake"
  there=$(qemu-aarch64 -L /usr/aarch64-linux-gnu \
    "$work/$case/aarch64/ports/examples/fewstep_example_adapt")
  [[ $(bits <<<"$there") == "$(bits <<<"$here")" ]] ||
    fail "AArch64 gives other bits than this machine"
  echo "== $case, AArch64: the bits of this machine"
else
  echo "== $case, AArch64: not run, needs g++-aarch64-linux-gnu and qemu-user"
fi

for tile in "$@"; do
  build cortex-m4f --toolchain "$root/ports/cortex-m/toolchain.cmake" \
    -DFEWSTEP_EXAMPLE_TILE="$tile"
  there=$("$root/ports/cortex-m/run_qemu.sh" \
    "$work/$case/cortex-m4f/ports/examples/fewstep_example_adapt")
  echo "== $case, tile $tile"
  echo "$there"
  [[ $(bits <<<"$there") == "$(bits <<<"$here")" ]] ||
    fail "tile $tile: the emulated core gives other bits than this machine"
  high_water=$(value high_water_bytes <<<"$there")
  [[ $high_water == "$(value arena_bytes <<<"$there")" ]] ||
    fail "tile $tile: the high-water mark is not the arena's size"
  grep -qx "$high_water" <<<"$arenas" ||
    fail "tile $tile: fewstep inspect states no arena of $high_water bytes"
done
echo "example: same bits as fewstep adapt, $host_hash"
