#!/usr/bin/env bash
# Cost curves of fewstep's meta-training: time and memory of a meta-step as
# tasks, inner steps, shots, width and network grow, with one and two threads.
# Writes curves.json and curves.svg. About ten minutes; wants a
# machine with nothing else to do.
#
#   tools/bench/curves.sh [--quick] [--only CURVE]... [--build FOLDER]
#                         [--out FOLDER]
#
#   --quick   one round a point instead of three
#   --only    tasks, steps, shots, width, filters; may be repeated; all by
#             default
#   --build   where to build; default build/bench
#   --out     default build/bench
#
# Each point is a process of its own (engine_bench), so peak memory is its own
# too. Exit status: 0; 2 for wrong use; 5 when something is missing.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/../.."

wrong() { echo "curves.sh: $*" >&2; exit 2; }
missing() { echo "curves.sh: $*" >&2; exit 5; }

all_curves=(tasks steps shots width filters)
curves=() build=build/bench out='' measuring=(--repeats 3 --seconds 0.3)
while [[ $# -gt 0 ]]; do
  option=$1
  case $option in
    --quick) measuring=(--repeats 1 --seconds 0.1) ;;
    --only | --build | --out)
      [[ $# -ge 2 ]] || wrong "$option needs a value"
      value=$2
      shift
      ;;&
    --only)
      [[ " ${all_curves[*]} " == *" $value "* ]] ||
        wrong "no curve $value; there are: ${all_curves[*]}"
      curves+=("$value")
      ;;
    --build) build=$value ;;
    --out) out=$value ;;
    *) wrong "unknown option $option; see the head of tools/bench/curves.sh" ;;
  esac
  shift
done
[[ ${#curves[@]} -gt 0 ]] || curves=("${all_curves[@]}")
[[ -n $out ]] || out=$build
command -v gnuplot >/dev/null ||
  missing "no gnuplot to draw with; run: bash tools/setup.sh --peers"

bash tools/bench/build.sh "$build" engine_bench || exit 5
bench=$build/tools/bench/engine_bench
work=$build/curves
rm -rf "$work"
mkdir -p "$work" "$out"

# recipe NAME INPUT LAYERS LOSS: small rates, so that nothing diverges
recipe() {
  cat >"$work/$1.toml" <<TOML
name = "$1"
[task]
source = "episodes"
path = "random"
[network]
input = $2
layers = [$3]
loss = "$4"
[inner]
rule = "meta_sgd"
steps = 1
rate = 0.001
[outer]
rate = 1e-6
tasks = 32
iterations = 1000000
TOML
}

# mlp UNITS, conv4 FILTERS: the recipe's name
mlp() {
  local hidden="{op = \"dense\", units = $1}, {op = \"relu\"}"
  recipe "mlp-$1" "[1, 1, 1]" "$hidden, $hidden, {op = \"dense\", units = 1}" \
    mean_squared_error
  echo "mlp-$1"
}
conv4() {
  local block
  block="{op = \"conv2d\", filters = $1, kernel = 3, stride = 2, pad = 1}, "
  block+="{op = \"batch_norm\"}, {op = \"relu\"}, "
  recipe "conv4-$1" "[1, 28, 28]" \
    "$block$block$block$block{op = \"dense\", units = 5}" softmax_cross_entropy
  echo "conv4-$1"
}

fields=tasks,ms_per_step,tasks_per_s,gflops,peak_mb
csv=$work/curves.csv
echo "curve,network,x,threads,$fields" >"$csv"
# point CURVE NETWORK X SUPPORT QUERY OPTION...: a line for 1 and 2 threads
point() {
  local curve=$1 network=$2 x=$3 support=$4 query=$5 threads values
  shift 5
  for threads in 1 2; do
    [[ $threads -le $(nproc) ]] || continue
    if ! values=$("$bench" "$work/$network.toml" --random "$support" "$query" \
      --set "run.threads=$threads" "${measuring[@]}" --fields "$fields" \
      "$@"); then
      missing "engine_bench failed on $network ($curve = $x)"
    fi
    echo "$curve,$network,$x,$threads,$values" | tee -a "$csv"
  done
}

wants() { [[ " ${curves[*]} " == *" $1 "* ]]; }
if wants tasks; then
  for n in 1 2 4 8 16 32 64 128 256 512; do
    point tasks "$(mlp 40)" $n 10 10 --set outer.tasks=$n
  done
  for n in 1 2 4 8 16 32 64; do
    point tasks "$(conv4 16)" $n 5 75 --set outer.tasks=$n
  done
fi
if wants steps; then
  for n in 1 2 3 5 10; do
    point steps "$(mlp 40)" $n 10 10 --set inner.steps=$n
    point steps "$(conv4 16)" $n 5 75 --set inner.steps=$n
  done
fi
if wants shots; then
  for n in 1 2 5 10 20; do
    point shots "$(mlp 40)" $n "$n" 10
    point shots "$(conv4 16)" $n $((5 * n)) 75
  done
fi
if wants width; then
  for n in 8 16 32 64 128 256; do point width "$(mlp $n)" $n 10 10; done
fi
if wants filters; then
  for n in 8 16 32 64 128; do point filters "$(conv4 $n)" $n 5 75; done
fi

awk -F, 'NR == 1 { for (i = 1; i <= NF; ++i) name[i] = $i; print "["; next }
  { printf "%s{", (NR > 2 ? ",\n" : "")
    for (i = 1; i <= NF; ++i)
      printf "%s\"%s\": %s", (i > 1 ? ", " : ""), name[i],
        ($i ~ /^[0-9.e+-]+$/ ? $i : "\"" $i "\"")
    printf "}" } END { print "\n]" }' "$csv" >"$out/curves.json"
gnuplot -e "csv = '$csv'; svg = '$out/curves.svg'; shown = '${curves[*]}'" \
  tools/bench/curves.gp
echo "written: $out/curves.json, $out/curves.svg"
