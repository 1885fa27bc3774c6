#!/usr/bin/env bash
# Compares fewstep's meta-training with PyTorch's and JAX's, in one run on this
# machine: builds fewstep, checks that everybody computes the same
# meta-gradient, times everybody in turn, prints tables with medians and ratios
# and writes a JSON file. Takes about ten minutes, and wants a machine with
# nothing else to do: it says so when others used it meanwhile.
#
#   tools/bench/bench.sh [--quick] [--only CASE]... [--threads N]
#                        [--build FOLDER] [--out FILE.json]
#
#   --quick     fewer rounds: half the time
#   --only      sinusoid, sinusoid-maml, conv4-64, conv4-16 (against the
#               peers), scaling (threads and memory of conv4-64), kernels (one
#               by one, with google-benchmark), firmware (instructions under
#               QEMU); may be repeated; everything by default
#   --threads   of fewstep and of every peer; default 2, or 1 where there is
#               one processor
#   --build     where to build; default build/bench
#   --out       default build/bench/bench.json; kernels and firmware write
#               bench-kernels.json and bench-firmware.json beside it
#
# Before the first time: tools/setup.sh --peers.
# Exit status: 0; 1 when a comparison failed (a peer's meta-gradient is not
# ours, a program died); 2 for wrong use; 5 when something is missing.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/../.."

wrong() { echo "bench.sh: $*" >&2; exit 2; }
missing() { echo "bench.sh: $*" >&2; exit 5; }

all_cases=(sinusoid sinusoid-maml conv4-64 conv4-16 scaling kernels firmware)
cases=() quick=() build=build/bench out=''
threads=$(($(nproc) < 2 ? 1 : 2))
while [[ $# -gt 0 ]]; do
  option=$1
  case $option in
    --quick) quick=(--quick) ;;
    --only | --threads | --build | --out)
      [[ $# -ge 2 ]] || wrong "$option needs a value"
      value=$2
      shift
      ;;&
    --only)
      [[ " ${all_cases[*]} " == *" $value "* ]] ||
        wrong "no case $value; there are: ${all_cases[*]}"
      cases+=("$value")
      ;;
    --threads)
      [[ $value =~ ^[1-9][0-9]*$ ]] || wrong "--threads $value: not a number"
      [[ $value -le $(nproc) ]] ||
        wrong "--threads $value: this machine has $(nproc) processor(s)"
      threads=$value
      ;;
    --build) build=$value ;;
    --out) out=$value ;;
    *) wrong "unknown option $option; see the head of tools/bench/bench.sh" ;;
  esac
  shift
done
[[ ${#cases[@]} -gt 0 ]] || cases=("${all_cases[@]}")
[[ -n $out ]] || out=$build/bench.json

wants() { [[ " ${cases[*]} " == *" $1 "* ]]; }
against_peers=()
for name in sinusoid sinusoid-maml conv4-64 conv4-16 scaling; do
  if wants "$name"; then against_peers+=(--only "$name"); fi
done

python=build/peers/bin/python
remedy="run: bash tools/setup.sh --peers"
if [[ ${#against_peers[@]} -gt 0 ]]; then
  [[ -x $python ]] || missing "no peers to compare with ($python); $remedy"
  "$python" -c 'import jax, numpy, torch' 2>/dev/null ||
    missing "$python lacks jax, numpy or torch; $remedy"
fi

commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
git diff --quiet HEAD 2>/dev/null || commit+=" with changes"
status=0

if [[ ${#against_peers[@]} -gt 0 ]]; then
  bash tools/bench/build.sh "$build" fewstep engine_bench || exit 5
  PYTHONDONTWRITEBYTECODE=1 "$python" tools/bench/bench.py \
    --build "$build" --out "$out" --threads "$threads" --commit "$commit" \
    "${quick[@]}" "${against_peers[@]}" || status=1
fi

if wants kernels; then
  echo
  if [[ ! -e /usr/include/benchmark/benchmark.h &&
        ! -e /usr/local/include/benchmark/benchmark.h ]]; then
    echo "kernels: not run: no google-benchmark; $remedy"
  elif bash tools/bench/build.sh "$build" kernel_bench; then
    kernels=${out%.json}-kernels.json
    least=0.2
    [[ ${#quick[@]} -eq 0 ]] || least=0.02
    echo "single kernels on one core"
    "$build/tools/bench/kernel_bench" --benchmark_min_time=$least \
      --benchmark_format=csv 2>"$build/kernels.log" |
      awk -F, -v json="$kernels" '
        /^name,/ { for (i = 1; i <= NF; ++i) if ($i == "\"GFLOP/s\"") rate = i
                   next }
        rate { gsub(/"/, "", $1)
               printf "  %-50s %9.1f us %8.1f GFLOP/s\n", $1, $4 / 1e3, $rate
               printf "%s{\"kernel\": \"%s\", \"us\": %.5g, \"gflops\": %.4g}",
                 (n++ ? ",\n " : "["), $1, $4 / 1e3, $rate >json }
        END { if (!n) exit 1; print "]" >json }' || status=1
    echo "written: $kernels"
  else
    status=1
  fi
fi

# What AIfES 2.2.0 and plain C++ take: DESIGN.md, "What good looks like".
published() {
  case $1 in
    network_a) echo "AIfES 563 k - 882 k, plain loops 347 k, aim 115 k" ;;
    network_b) echo "AIfES 1.09 M - 2.37 M, plain loops 700 k, aim 240 k" ;;
    network_c) echo "AIfES 90 M - 99 M, plain loops 19 M - 23 M, aim 3.3 M" ;;
  esac
}
if wants firmware; then
  echo
  if ! command -v qemu-system-arm arm-none-eabi-g++ >/dev/null; then
    echo "firmware: not run: no QEMU or no Arm compiler; run: tools/setup.sh"
  elif bash tools/bench/build.sh "$build" -DFEWSTEP_BUILD_TESTS=ON \
    golden_capsules fewstep; then
    log=$build/firmware.log
    if ! ctest --test-dir "$build" -V -R '^firmware/cost/' >"$log" 2>&1; then
      echo "firmware: a test failed, see $log"
      status=1
    fi
    echo "one full-batch step on Cortex-M4F under QEMU"
    lines=$(sed -n 's/^[0-9]*: cost: \(network_.*\)/\1/p' "$log")
    while read -r line; do
      if [[ -z $line ]]; then
        echo "  no figures: see $log"
      else
        echo "  $line"
        echo "    $(published "${line%%,*}")"
      fi
    done <<<"$lines"
    printf '%s\n' "$lines" |
      awk 'NF { gsub(/,/, ""); printf "%s{\"network\": \"%s\", \"tile\": %s, \
\"instructions\": %s}", n++ ? ",\n " : "[", $1, $3 + 0, $4 }
           END { print n ? "]" : "[]" }' >"${out%.json}-firmware.json"
    echo "written: ${out%.json}-firmware.json"
  else
    status=1
  fi
fi
exit "$status"
