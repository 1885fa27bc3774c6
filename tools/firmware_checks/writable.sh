#!/usr/bin/env bash
# Refuses archives with state of their own: .data, .bss, common symbols, static
# constructors. A library without any is reentrant and needs no start-up code.
#
#   tools/firmware_checks/writable.sh ARCHIVE...
#
# Environment: CROSS, the binutils' prefix (arm-none-eabi-).
# Exit status: 0 clean, 1 something writable, 2 the check could not run.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

[[ $# -ge 1 ]] || { echo "usage: writable.sh ARCHIVE..." >&2; exit 2; }
cross=${CROSS:-arm-none-eabi-}
sections=$("${cross}objdump" -h -w -- "$@") || exit 2
commons=$("${cross}nm" --format=posix -- "$@") || exit 2

awk '
/file format/ { member = $1; sub(/:$/, "", member); next }
# Index, name, size (hexadecimal), ..., flags.
$1 ~ /^[0-9]+$/ && / ALLOC/ {
  n_sections++
  if ($3 ~ /^0+$/ || / READONLY/) next
  printf "%s: writable section %s of 0x%s bytes\n", member, $2, $3
  bad = 1
}
/\]:$/ { member = $0; sub(/:$/, "", member); next }
$2 == "C" {
  printf "%s: common symbol %s\n", member, $1
  bad = 1
}
END {
  if (n_sections == 0) {
    print "writable.sh: no section in the archives" > "/dev/stderr"
    exit 2
  }
  if (bad) exit 1
  print "writable: .data and .bss are empty in all members"
}' <<<"$sections
$commons"
