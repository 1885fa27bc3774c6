#!/usr/bin/env bash
# What the CUDA kernels take of a multiprocessor: registers, stack, spills and
# static shared memory of each kernel, and where its machine code touches local
# memory, as the tables of host/cuda/README.md.
#
#   tools/cuda_resources.sh [ARCH [KERNEL...]]
#
# ARCH: sm_90 (default), sm_80, sm_87, ..; KERNEL: a .cu file of host/cuda or
# ports/jetson without its ending; default: all.
#
# Needs nvcc, no GPU; the second table nvdisasm, which is part of CUDA's toolkit
# (NVDISASM, or in PATH, or beside nvcc; as a package, pip install
# nvidia-cuda-nvdisasm), and python3. Exit status 1 when a kernel does not
# compile, or what is needed for the second table is missing.
#
# The kernels are compiled as they are shipped, whole programs: ptxas assigns
# registers to a kernel and all it calls together.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
arch=${1:-sm_90}
kernels=("${@:2}")
if [[ ${#kernels[@]} -eq 0 ]]; then
  kernels=(host/cuda/*.cu ports/jetson/*.cu)
  kernels=("${kernels[@]##*/}")
  kernels=("${kernels[@]%.cu}")
fi
nvcc=${NVCC:-nvcc}
nvdisasm=${NVDISASM:-$(command -v nvdisasm ||
  ls "$(dirname "$(command -v "$nvcc")")/nvdisasm" 2>/dev/null || true)}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

for name in "${kernels[@]}"; do
  start=$SECONDS
  file=host/cuda/$name.cu standard=c++20
  [[ -e $file ]] || { file=ports/jetson/$name.cu standard=c++17; }
  [[ -e $file ]] || { echo "cuda_resources.sh: no kernel $name" >&2; exit 1; }
  "$nvcc" -std=$standard -O3 -gencode "arch=compute_${arch#sm_},code=$arch" \
    -cubin --fmad=false --ftz=false --prec-div=true --prec-sqrt=true \
    -Xcompiler=-ffp-contract=off -Xptxas -v -Ilib/include -Ihost/include \
    -Idevice/include -Idevice/src -Iports/jetson "$file" \
    -o "$folder/$name.cubin" 2>"$folder/log" || {
    cat "$folder/log" >&2
    exit 1
  }
  c++filt <"$folder/log" | sed "s/^/$name\t/" >>"$folder/whole"
  echo "$name: $((SECONDS - start)) s" >&2
done

# Lines of ptxas -v: "Compiling entry function 'F'", "N bytes stack frame, N
# bytes spill stores, N bytes spill loads", "Used N registers, ..."
echo "Kernels, $arch, with all they call:"
echo
echo "| kernel | registers | static shared | stack | spill stores | spill loads |"
echo "|---|---|---|---|---|---|"
awk -F'\t' '
  function number(what) {
    return match($2, "[0-9]+ bytes " what) ? substr($2, RSTART) + 0 : 0
  }
  /Compiling entry function/ { entry = 1 }
  /bytes stack frame/ && entry {
    of = number("stack") " | " number("spill stores") " | " number("spill loads")
    entry = 0
  }
  /Used [0-9]+ registers/ {
    match($2, /Used [0-9]+/)
    print "| `" $1 "` | " substr($2, RSTART + 5, RLENGTH - 5) " | " \
      number("smem") " | " of " |"
  }' "$folder/whole"
if [[ -z $nvdisasm ]] || ! command -v python3 >/dev/null; then
  echo "cuda_resources.sh: no second table: nvdisasm (NVDISASM=.. or pip" \
    "install nvidia-cuda-nvdisasm) or python3 is missing" >&2
  exit 1
fi
for name in "${kernels[@]}"; do
  "$nvdisasm" -c "$folder/$name.cubin" >"$folder/$name.sass"
  echo
  echo "Loads and stores of local memory in the machine code of \`$name\`:"
  echo
  python3 tools/cuda_local_memory.py <"$folder/$name.sass"
done
