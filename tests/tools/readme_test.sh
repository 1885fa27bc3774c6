#!/usr/bin/env bash
# The README's recipe trains, and its firmware program compiles against the
# exported header, runs, and predicts a sine it was never trained on.
#
#   readme_test.sh README.md FEWSTEP CXX INCLUDE_DIRS(;) ARCHIVES(;)
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
readme=$1 fewstep=$2 cxx=$3
IFS=';' read -ra includes <<<"$4"
IFS=';' read -ra archives <<<"$5"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# The fenced block that follows the line "<!-- NAME -->".
block() {
  awk -v mark="<!-- $1 -->" '
    $0 == mark { found = 1; next }
    found && /^```/ { if (inside) exit; inside = 1; next }
    inside' "$readme"
}
block recipe >"$dir/sine.toml"
block program >"$dir/program.cpp"
test -s "$dir/sine.toml" && test -s "$dir/program.cpp"

"$fewstep" train "$dir/sine.toml" --out "$dir/run" --quiet \
  --set outer.iterations=4000
"$fewstep" export "$dir/run/sine.capsule" -o "$dir/sine.h"
"$cxx" -std=c++17 -O2 -Wall -Wextra -Werror "${includes[@]/#/-I}" -I"$dir" \
  "$dir/program.cpp" "${archives[@]}" -o "$dir/program"
"$dir/program" | tee "$dir/out"

# The mean error of the four predictions of 2 sin(x - 1) is below 0.5; a network
# that was not adapted is off by more.
awk '/^f\(/ { split($0, part, /[()= ]+/); x = part[2]; y = part[3]
              e = y - 2 * sin(x - 1); sum += e < 0 ? -e : e; n++ }
     END { print "mean error", sum / n; exit !(n == 4 && sum / n < 0.5) }' \
  "$dir/out"
