#!/usr/bin/env bash
# Runs one shard of a GoogleTest program: a share of its cases, in one process.
#
#   run_cases.sh NAME SHARD N_SHARDS PROGRAM [ARGUMENT...]
#
#   NAME      of the shard, in ctest and in what is printed
#   SHARD     0 to N_SHARDS - 1: case i is in shard i modulo N_SHARDS
#   ARGUMENT  for the program; $GTEST_FILTER selects cases as always
#
# Prints what cases that failed have printed, why others were skipped, and
# "N passed, N failed, N skipped". A case that ends the process (a crash, a
# sanitizer's report) or is at work when its time is over failed, by name, and so
# did those of the shard that could not run after it.
#
# $FEWSTEP_CASES: a folder that takes a file of this shard, for tools/test.sh:
# "NAME <tab> passed <tab> failed <tab> skipped", then a line "<tab> case <tab>
# reason" for each that was skipped.
#
# $FEWSTEP_SHARD_SECONDS: the time of a shard (900).
#
# Exits with 1 when a case failed, 77 when all were skipped, else 0.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

name=$1 shard=$2 n_shards=$3
shift 3
limit=${FEWSTEP_SHARD_SECONDS:-900}

results=/dev/null
if [[ -n ${FEWSTEP_CASES:-} ]]; then
  results=$FEWSTEP_CASES/${name//\//--}
fi

{
  status=0
  GTEST_SHARD_INDEX=$shard GTEST_TOTAL_SHARDS=$n_shards GTEST_COLOR=no \
    timeout --foreground --kill-after=10 "$limit" "$@" 2>&1 || status=$?
  printf '\n[exit status] %d\n' "$status"
} | awk -v name="$name" -v results="$results" -v limit="$limit" \
  -v filter="${GTEST_FILTER:-}" '
  # What was printed since the case began, or between cases.
  function forget() { text = "" }
  function fail(why) {
    ++failed
    printf "%s%s\n", text, why
    forget()
  }
  # Whether this line ends the running case that way; it may follow text.
  function ends(how) {
    return running != "" && index($0, "[" how "] " running) != 0
  }
  /^\[==========\] Running [0-9]+ tests? from / { planned = $3; next }
  /^\[ RUN      \] / { running = substr($0, 14); forget(); next }
  ends("       OK ") { ++passed; running = ""; forget(); next }
  ends("  SKIPPED ") {
    ++skipped
    # file:line: Skipped, and what the test says.
    sub(/^[^\n]*: Skipped\n/, "", text)
    gsub(/[\n\t]+/, " ", text)
    sub(/ +$/, "", text)
    printf "skipped: %s (%s)\n", running, text
    skips = skips "\t" running "\t" text "\n"
    running = ""
    forget()
    next
  }
  ends("  FAILED  ") { fail($0); running = ""; next }
  /^\[exit status\] / { status = $3; next }
  /^\[[-= A-Z]+\]/ || /^Note: / || /^$/ { if (running == "") next }
  { text = text $0 "\n" }
  END {
    how = status == 124 || status == 137 ? "ran longer than " limit " s" \
                                         : "exit status " status
    if (running != "") fail("CRASHED: " running " (" how ")")
    left = planned - passed - failed - skipped
    if (planned == "") fail("CRASHED: " name " before its first case (" how ")")
    if (planned == "0" && filter == "") fail(name " has no case")
    if (left > 0) {
      failed += left
      printf "%d cases after it were not run: counted as failed\n", left
    }
    if (status != 0 && failed == 0) {
      fail("CRASHED: " name " after its last case (" how ")")
    }
    printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
    printf "%s\t%d\t%d\t%d\n%s", name, passed, failed, skipped, skips >results
    exit failed > 0 ? 1 : skipped > 0 && passed == 0 ? 77 : 0
  }'
