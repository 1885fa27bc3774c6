#!/usr/bin/env bash
# The whole way in a few minutes: meta-train a small network, make a capsule,
# judge it, and adapt it on an emulated Cortex-M4F with the same bits as here.
#
#   tools/demo.sh
#
# With FEWSTEP_DATA=<folder> that holds omniglot/images_background.zip and
# omniglot/images_evaluation.zip, the same again with handwritten characters.
# Everything made lies in build/demo.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
out=$root/build/demo
fewstep=$out/host/tools/fewstep
mkdir -p "$out"

say() { printf '\n== %s\n' "$*"; }
# Shows a command of the tool, then runs it.
run() {
  echo "   \$ fewstep $(sed "s|$root/||g" <<<"$*")"
  "$fewstep" "$@"
}
# quiet LOG COMMAND...: its output only when it fails
quiet() {
  local log=$out/$1
  shift
  "$@" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
}
value() { sed -n "s/^$1 \([^ ]*\).*/\1/p"; }

# outputs_of NPZ N: the first N values of its first array (outputs) as the bits
# of floats. NPZ files here are uncompressed zip archives of .npy files: magic
# "\x93NUMPY", version, length of the header, header, values.
outputs_of() {
  local magic header
  magic=$(($(grep -obUa NUMPY "$1" | sed -n '1s/:.*//p') - 1))
  header=$(od -An -tu2 -j $((magic + 8)) -N 2 "$1")
  od -An -v -tx4 -w4 -j $((magic + 10 + header)) -N $((4 * $2)) "$1" |
    sed 's/^ */0x/'
}

# demo NAME RECIPE EPISODES SETTING...: train, judge, export, adapt on both.
demo() {
  local name=$1 recipe=$2 n_tasks=$3 dir=$out/$1 setting
  local settings=()
  shift 3
  for setting in "$@"; do settings+=(--set "$setting"); done
  rm -rf "$dir"
  mkdir -p "$dir/headers"

  say "$name: meta-training (a shorter run than the recipe's own)"
  run train "$recipe" --out "$dir/run" "${settings[@]}"
  local capsule
  capsule=$(ls "$dir"/run/*.capsule)

  say "$name: $n_tasks tasks it has never seen, before and after adapting"
  run eval "$capsule" --recipe "$recipe" --tasks "$n_tasks"

  say "$name: what goes into firmware"
  run inspect "$capsule"

  say "$name: one new task, adapted here, through the firmware library"
  run export "$recipe" -o "$dir/episode.npz" --tasks 1
  run adapt "$capsule" --episodes "$dir/episode.npz" --dump "$dir/adapted.npz"

  say "$name: the same on an emulated Cortex-M4F (QEMU)"
  run export "$capsule" -o "$dir/headers/model.h"
  run export "$dir/episode.npz" --task 0 -o "$dir/headers/episode.h"
  quiet "$name-firmware.log" cmake --preset cortex-m4f -B "$dir/firmware" \
    -DFEWSTEP_EXAMPLE_HEADERS="$dir/headers"
  quiet "$name-firmware.log" cmake --build "$dir/firmware"
  local report
  report=$(FEWSTEP_QEMU_TIMEOUT=300 ports/cortex-m/run_qemu.sh \
    "$dir/firmware/ports/examples/fewstep_example_adapt")
  grep -v '^output' <<<"$report" | sed 's/^/   /'

  local here there
  here=$(run adapt "$capsule" --episodes "$dir/episode.npz" --json |
    sed -n 's/.*"parameter_hash": "\([0-9a-f]*\)".*/0x\1/p' | head -n 1)
  there=$(value parameter_hash <<<"$report")
  sed -n 's/^output [0-9]* //p' <<<"$report" | tr ' ' '\n' >"$dir/there.txt"
  outputs_of "$dir/adapted.npz" "$(wc -l <"$dir/there.txt")" >"$dir/here.txt"

  say "$name: here against the emulated Cortex-M4F"
  echo "   adapted parameters, hash    here $here, there $there"
  echo "   outputs                     $(wc -l <"$dir/here.txt") floats"
  if [[ -z $here || $here != "$there" || ! -s $dir/here.txt ]] ||
    ! cmp -s "$dir/here.txt" "$dir/there.txt"; then
    echo "   DIFFERENT BITS (see $dir/here.txt and there.txt)" >&2
    exit 1
  fi
  echo "   the same bits"
  summary+="   $name: support loss $(value support_loss_before <<<"$report") -> \
$(value support_loss_after <<<"$report") on the emulated Cortex-M4F in \
$(value arena_bytes <<<"$report") B of arena"$'\n'
}

say "Set-up: what is missing is installed (tools/setup.sh)"
bash tools/setup.sh
SECONDS=0

say "Building the library and the fewstep command"
cache=()
if command -v ccache >/dev/null; then
  cache=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
fi
quiet build.log cmake --preset release -B "$out/host" \
  -DFEWSTEP_BUILD_TESTS=OFF -DFEWSTEP_CUDA=OFF "${cache[@]}"
quiet build.log cmake --build "$out/host"
echo "   $SECONDS s"

summary=""
demo sinusoid tools/recipes/sinusoid-meta_sgd-5s.toml 1000 \
  outer.iterations=15000

if [[ -n ${FEWSTEP_DATA:-} &&
  -e $FEWSTEP_DATA/omniglot/images_background.zip ]]; then
  demo omniglot tools/recipes/omniglot_mcu-meta_sgd-5w1s.toml 300 \
    outer.iterations=6000
else
  say "Handwritten characters: set FEWSTEP_DATA to a folder with omniglot/*.zip"
fi

say "Done in $((SECONDS / 60)) min $((SECONDS % 60)) s (set-up not counted)"
printf '%s' "$summary"
echo "   The emulated core gave the bits of this machine every time."
