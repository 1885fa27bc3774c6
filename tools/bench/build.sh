#!/usr/bin/env bash
# Builds what the benchmarks run, quietly:
#
#   tools/bench/build.sh FOLDER [-DOPTION]... TARGET...
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/../.."

if [[ $# -lt 2 ]]; then
  echo "usage: build.sh FOLDER [-DOPTION]... TARGET..." >&2
  exit 2
fi
build=$1
shift
options=(-DCMAKE_BUILD_TYPE=Release -DFEWSTEP_BUILD_TESTS=OFF
         -DFEWSTEP_CUDA=OFF)
if command -v ccache >/dev/null; then
  options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
fi
while [[ $1 == -D* ]]; do
  options+=("$1")
  shift
done
mkdir -p "$build"
echo "building $* in $build"
if ! { cmake -S . -B "$build" -G Ninja "${options[@]}" &&
  cmake --build "$build" --target "$@"; } >"$build/build.log" 2>&1; then
  grep -E -A 12 'FAILED|CMake Error|error:' "$build/build.log" |
    head -n 40 | cut -c 1-300 >&2 || true
  echo "the build failed: see $build/build.log (set-up: tools/setup.sh)" >&2
  exit 5
fi
