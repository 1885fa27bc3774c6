#!/usr/bin/env bash
# Prints code size per archive member, of a linked image, or of what an image
# took from the library, and refuses more than a limit.
#
#   tools/firmware_checks/size.sh [--limit BYTES] FILE...
#   tools/firmware_checks/size.sh [--limit BYTES] [--only REGEX] --map MAP
#
# Code is text plus read-only data plus what initializes .data. The limit is for
# the sum over all files. MAP is what `-Wl,-Map=` wrote: counted are the sections
# that the image kept of libfewstep_*.a, and what it took from libc and libgcc is
# printed beside.
#
#   --only REGEX  count members whose name matches, e.g. '^(dense|relu)\.'
#
# Environment: CROSS, the binutils' prefix (arm-none-eabi-).
# Exit status: 0 within the limit, 1 above it, 2 the check could not run.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

usage() {
  echo "usage: size.sh [--limit BYTES] FILE... | [--only REGEX] --map MAP" >&2
  exit 2
}
limit=-1
only=.
map=
while [[ ${1:-} == --* ]]; do
  [[ $# -ge 2 ]] || usage
  case $1 in
    --limit) limit=$2 ;;
    --only) only=$2 ;;
    --map) map=$2 ;;
    *) usage ;;
  esac
  shift 2
done
[[ $limit =~ ^(-1|[0-9]+)$ ]] || usage

# code, data, bss, name of each file or member, one a line.
if [[ -n $map ]]; then
  [[ $# -eq 0 ]] || usage
  [[ -r $map ]] || { echo "size.sh: cannot read $map" >&2; exit 2; }
  sizes=$(awk -v only="$only" '
    function number(hex,    i, n) {
      hex = tolower(hex)
      for (i = 3; i <= length(hex); ++i)
        n = 16 * n + index("0123456789abcdef", substr(hex, i, 1)) - 1
      return n
    }
    /^Linker script and memory map/ { in_map = 1 }
    !in_map { next }
    # A long name stands on a line of its own.
    NF == 1 && /^ \.[^ ]+$/ { section = $1; next }
    /^ \./ { section = $1; sub(/^ \.[^ ]+/, "") ; }
    $1 ~ /^0x/ && $2 ~ /^0x/ && $3 ~ /\.a\([^()]*\)$/ {
      if (section !~ /^\.(text|rodata|data|init_array|fini_array)/) next
      member = $3; sub(/^.*\(/, "", member); sub(/\)$/, "", member)
      archive = $3; sub(/\([^()]*\)$/, "", archive); sub(/^.*\//, "", archive)
      if (archive !~ /^libfewstep_/) runtime[archive] += number($2)
      else if (member ~ only) code[member " (ex " archive ")"] += number($2)
      section = ""
    }
    END {
      for (m in code) if (code[m] > 0) print code[m], 0, 0, m
      for (a in runtime) print "+", runtime[a], a
    }' "$map" | LC_ALL=C sort -rn)
else
  [[ $# -ge 1 && $only == . ]] || usage
  sizes=$("${CROSS:-arm-none-eabi-}size" -B -- "$@") || exit 2
  sizes=$(awk 'NR > 1 {
    name = $6
    for (i = 7; i <= NF; ++i) name = name " " $i
    gsub(/[^ ()]*\//, "", name)  # "member (ex folder/archive)"
    print $1 + $2, $2, $3, name
  }' <<<"$sizes")
fi
[[ -n $sizes ]] || { echo "size.sh: nothing to count" >&2; exit 2; }

awk -v limit="$limit" '
BEGIN { printf "%8s %8s %8s  %s\n", "code", "data", "bss", "file" }
$1 == "+" { beside = beside sprintf("%8d %17s  %s, not counted\n", $2, "", $3)
            next }
{
  name = $4
  for (i = 5; i <= NF; ++i) name = name " " $i
  printf "%8d %8d %8d  %s\n", $1, $2, $3, name
  code += $1
  ++n
}
END {
  if (n == 0) {
    print "size.sh: nothing to count" > "/dev/stderr"
    exit 2
  }
  printf "%8d %17s  %s", code, "", "total"
  printf limit < 0 ? "\n" : " (limit " limit ")\n"
  printf "%s", beside
  if (limit >= 0 && code > limit) {
    print "size: code is " code " bytes, " code - limit " over the limit"
    exit 1
  }
}' <<<"$sizes"
