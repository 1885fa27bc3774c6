#!/usr/bin/env bash
# Every check of the project, set-up included. Ends with a table and the line
#
#   N passed, N failed, N skipped
#
# of GoogleTest's cases, other tests and builds, and exits with 1 when anything
# failed. Builds and logs are in build/test-*; one that is there already is
# continued.
#
#   tools/test.sh            everything
#   tools/test.sh LANE...    only some of: gcc firmware bits consumer cuda clang
#                            source
#
# Data sets are looked for in ../shared/data (or $FEWSTEP_SHARED/data); tests
# that need them are skipped where that folder is missing, and fail where it
# exists and they skip all the same. $FEWSTEP_JOBS: compilers at a time (cores).
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
jobs=${FEWSTEP_JOBS:-$(nproc)}
shared=${FEWSTEP_SHARED:-$root/../shared}

# What selects cases would leave some out.
unset "${!GTEST_@}"

lanes=("$@")
[[ $# -gt 0 ]] || lanes=(gcc firmware bits consumer cuda clang source)
wants() { [[ " ${lanes[*]} " == *" $1 "* ]]; }

passed=0 failed=0 skipped=0
rows=()
# record NAME PASSED FAILED SKIPPED SECONDS: a row of the table
record() {
  passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
  rows+=("$(printf '%-44s %7d %7d %8d %6d s' "$@")")
  echo "-- $1: $2 passed, $3 failed, $4 skipped in $5 s"
}
notes=()
note() {
  notes+=("$*")
  echo "   $*"
}

# build NAME FOLDER OPTION...: configures and builds; 1 when it does not.
build() {
  local name=$1 folder=$2 start=$SECONDS log=$2.log
  shift 2
  echo "-- $name"
  mkdir -p build
  if command -v ccache >/dev/null; then
    set -- "$@" -DCMAKE_CXX_COMPILER_LAUNCHER=ccache
  fi
  if cmake -S . -B "$folder" -DFEWSTEP_WERROR=ON "$@" >"$log" 2>&1 &&
    cmake --build "$folder" -j "$jobs" >>"$log" 2>&1; then
    record "$name" 1 0 0 $((SECONDS - start))
  else
    grep -E -A 12 'FAILED|CMake Error|error:' "$log" | head -n 60 ||
      tail -n 30 "$log"
    note "see $log"
    record "$name" 0 1 0 $((SECONDS - start))
    return 1
  fi
}

# Why a test is skipped, where it does not say it itself.
why() {
  case "$1" in
    cuda/*) echo "no nvcc" ;;
    gpu/*) echo "no GPU" ;;
  esac
}

# tests NAME FOLDER OPTION...: ctest with these options. Programs of GoogleTest
# cases (tests/support/run_cases.sh) count as their cases, others as one.
tests() {
  local name=$1 folder=$2 start=$SECONDS results log line cases
  local total=0 bad=0 skips=0
  shift 2
  results=$root/$folder/$(tr -cs 'a-zA-Z0-9\n' '-' <<<"$name").xml
  log=${results%.xml}.log cases=${results%.xml}.cases
  rm -rf "$results" "$cases"
  mkdir -p "$cases"
  FEWSTEP_CASES=$cases ctest --test-dir "$folder" --no-tests=error -j "$jobs" \
    --output-on-failure --output-junit "$results" "$@" >"$log" 2>&1 || true
  if [[ -s $results ]]; then
    line=$(tr '\n\t' '  ' <"$results" | grep -o '<testsuite [^>]*>')
    total=$(sed 's/.* tests="\([0-9]*\)".*/\1/' <<<"$line")
    bad=$(sed 's/.* failures="\([0-9]*\)".*/\1/' <<<"$line")
    skips=$(sed 's/.* skipped="\([0-9]*\)".*/\1/' <<<"$line")
  fi
  if [[ $total -eq 0 ]]; then
    bad=1 total=1
    tail -n 20 "$log"
  fi
  # Each shard's own numbers in the place of the one that ctest counts for it;
  # one that left none is counted as ctest did.
  line=$(cat /dev/null "$cases"/* 2>/dev/null | awk -F'\t' '
    NF == 4 {
      n += $2 + $3 + $4 - 1
      bad += $3 - ($3 > 0)
      skips += $4 - ($4 > 0 && $2 + $3 == 0)
    }
    END { print n + 0, bad + 0, skips + 0 }') || true
  read -r n more_bad more_skips <<<"$line"
  total=$((total + n)) bad=$((bad + more_bad)) skips=$((skips + more_skips))
  if [[ $bad -gt 0 ]]; then
    grep -vE ' Passed +[0-9.]+ sec$|^ +Start +[0-9]+:' "$log" | tail -n 200
    note "see ${log#"$root"/}"
  fi
  if [[ $skips -gt 0 ]]; then
    while IFS=$'\t' read -r line reason; do
      [[ -n $reason ]] || reason=$(why "$line")
      note "skipped: $line${reason:+ ($reason)}"
    done < <(skipped_tests "$log" "$cases")
    # Data is here, so nothing has a reason to skip but a missing compiler or GPU.
    if [[ -d $shared/data && $name != cuda* && $name != gpu* ]]; then
      note "tests skipped although $shared/data is there: counted as failed"
      bad=$((bad + skips)) skips=0
    fi
  fi
  record "$name" $((total - bad - skips)) "$bad" "$skips" $((SECONDS - start))
}

# skipped_tests LOG CASES: "NAME <tab> reason" of each.
skipped_tests() {
  local name
  sed -n 's/^ *[0-9]*\/[0-9]* Test *#[0-9]*: \(.*[^.]\) \.*\*\*\*Skipped.*/\1/p' \
    "$1" | while read -r name; do
    [[ -e $2/${name//\//--} ]] || echo "$name"
  done
  sed -n 's/^\t//p' "$2"/* 2>/dev/null || true
}

bash tools/setup.sh
echo "fewstep's tests: ${lanes[*]}; $jobs at a time"

gcc=build/test-gcc clang=build/test-clang
groups='^(firmware|bits|consumer|cuda|gpu)$'
if wants gcc || wants firmware || wants bits || wants consumer || wants cuda
then
  if build "g++, Release, warnings are errors" $gcc --preset release \
    -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++ \
    -DFEWSTEP_REQUIRE_FIRMWARE=ON; then
    if wants gcc; then tests "tests, g++" $gcc -LE "$groups"; fi
    if wants firmware; then
      tests "firmware: Cortex-M4F under QEMU" $gcc -L '^firmware$'
      # What the archive costs; the tests above judged it.
      cross=$gcc/tests/firmware/cortex-m4f/fewstep
      archives=("$cross/lib/libfewstep_core.a"
                "$cross/device/libfewstep_device.a")
      tools/firmware_checks/size.sh "${archives[@]}" | tail -n 1 || true
      tools/firmware_checks/callgraph.sh \
        --elf $gcc/tests/firmware/cortex-m4f/whole.elf "${archives[@]}" |
        tail -n 1 || true
    fi
    if wants bits; then
      tests "same bits everywhere" $gcc -L '^bits$' -V
      sed -n 's/^[0-9]*: //p' $gcc/same-bits-everywhere.log |
        grep -E '[0-9a-f]{16}|^same bits|not run|failed' || true
    fi
    if wants consumer; then
      tests "users' projects" $gcc -L '^consumer$'
    fi
    if wants cuda; then
      tests "cuda: kernels compile" $gcc -L '^cuda$'
      # None where there is no nvcc.
      # (No grep -q: it would end ctest by a broken pipe, which counts as none.)
      if [[ $(ctest --test-dir $gcc -N -L '^gpu$') != *"Total Tests: 0"* ]]; then
        tests "gpu: refusals, and what needs a GPU" $gcc -L '^gpu$'
      fi
    fi
  fi
fi

if wants clang; then
  # The cross-built groups check other programs than this compiler makes. AVX2,
  # because g++ above takes AVX-512 where there is one. Reports name lines; what
  # only a debugger reads takes a tenth of the compilers' time.
  if build "clang++, address and undefined sanitizers" $clang \
    --preset asan-ubsan -DCMAKE_C_COMPILER=clang \
    -DCMAKE_CXX_COMPILER=clang++ -DFEWSTEP_CUDA=OFF \
    -DFEWSTEP_X86_64=v3 -DCMAKE_C_FLAGS_DEBUG="-O1 -gline-tables-only" \
    -DCMAKE_CXX_FLAGS_DEBUG="-O1 -gline-tables-only"; then
    # The README's program is linked as a user would, without sanitizers.
    tests "tests, clang++ with sanitizers" $clang -LE "$groups" -E '^readme$'
    note "not run with sanitizers: readme, and firmware, bits, consumer, cuda, gpu"
  fi
fi

if wants source; then
  start=$SECONDS
  bash tools/check_source.sh >build/test-source.log || true
  cat build/test-source.log
  record "source: format, licences, links, firmware" \
    "$(grep -c '^ok ' build/test-source.log || true)" \
    "$(grep -c '^FAILED ' build/test-source.log || true)" 0 \
    $((SECONDS - start))
fi

echo
printf '%-44s %7s %7s %8s %8s\n' "" passed failed skipped ""
printf '%s\n' "${rows[@]}"
for line in "${notes[@]}"; do echo "note: $line"; done
echo "$((SECONDS / 60)) min $((SECONDS % 60)) s"
echo "$passed passed, $failed failed, $skipped skipped"
[[ $failed -eq 0 ]]
