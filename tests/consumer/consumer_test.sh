#!/usr/bin/env bash
# Builds and runs a user's project, the way the README says.
#
#   consumer_test.sh CASE BUILD WORK FEWSTEP MODEL_CAPSULE RECIPE CXX
#
#   CASE  find_package: from an installed tree, device and host library
#         add_subdirectory: from the source tree, device library alone
#         add_subdirectory_host: the same with the host library
#         bare_metal: the device library cross-built and installed alone, its
#         user linked against it and run on the emulated core
#   BUILD          this build, for `cmake --install`
#   WORK           folder for everything made here; emptied first
#   FEWSTEP        the command line tool
#   MODEL_CAPSULE  becomes the model.h that the programs include
#   RECIPE         for the host program
#   CXX            the C++ compiler
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

case=$1 build=$2 work=$3 fewstep=$4 capsule=$5 recipe=$6 cxx=$7
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/tests/consumer
rm -rf "$work"
mkdir -p "$work/headers"
"$fewstep" export "$capsule" -o "$work/headers/model.h"

# project CASE [OPTION...]: configures and builds it in $work/build
project() {
  local name=$1
  shift
  cmake -S "$here/$name" -B "$work/build" -G Ninja \
    -DCMAKE_BUILD_TYPE=Release -DMODEL_DIR="$work/headers" "$@"
  cmake --build "$work/build"
}
host_program() { "$work/build/host_program" "$recipe" "$work/run"; }

case "$case" in
  find_package)
    cmake --install "$build" --prefix "$work/prefix" >"$work/install.log"
    project find_package -DCMAKE_PREFIX_PATH="$work/prefix" \
      -DCMAKE_CXX_COMPILER="$cxx"
    "$work/build/device_program"
    "$work/build/device_program_c"
    host_program
    "$work/prefix/bin/fewstep" inspect "$capsule" >"$work/inspect.txt"
    ;;
  add_subdirectory)
    project add_subdirectory -DFEWSTEP_SOURCE="$root" \
      -DCMAKE_CXX_COMPILER="$cxx"
    "$work/build/device_program"
    [[ ! -e $work/build/host_program ]]
    ;;
  add_subdirectory_host)
    # Unoptimized, and nothing for a debugger: this compiles the host library
    # once more.
    project add_subdirectory -DFEWSTEP_SOURCE="$root" \
      -DFEWSTEP_BUILD_HOST=ON -DCMAKE_BUILD_TYPE=Debug \
      -DCMAKE_CXX_FLAGS_DEBUG=-g0 -DCMAKE_CUDA_FLAGS_DEBUG=-Xptxas=-O0 \
      -DCMAKE_CXX_COMPILER="$cxx"
    "$work/build/device_program"
    host_program
    ;;
  bare_metal)
    toolchain=$root/ports/cortex-m/toolchain.cmake
    cmake -S "$root" -B "$work/library" -G Ninja --toolchain "$toolchain" \
      -DFEWSTEP_BUILD_PORTS=OFF -DFEWSTEP_WERROR=ON \
      -DCMAKE_INSTALL_PREFIX="$work/prefix"
    cmake --build "$work/library" --target install
    installed=$(cd "$work/prefix/lib" && ls ./*.a | tr '\n' ' ')
    [[ $installed == "./libfewstep_core.a ./libfewstep_device.a " ]] || {
      echo "installed: $installed" >&2
      exit 1
    }
    project bare_metal --toolchain "$toolchain" \
      -DCMAKE_PREFIX_PATH="$work/prefix" -DBOARD_DIR="$root/ports/cortex-m"
    "$root/ports/cortex-m/run_qemu.sh" "$work/build/device_program"
    ;;
  *)
    echo "consumer_test.sh: unknown case $case" >&2
    exit 2
    ;;
esac
echo "consumer: $case works"
