#!/usr/bin/env bash
# Prints code size per archive member, or of a linked image, and refuses more
# than a limit.
#
#   tools/firmware_checks/size.sh [--limit BYTES] FILE...
#
# Code is text plus read-only data plus what initializes .data. The limit is for
# the sum over all files.
# Environment: CROSS, the binutils' prefix (arm-none-eabi-).
# Exit status: 0 within the limit, 1 above it, 2 the check could not run.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

limit=-1
if [[ ${1:-} == --limit ]]; then
  limit=${2:-}
  shift 2 || true
  [[ $limit =~ ^[0-9]+$ ]] || { echo "size.sh: --limit BYTES" >&2; exit 2; }
fi
[[ $# -ge 1 ]] || { echo "usage: size.sh [--limit BYTES] FILE..." >&2; exit 2; }
sizes=$("${CROSS:-arm-none-eabi-}size" -B -- "$@") || exit 2

awk -v limit="$limit" '
NR == 1 { printf "%8s %8s %8s  %s\n", "code", "data", "bss", "file"; next }
{
  name = $6
  for (i = 7; i <= NF; ++i) name = name " " $i
  # "member (ex folder/archive)"
  gsub(/[^ ()]*\//, "", name)
  printf "%8d %8d %8d  %s\n", $1 + $2, $2, $3, name
  code += $1 + $2
}
END {
  if (NR < 2) exit 2
  printf "%8d %17s  %s", code, "", "total"
  printf limit < 0 ? "\n" : " (limit " limit ")\n"
  if (limit >= 0 && code > limit) {
    print "size: code is " code " bytes, " code - limit " over the limit"
    exit 1
  }
}' <<<"$sizes"
