#!/usr/bin/env bash
# run_cases.sh counts what passed, failed and was skipped, and takes no case
# for passed that did not end.
#
#   run_cases_test.sh RUN_CASES CANARY
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

run_cases=$1 canary=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset CANARY_LATE_EXIT

fail() {
  echo "run_cases_test.sh: $*" >&2
  sed 's/^/  | /' "$work/output" >&2
  exit 1
}
# run FILTER EXIT COUNTS: cases (none: all), run_cases.sh's status, and its last
# line.
run() {
  local status=0
  local -a filter=(-u GTEST_FILTER)
  if [[ -n $1 ]]; then filter=("GTEST_FILTER=$1"); fi
  env "${filter[@]}" FEWSTEP_CASES="$work" "$run_cases" a/b "${shard:-0}" \
    "${n_shards:-1}" "$canary" >"$work/output" 2>&1 || status=$?
  [[ $status -eq $2 ]] || fail "$1: exit $status, not $2"
  [[ $(tail -n 1 "$work/output") == "$3" ]] || fail "$1: not '$3'"
  local row="a/b,${3//[^0-9,]/}"
  [[ $(head -n 1 "$work/a--b") == "${row//,/$'\t'}" ]] ||
    fail "$1: the file says $(head -n 1 "$work/a--b")"
}
says() { [[ $(<"$work/output") == *"$1"* ]] || fail "does not say '$1'"; }
says_not() { [[ $(<"$work/output") != *"$1"* ]] || fail "says '$1'"; }

run 'Canary.A*:Canary.B*:Canary.G*' 0 "3 passed, 0 failed, 0 skipped"
says_not "of one that passed"
run 'Canary.A*:Canary.C*:Canary.G*' 1 "2 passed, 1 failed, 0 skipped"
says "of one that failed"
says "Canary.CFails"
says_not "of one that passed"
run 'Canary.A*:Canary.D*' 0 "1 passed, 0 failed, 1 skipped"
says "skipped: Canary.DSkips (its reason)"
[[ $(tail -n 1 "$work/a--b") == $'\tCanary.DSkips\tits reason' ]] ||
  fail "the file does not say why"
run 'Canary.D*' 77 "0 passed, 0 failed, 1 skipped"
run 'Canary.A*:Canary.E*:Canary.G*:Canary.H*' 1 "1 passed, 3 failed, 0 skipped"
says "CRASHED: Canary.ECrashes (exit status 134)"
says "2 cases after it were not run"
# A process that ends well, but too early.
run 'Canary.F*:Canary.G*' 1 "0 passed, 2 failed, 0 skipped"
says "CRASHED: Canary.FExits (exit status 0)"
FEWSTEP_SHARD_SECONDS=1 run 'Canary.H*:Canary.I*' 1 \
  "1 passed, 1 failed, 0 skipped"
says "CRASHED: Canary.IHangs (ran longer than 1 s)"
CANARY_LATE_EXIT=1 run 'Canary.A*' 1 "1 passed, 1 failed, 0 skipped"
says "CRASHED: a/b after its last case (exit status 23)"
run 'Canary.NoSuch' 0 "0 passed, 0 failed, 0 skipped"

# Shards: every case once.
n_shards=3
shard=0 run 'Canary/Rows.*' 1 "2 passed, 1 failed, 0 skipped"
says "FailAtThree/3, where GetParam() = 3"
shard=1 run 'Canary/Rows.*' 0 "2 passed, 0 failed, 0 skipped"
shard=2 run 'Canary/Rows.*' 0 "2 passed, 0 failed, 0 skipped"
n_shards=1000
shard=999 run '' 1 "0 passed, 1 failed, 0 skipped"
says "a/b has no case"
n_shards=1

canary=/nonexistent/program
run '*' 1 "0 passed, 1 failed, 0 skipped"
says "CRASHED: a/b before its first case (exit status 127)"
echo "run_cases.sh: counts and names are right"
