#!/usr/bin/env bash
# The results table: has a row for each method, does nothing twice, and says
# which run failed.
#
#   results_test.sh FEWSTEP SOURCE_DIR PYTHON
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
fewstep=$1 source=$2 python=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

table() {
  "$python" "$source/tools/results/results.py" --fewstep "$fewstep" \
    --out runs --benchmarks 5s --only reptile --tasks 20 --jobs 2 "$@"
}
table --iterations 3 --seeds 1 2 >table.md 2>progress
grep -q '^| reptile | 5 | [0-9.]* +- [0-9.]* (2) | [0-9.]* | [0-9,]* | 14,420 | 125,000 |$' \
  table.md || { cat table.md; exit 1; }

# Again: nothing is trained, and the table is the same.
touch mark
table --iterations 3 --seeds 1 2 >again.md 2>/dev/null
cmp table.md again.md
[ -z "$(find runs -newer mark -type f)" ] || { echo "trained twice"; exit 1; }
# Other settings are other runs, which --table does not start.
table --iterations 4 --seeds 1 --table >other.md
if grep -q reptile other.md; then
  echo "a run of 3 iterations counted as one of 4"
  exit 1
fi

# A run that fails is named, with what fewstep says.
if "$python" "$source/tools/results/results.py" --fewstep "$fewstep" \
  --out /dev/null/runs --benchmarks 5s 2>/dev/null; then
  echo "wrote below /dev/null"
  exit 1
fi
if FEWSTEP_DATA=/nowhere "$python" "$source/tools/results/results.py" \
  --fewstep "$(command -v false)" --out runs --benchmarks 5s --only reptile \
  --seeds 3 2>message; then
  echo "a failed run went unnoticed"
  exit 1
fi
grep -q 'failed:' message && grep -q '5s reptile K=5 seed 3' message
echo "the table has its rows, nothing is done twice, failures are named"
