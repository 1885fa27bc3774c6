#!/usr/bin/env bash
# One hash everywhere: builds hash_episode with every compiler, optimization
# level and core of the table below, runs it here or under QEMU, and prints the
# hashes. Canaries, deliberately built wrong, must give another one.
#
#   matrix.sh GOLDEN_CAPSULES HASH_LANES WORK NAME...
#
#   GOLDEN_CAPSULES, HASH_LANES  programs of this build
#   WORK                         folder for capsules and builds, kept
#   NAME                         golden capsules, in order
#
# $FEWSTEP_LANES: EIGEN:FMT, folders of their headers, for the trainer's
# kernels of other machines; without it their rows are not run.
#
# Exits with 1 on any difference, a canary that gives the right hash included;
# with 77 when a compiler or QEMU is missing and the rest agrees.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

golden_capsules=$1 hash_lanes=$2 work=$3
shift 3
names=("$@")
root=$(cd "$(dirname "$0")/../.." && pwd)

# name | compiler[@x86-64 level], core, or for aarch64 its program and compiler |
#   optimization | flags of the user's code | canary
fast="-O3 -ffp-contract=fast"
configurations=(
  "g++ -O1|g++|-O1||"
  "g++ -O2|g++|-O2||"
  "g++ -O3|g++|-O3||"
  "g++ -O3, AVX2 only|g++@v3|-O3||"
  "clang++ -O1|clang++|-O1||"
  "clang++ -O2|clang++|-O2||"
  "clang++ -O3|clang++|-O3||"
  "g++ -O2, user's code contracts|g++|-O2|$fast -march=x86-64-v3|"
  "clang++ -O2, user's code contracts|clang++|-O2|$fast -march=x86-64-v3|"
  "Cortex-M4F -O1|cortex-m4|-O1||"
  "Cortex-M4F -O2|cortex-m4|-O2||"
  "Cortex-M4F -O3|cortex-m4|-O3||"
  "Cortex-M4F -Os|cortex-m4|-Os||"
  "Cortex-M4F -O2, user's code contracts|cortex-m4|-O2|$fast|"
  "Cortex-M7 -O2|cortex-m7|-O2||"
  "AArch64 g++ -O2|aarch64 hash_episode gcc|-O2||"
  "AArch64 g++ -O3|aarch64 hash_episode gcc|-O3||"
  "AArch64 clang++ -O2|aarch64 hash_episode clang|-O2||"
  "AArch64 clang++ -O3|aarch64 hash_episode clang|-O3||"
  "AArch64 g++ -O2, user's code contracts|aarch64 hash_episode gcc|-O2|$fast|"
  "AArch64 g++ -O2, NEON lanes|aarch64 hash_lanes gcc|-O2||"
  "AArch64 clang++ -O2, NEON lanes|aarch64 hash_lanes clang|-O2||"
  "canary: AArch64 g++ -O2, library contracts|aarch64 hash_episode gcc|-O2||contract"
  "canary: AArch64 g++, NEON lanes contract|aarch64 hash_lanes gcc|-O2||contract"
  "canary: g++ -O2, fma rounds twice|g++|-O2||fma"
  "canary: g++ -O2, library contracts|g++|-O2||contract"
  "canary: Cortex-M4F -O2, library contracts|cortex-m4|-O2||contract"
)

# The folder of a configuration's build and log.
folder() { echo "$work/$(tr -cs 'a-zA-Z0-9\n' '_' <<<"$1")"; }

