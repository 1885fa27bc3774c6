#!/usr/bin/env bash
# Checks of the source text, one line each: "ok <check>" or "FAILED <check>"
# with what is wrong. Exits with 1 when any fails.
#
#   tools/check_source.sh [FOLDER]      FOLDER: the repository by default
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

# files NAME-PATTERN...: of the repository's folders, sorted.
files() {
  local patterns=(-name "$1")
  shift
  for pattern in "$@"; do patterns+=(-o -name "$pattern"); done
  find lib device host ports tools tests .ci -type f \( "${patterns[@]}" \) \
    2>/dev/null | LC_ALL=C sort
}

failed=0
# report CHECK PROBLEMS: PROBLEMS is empty when all is well.
report() {
  if [[ -z $2 ]]; then
    echo "ok $1"
  else
    echo "FAILED $1"
    sed 's/^/    /' <<<"$2"
    failed=1
  fi
}

format() {
  files '*.h' '*.c' '*.cpp' '*.cu' |
    xargs clang-format-14 --dry-run -Werror 2>&1 |
    sed -n 's|^\([^:]*\):[0-9]*:[0-9]*: error.*|\1: run clang-format-14 -i|p' |
    sort -u
}

license() {
  local file
  for file in $(files '*.h' '*.c' '*.cpp' '*.cu' '*.S.in' '*.ld' '*.sh' \
    '*.toml' 'run'); do
    head -n 60 "$file" | grep -q 'SPDX-FileCopyrightText: ' &&
      head -n 60 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' ||
      echo "$file: no SPDX lines in its head comment"
  done
}

# Relative links of Markdown files lead somewhere.
links() {
  local file target
  { ls ./*.md; files '*.md'; } 2>/dev/null | while read -r file; do
    { grep -o '](\([^)#]*\)' "$file" || true; } | sed 's/^](//' |
      while read -r target; do
        case "$target" in "" | http://* | https://* | mailto:*) continue ;; esac
        [[ -e $(dirname "$file")/$target ]] || echo "$file: no $target"
      done
  done
}

# lib/ and device/ are firmware: C headers only, no heap, stdio, exceptions.
firmware() {
  local file
  for file in $(files '*.h' '*.cpp' | grep -E '^(lib|device)/'); do
    { grep -nE '^ *# *include <' "$file" || true; } |
      { grep -vE '<(stdint|stddef|string|float)\.h>' || true; } |
      sed "s|^|$file:|; s|\$|: only C headers without a library here|"
    # Without comments and string literals.
    sed -E 's|"([^"\\]\|\\.)*"||g; s|//.*||' "$file" |
      sed 's|/\*.*\*/||g; /\/\*/,/\*\//d' |
      { grep -nwE 'malloc|calloc|realloc|free|printf|fprintf|snprintf|new|delete|throw|try|catch|typeid|dynamic_cast' ||
        true; } |
      { grep -vE '= delete' || true; } | sed "s|^|$file:|"
  done
}

report "clang-format 14" "$(format)"
report "SPDX lines" "$(license)"
report "links in Markdown" "$(links)"
report "no heap, stdio or exceptions in lib/ and device/" "$(firmware)"
exit "$failed"
