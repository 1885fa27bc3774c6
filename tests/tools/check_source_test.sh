#!/usr/bin/env bash
# tools/check_source.sh passes a clean tree and refuses each planted fault.
#
#   check_source_test.sh CHECK_SOURCE
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

check=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$(dirname "$0")/../../.clang-format" "$work/.clang-format"
mkdir -p "$work/lib"
head='// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <stdint.h>
'
good="$head// \"new\" and malloc() may be named.
int f() { return 1; }"

# expect STATUS REGEX: on what is in $work
expect() {
  local status=0 output
  output=$("$check" "$work" 2>&1) || status=$?
  if [[ $status -ne $1 ]] || ! grep -Eq -e "$2" <<<"$output"; then
    echo "expected status $1 and /$2/, got $status:" >&2
    echo "$output" >&2
    exit 1
  fi
}
plant() { printf '%s\n' "$1" >"$work/lib/a.cpp"; }

plant "$good"
echo '[a](lib/a.cpp) [b](https://example.com) [c](#here)' >"$work/README.md"
expect 0 '^ok clang-format 14$'

plant "$head int f( ) { return 1; }"
expect 1 'lib/a.cpp: run clang-format'
plant 'int f() { return 1; }'
expect 1 'lib/a.cpp: no SPDX lines'
for code in '#include <vector>' 'int* f() { return new int; }' \
  'void f() { throw 1; }' 'void f() { printf("x"); }'; do
  plant "$head$code"
  expect 1 'FAILED no heap'
done
plant "$good"
echo '[a](lib/nowhere.cpp)' >>"$work/README.md"
expect 1 './README.md: no lib/nowhere.cpp'
echo "check_source: every planted fault was found"