# Prints what the program of one configuration says; 77: cannot be built here.
run_one() {
  local name target level user canary build program=hash_episode
  IFS='|' read -r name target level user canary <<<"$1"
  build=$(folder "$name")
  local x86_64=AUTO
  if [[ $target == *@* ]]; then x86_64=${target#*@} target=${target%@*}; fi
  local options=(
    -DCMAKE_BUILD_TYPE=Release -DFEWSTEP_WERROR=ON
    "-DCMAKE_C_FLAGS_RELEASE=$level -DNDEBUG"
    "-DCMAKE_CXX_FLAGS_RELEASE=$level -DNDEBUG"
    "-DFEWSTEP_X86_64=$x86_64"
    "-DFEWSTEP_USER_FLAGS=$user" "-DFEWSTEP_CANARY=$canary"
    "-DFEWSTEP_GOLDEN=$work/golden"
    "-DFEWSTEP_GOLDEN_NAMES=$(IFS=';' && echo "${names[*]}")"
  )
  if command -v ccache >/dev/null; then
    options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  fi
  case "$target" in
    cortex-*)
      command -v arm-none-eabi-g++ >/dev/null || return 77
      command -v qemu-system-arm >/dev/null || return 77
      options+=(--toolchain "$root/ports/cortex-m/toolchain.cmake"
                "-DFEWSTEP_CPU=$target") ;;
    aarch64*)
      command -v aarch64-linux-gnu-g++ >/dev/null || return 77
      command -v qemu-aarch64 >/dev/null || return 77
      local compiler
      read -r _ program compiler <<<"$target"
      command -v "$compiler" >/dev/null || return 77
      options+=(--toolchain "$root/ports/linux/aarch64.cmake"
                "-DFEWSTEP_AARCH64_COMPILER=$compiler")
      if [[ $program == hash_lanes ]]; then
        [[ -n ${FEWSTEP_LANES:-} ]] || return 77
        options+=("-DFEWSTEP_LANES=${FEWSTEP_LANES/:/;}")
      fi ;;
    *)
      command -v "$target" >/dev/null || return 77
      options+=("-DCMAKE_CXX_COMPILER=$target"
                "-DCMAKE_C_COMPILER=$([[ $target == g++ ]] && echo gcc ||
                                      echo clang)") ;;
  esac
  cmake -S "$root/tests/bits/image" -B "$build" -G Ninja "${options[@]}" >&2
  cmake --build "$build" -j 1 --target "$program" >&2
  case "$target" in
    aarch64*)
      local arguments=()
      if [[ $program == hash_lanes ]]; then arguments=("${capsules[@]}"); fi
      qemu-aarch64 -L /usr/aarch64-linux-gnu "$build/$program" \
        "${arguments[@]}" ;;
    cortex-m4) "$root/ports/cortex-m/run_qemu.sh" "$build/hash_episode" ;;
    cortex-m7)
      FEWSTEP_QEMU_MACHINE=mps2-an500 \
        "$root/ports/cortex-m/run_qemu.sh" "$build/hash_episode" ;;
    *) "$build/hash_episode" ;;
  esac
}

mkdir -p "$work"
"$golden_capsules" "$work/golden" >"$work/golden.log"
capsules=("${names[@]/#/$work/golden/}")
capsules=("${capsules[@]/%/.capsule}")

# As many at a time as there are cores.
for configuration in "${configurations[@]}"; do
  while [[ $(jobs -rp | wc -l) -ge $(nproc) ]]; do wait -n || true; done
  log=$(folder "${configuration%%|*}")
  # In the background `set -e` holds inside run_one; in a condition it does not.
  (
    trap 'echo $? >"$log.status"' EXIT
    run_one "$configuration" >"$log.out" 2>"$log.log"
  ) &
done
wait || true

expected=$("$hash_lanes" "${capsules[@]}" | sed -n 's/^all //p')
[[ -n $expected ]] || { echo "matrix.sh: hash_lanes failed" >&2; exit 1; }
printf '%-44s %s\n' "Lanes, this build" "$expected"

failed=0 missing=0 agreed=1
for configuration in "${configurations[@]}"; do
  name=${configuration%%|*} canary=${configuration##*|}
  log=$(folder "$name")
  status=$(cat "$log.status" 2>/dev/null || echo 1)
  hash=$(sed -n 's/^all //p' "$log.out")
  verdict=""
  if [[ $status -eq 77 ]]; then
    hash="not run" verdict=": compiler or emulator is missing"
    missing=$((missing + 1))
  elif [[ $status -ne 0 || -z $hash ]]; then
    hash="failed" verdict=", see $log.log"
    failed=$((failed + 1))
    tail -n 20 "$log.log" "$log.out" >&2
  elif [[ -n $canary && $hash == "$expected" ]]; then
    verdict="  A CANARY WITH THE RIGHT HASH: this check cannot fail"
    failed=$((failed + 1))
  elif [[ -n $canary ]]; then
    verdict="  differs, as it must"
  elif [[ $hash != "$expected" ]]; then
    verdict="  DIFFERS"
    failed=$((failed + 1))
  else
    agreed=$((agreed + 1))
  fi
  printf '%-44s %s%s\n' "$name" "$hash" "$verdict"
done
echo "same bits: $agreed configurations agree, $failed wrong, $missing not run"
[[ $failed -eq 0 ]] || exit 1
[[ $missing -eq 0 ]] || exit 77
