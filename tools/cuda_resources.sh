#!/usr/bin/env bash
# What the CUDA kernels take of a multiprocessor: registers, stack, spills and
# static shared memory of each kernel, and the stack and spills of each function
# it calls, as the tables of host/cuda/README.md.
#
#   tools/cuda_resources.sh [ARCH [KERNEL...]]
#
# ARCH: sm_90 (default), sm_80, sm_87, ..; KERNEL: a .cu file of host/cuda without
# its ending; default: all.
#
# Needs nvcc, no GPU. Exit status 1 when a kernel does not compile.
#
# The kernels are compiled as they are shipped, whole programs: ptxas then tells
# of a kernel and all it calls together. Once more as relocatable code, for the
# functions by themselves, held to the 128 registers that the kernels have.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
arch=${1:-sm_90}
kernels=("${@:2}")
if [[ ${#kernels[@]} -eq 0 ]]; then
  kernels=(host/cuda/*.cu)
  kernels=("${kernels[@]##*/}")
  kernels=("${kernels[@]%.cu}")
fi
nvcc=${NVCC:-nvcc}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# compile KERNEL OUT OPTION...: ptxas' report, after the kernel's name and a tab
compile() {
  local name=$1 log=$folder/log
  "$nvcc" -std=c++20 -O3 -gencode "arch=compute_${arch#sm_},code=$arch" -cubin \
    --fmad=false --ftz=false --prec-div=true --prec-sqrt=true \
    -Xcompiler=-ffp-contract=off -Xptxas -v -Ilib/include -Ihost/include \
    "${@:3}" "host/cuda/$name.cu" -o "$folder/$name.cubin" 2>"$log" || {
    cat "$log" >&2
    exit 1
  }
  c++filt <"$log" | sed "s/^/$name\t/" >>"$2"
}

for name in "${kernels[@]}"; do
  start=$SECONDS
  compile "$name" "$folder/whole"
  echo "$name: $((SECONDS - start)) s" >&2
  compile "$name" "$folder/functions" -rdc=true -maxrregcount=128
done

# Lines of ptxas -v: "Compiling entry function 'F'", "Function properties for
# F", "N bytes stack frame, N bytes spill stores, N bytes spill loads", "Used N
# registers, ..."
read -r -d '' common <<'AWK' || true
  function number(what) {
    return match($2, "[0-9]+ bytes " what) ? substr($2, RSTART) + 0 : 0
  }
  function numbers() {
    stack = number("stack")
    spills = number("spill stores") + number("spill loads")
    return stack " | " number("spill stores") " | " number("spill loads")
  }
AWK
echo "Kernels, $arch, with all they call:"
echo
echo "| kernel | registers | static shared | stack | spill stores | spill loads |"
echo "|---|---|---|---|---|---|"
awk -F'\t' "$common"'
  /Compiling entry function/ { entry = 1 }
  /bytes stack frame/ && entry { of = numbers(); entry = 0 }
  /Used [0-9]+ registers/ {
    match($2, /Used [0-9]+/)
    print "| `" $1 "` | " substr($2, RSTART + 5, RLENGTH - 5) " | " \
      number("smem") " | " of " |"
  }' "$folder/whole"
echo
echo "Functions with a stack, each by itself (of those in several kernels, the"
echo "largest):"
echo
echo "| function | stack | spill stores | spill loads |"
echo "|---|---|---|---|"
awk -F'\t' "$common"'
  /Function properties for/ {
    f = $2
    sub(/.*Function properties for /, "", f)
    gsub(/fewstep::host::|fewstep::|\(anonymous namespace\)::|void /, "", f)
    gsub(/PlainView<float>/, "float", f)
    gsub(/, (Block|Cluster)Executor/, "", f)
    gsub(/(Block|Cluster)Team/, "..", f)
    gsub(/ >/, ">", f)
    sub(/\(.*/, "", f)
  }
  /bytes stack frame/ {
    row = numbers()
    if (stack + spills == 0) { plain[f] = 1; next }
    if (!(f in most) || stack > most[f]) { most[f] = stack; rows[f] = row }
  }
  END {
    for (f in rows) print "| `" f "` | " rows[f] " |" | "sort"
    close("sort")
    for (f in plain) if (!(f in rows)) ++n
    print "\n" n " functions have none."
  }' "$folder/functions"
