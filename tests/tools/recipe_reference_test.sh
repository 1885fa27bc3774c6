#!/usr/bin/env bash
# The reference of recipes has every key that the reader accepts and no other,
# every named value and the defaults that a run resolves; its recipes are valid.
#
#   recipe_reference_test.sh SOURCE_DIR FEWSTEP
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
source=$1 fewstep=$2
reader=$source/host/src
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export LC_ALL=C
unset FEWSTEP_DATA

# "<table>: <key>" of every key of the reader: recipe.cpp's KeyTable, whose
# entries are {"<table>", {"<key>", ...}}, and the keys of layers.
accepted() {
  awk '/static const KeyTable all = \{/ { inside = 1; next }
       inside && /^  };/ { exit }
       inside' "$reader/recipe.cpp" | tr -d '\n' | sed 's/}},/&\n/g' |
    while read -r entry; do
      mapfile -t strings < <(grep -oE '"(\\.|[^"\\])*"' <<<"$entry" |
        sed 's/^"//; s/"$//; s/\\"/"/g')
      printf '%s\n' "${strings[@]:1}" | sed "s/^/${strings[0]}: /"
    done
  sed -n '/any_key = {/,/};/p' "$reader/recipe_network.cpp" |
    grep -oE '"[a-z]+"' | tr -d '"' | sed 's/^/a layer: /'
}

# Rows of the tables behind "<!-- keys <table> -->": "<table>: <key>|<default>".
rows() {
  awk -F ' *[|] *' '
    /^<!-- keys .* -->$/ { table = substr($0, 11, length($0) - 14); next }
    !/^\|/ { table = "" }
    table != "" && $2 ~ /^`/ {
      gsub("`", "", $2)
      print table ": " $2 "|" $4
    }' "$1"
}

# Names of the values that the reader knows.
values() {
  cat "$reader"/recipe*.cpp | tr -d '\n' |
    grep -oE '\{"[a-z0-9_]+", *[A-Za-z]+::k' | cut -d '"' -f 2 | sort -u
}

# The recipe that follows "<!-- recipe <name> -->".
recipe() {
  awk -v mark="<!-- recipe $2 -->" '
    $0 == mark { found = 1; next }
    found && /^```/ { if (inside) exit; inside = 1; next }
    inside' "$1"
}

# Compares the defaults of the reference with what a recipe resolves to.
#
#   defaults REFERENCE [KEY=VALUE...]: over the recipe "sine"; these keys are
#   not compared. Lists the others in $dir/compared.
defaults() {
  local reference=$1 sets=()
  shift
  for set in "$@"; do sets+=(--set "$set"); done
  recipe "$reference" sine >"$dir/sine.toml"
  rm -rf "$dir/run"
  "$fewstep" train "$dir/sine.toml" --out "$dir/run" --quiet \
    --set outer.iterations=1 "${sets[@]}" >/dev/null
  rows "$reference" | awk -v given="$*" -v compared="$dir/compared" '
    BEGIN {
      n = split(given, all, " ")
      for (i = 1; i <= n; i++) {
        sub("=.*", "", all[i])
        sub("[.]", "]: ", all[i])
        skip["[" all[i]] = 1
      }
      table = "the top level"
    }
    NR == FNR && /^\[/ { table = $0; next }
    NR == FNR && / = / {
      key = $0
      sub(" = .*", "", key)
      sub("^[a-z0-9_]* = ", "")
      resolved[table ": " key] = $0
      next
    }
    NR == FNR { next }
    {
      key = $0
      sub("[|].*", "", key)
      # A value in backticks; what begins with a letter is another key.
      if (!match($0, /[|]`[^`]*`/)) next
      value = substr($0, RSTART + 2, RLENGTH - 3)
      if (value ~ /^[a-z]/ && value !~ /^(true|false)$/) next
      if (!(key in resolved) || key in skip) next
      got = resolved[key]
      number = got ~ /^[-0-9.e]+$/ && value ~ /^[-0-9.e]+$/
      if (number ? got + 0 != value + 0 : got != value) {
        print "default of " key " is " got ", not " value
        bad = 1
      }
      print key >>compared
    }
    END { exit bad }' "$dir/run/recipe.toml" -
}

# check REFERENCE: says what is wrong with it.
check() {
  local bad=0 name
  { diff <(accepted | sort) <(rows "$1" | sed 's/|.*//' | sort -u) || true; } |
    sed -n 's/^</not in the reference:/p; s/^>/no key of the reader:/p' \
      >"$dir/differ"
  [[ ! -s $dir/differ ]] || { cat "$dir/differ" && bad=1; }
  for name in $(values); do
    grep -q "\`\"$name\"\`" "$1" || { echo "no value \"$name\"" && bad=1; }
  done
  defaults "$1" || bad=1
  return "$bad"
}

reference=$source/tools/recipes/README.md
check "$reference"
defaults "$reference" inner.rule=momentum inner.steps=2
defaults "$reference" inner.rule=adam inner.learn_moments=true
defaults "$reference" inner.rate_adaptation=true inner.steps=2 \
  inner.learn_beta=true
defaults "$reference" inner.rule=rate_net
defaults "$reference" inner.adapt=sparse
defaults "$reference" outer.schedule=cosine
n_keys=$(accepted | wc -l)
n_compared=$(sort -u "$dir/compared" | wc -l)

# Without its data a recipe gets as far as looking for them.
for name in sine shapes sensor; do
  recipe "$reference" "$name" >"$dir/$name.toml"
  test -s "$dir/$name.toml"
  [[ $name != sine ]] || continue
  status=0
  "$fewstep" train "$dir/$name.toml" --out "$dir/$name" --quiet \
    2>"$dir/message" || status=$?
  if [[ $status -ne 3 ]] ||
    ! grep -q 'task.path: .*: not found' "$dir/message"; then
    echo "recipe $name: status $status: $(<"$dir/message")"
    exit 1
  fi
done

# What has to be noticed: `sed` EXPRESSION of the reference, REGEX of the message.
canary() {
  sed "$1" "$reference" >"$dir/canary.md"
  if check "$dir/canary.md" >"$dir/message" || ! grep -q "$2" "$dir/message"; then
    echo "sed '$1' went unnoticed:"
    cat "$dir/message"
    exit 1
  fi
}
canary '/^| `multi_step` /d' 'not in the reference: \[outer\]: multi_step'
canary '/^| `betas` .* adam |$/d' 'not in the reference: \[outer\]: betas'
canary '/^| `pad` /d' 'not in the reference: a layer: pad'
canary 's/^| `invert` /| `inverse` /' 'no key of the reader: .*images": inverse'
canary 's/`"tensor_step"`/two/g' 'no value "tensor_step"'
canary 's/^\(| `validate_tasks` .* \)`200`/\1`201`/' 'default of .*validate_tasks'
echo "$n_keys keys, $n_compared of their defaults compared"
