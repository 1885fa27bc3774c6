#!/usr/bin/env bash
# Refuses recursion and unbounded frames, and prints the worst-case stack of
# every public function.
#
#   tools/firmware_checks/callgraph.sh [--entry REGEX] [--limit BYTES]
#                                      [--linked] --elf ELF ARCHIVE...
#
# The archives must have been built by CMake with -fcallgraph-info=su (frames
# and calls, one .ci file an object) and -ffunction-sections. Edges are those of
# the .ci files and those of the machine code's relocations. A call through a
# pointer may reach every function whose address the archives take: their
# operation tables. ELF links the archives whole; the frames of what they need
# from libc and libgcc are read from its disassembly (all pushes summed).
#
#   --entry REGEX  demangled names to print; at least one must match (the C
#                  functions, and in namespace fewstep Session's members and
#                  the free functions)
#   --limit BYTES  refuse an entry point that needs more
#   --linked       ELF is a program: count only what it links, so that a call
#                  through a pointer reaches its operations and no others
#
# Exit status: 0 bounded, 1 a cycle, an unbounded frame or a limit exceeded,
# 2 the check could not run. Environment: CROSS, as the other checks.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

usage() {
  echo "usage: callgraph.sh [--entry REGEX] [--limit BYTES] [--linked]" \
    "--elf ELF ARCHIVE..." >&2
  exit 2
}
die() { echo "callgraph.sh: $*" >&2; exit 2; }

cross=${CROSS:-arm-none-eabi-}
entry='^fewstep(_[a-z0-9_]+$|::(Session::)?[a-z0-9_]+\()'
limit=-1
linked=0
elf=
while [[ ${1:-} == --* ]]; do
  if [[ $1 == --linked ]]; then
    linked=1
    shift
    continue
  fi
  [[ $# -ge 2 ]] || usage
  case $1 in
    --entry) entry=$2 ;;
    --limit) limit=$2 ;;
    --elf) elf=$2 ;;
    *) usage ;;
  esac
  shift 2
done
[[ $# -ge 1 && -n $elf && $limit =~ ^-?[0-9]+$ ]] || usage
[[ -r $elf ]] || die "cannot read $elf"

# The objects an archive was made of, which lie beside their .ci files.
objects=()
for archive in "$@"; do
  [[ -r $archive ]] || die "cannot read $archive"
  target=$(basename "$archive" .a)
  folder=$(dirname "$archive")/CMakeFiles/${target#lib}.dir
  [[ -d $folder ]] || die "no $folder: not built by CMake?"
  mapfile -t found < <(find "$folder" -name '*.obj' -o -name '*.o' | sort)
  if [[ $(printf '%s\n' "${found[@]##*/}" | sort) != \
    "$("${cross}ar" t "$archive" | sort)" ]]; then
    die "$folder and $archive hold different objects: build again from scratch"
  fi
  objects+=("${found[@]}")
done

# One record a line, made from every object:
#   O object | F section value bind name | R section type symbol |
#   B section name (bl or b to a symbol) | P section (call through a pointer)
facts() {
  local object ci
  for object in "${objects[@]}"; do
    ci=${object%.*}.ci
    [[ -r $ci ]] || die "no $ci: compile with -fcallgraph-info=su"
    echo "O $object"
    "${cross}objdump" -t "$object" | awk '
      / F / {
        # value flags section <tab> size [visibility] name
        bind = substr($0, 10, 1) == "l" ? "l" : "g"
        if (split($0, half, "\t") != 2) exit 2
        n = split(half[1], left, " ")
        m = split(half[2], right, " ")
        print "F", left[n], left[1], bind, right[m]
      }'
    "${cross}objdump" -r "$object" | awk '
      /^RELOCATION RECORDS FOR/ {
        section = substr($4, 2, length($4) - 3)  # "[name]:"
        next
      }
      $2 ~ /^R_ARM_/ && section !~ /^\.(debug|ARM\.|stack_sizes)/ {
        sub(/[+-]0x[0-9a-f]+$/, "", $3)
        print "R", section, $2, $3
      }'
    "${cross}objdump" -dr --no-show-raw-insn "$object" | awk '
      # A call within its section has no relocation; one with a relocation
      # shows a target that means nothing yet.
      function flush() { if (local != "") print local; local = "" }
      /^Disassembly of section/ { section = $4; sub(/:$/, "", section); next }
      / R_ARM_/ { local = ""; next }
      { flush() }
      # bx lr, pop {pc} and ldr pc, [sp] return; these call or jump anywhere.
      $2 ~ /^blx/ && $3 !~ /^[0-9a-f]+$/ { print "P", section; next }
      $2 ~ /^bx/ && $3 != "lr" { print "P", section; next }
      ($2 ~ /^mov/ && $3 == "pc,") ||
      ($2 ~ /^ldr/ && $3 == "pc," && $0 !~ /\[sp\]/) { print "P", section }
      $2 == "bl" && $NF ~ /^<[^+]*>$/ {
        local = "B " section " " substr($NF, 2, length($NF) - 2)
      }
      END { flush() }'
    awk '
      function text(line, key) {
        if (!match(line, key ": \"[^\"]*\"")) return ""
        return substr(line, RSTART + length(key) + 3,
                      RLENGTH - length(key) - 4)
      }
      # A local function is named "file:symbol".
      function symbol(title) { sub(/^.*:/, "", title); return title }
      /^node:/ && /bytes \(/ {
        label = text($0, "label")
        match(label, /[0-9]+ bytes \([a-z,]*\)/)
        split(substr(label, RSTART, RLENGTH), part, " ")
        print "N", symbol(text($0, "title")), part[1], part[3]
      }
      /^edge:/ {
        print "E", symbol(text($0, "sourcename")),
              symbol(text($0, "targetname"))
      }' "$ci"
  done
  "${cross}objdump" -d --no-show-raw-insn "$elf" | awk '
    /^[0-9a-f]+ <.*>:$/ { name = substr($2, 2, length($2) - 3); print "X", name
                          next }
    function registers(list, n, i, part, edge, count) {
      sub(/^.*\{/, "", list); sub(/\}.*$/, "", list)
      n = split(list, part, ",")
      for (i = 1; i <= n; ++i) {
        if (split(part[i], edge, "-") == 2) {
          gsub(/[^0-9]/, "", edge[1]); gsub(/[^0-9]/, "", edge[2])
          count += edge[2] - edge[1] + 1
        } else ++count
      }
      return count
    }
    $2 ~ /^(push|stmdb)/ && /push|sp!/ { print "XS", name, 4 * registers($0) }
    $2 ~ /^vpush/ { print "XS", name, (/\{d/ ? 8 : 4) * registers($0) }
    $2 ~ /^subw?(\.w)?$/ && $3 == "sp," {
      if (!match($0, /#[0-9]+/)) print "XD", name
      else print "XS", name, substr($0, RSTART + 1, RLENGTH - 1)
    }
    /\[sp, #-[0-9]+\]!/ {
      match($0, /#-[0-9]+\]/); print "XS", name, substr($0, RSTART + 2,
                                                         RLENGTH - 3)
    }
    $2 ~ /^b/ && $NF ~ /^<[^+]*>$/ {
      print "XE", name, substr($NF, 2, length($NF) - 2)
    }'
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Local symbols may share a name: keep the object's number with them.
facts | awk '
  $1 == "O" { ++object; next }
  { print $1, object + 0, $0 }
' | awk '
  { kind = $1; object = $2; $1 = $2 = $3 = ""; sub(/^ +/, "")
    split($0, f, " ") }

  # Same place, several names (constructors C1 and C2): one node, the first
  # global name or else object:name.
  function key(o, name) {
    if ((o, name) in place) return node[place[o, name]]
    return name in global ? global[name] : name
  }
  kind == "F" && f[1] != "*UND*" {
    where = o_place(object, f[1], f[2])
    place[object, f[4]] = where
    id = f[3] == "g" ? f[4] : object ":" f[4]
    if (!(where in node)) node[where] = id in global ? global[id] : id
    if (f[3] == "g" && !(f[4] in global)) global[f[4]] = node[where]
    if (f[3] == "g") is_global[node[where]] = 1
    section[object, f[1]] = node[where]
    next
  }
  function o_place(o, s, v) { return o SUBSEP s SUBSEP v }
  { n_facts++; fk[n_facts] = kind; fo[n_facts] = object; f1[n_facts] = f[1]
    f2[n_facts] = f[2]; f3[n_facts] = f[3] }
  END {
    for (i = 1; i <= n_facts; ++i) {
      k = fk[i]; o = fo[i]
      if (k == "N") {
        print "N", key(o, f1[i]), f2[i], f3[i]
      } else if (k == "E") {
        print "E", key(o, f1[i]),
              f2[i] == "__indirect_call" ? "(pointer)" : key(o, f2[i])
      } else if (k == "B" && (o, f1[i]) in section) {
        print "E", section[o, f1[i]], key(o, f2[i])
      } else if (k == "P" && (o, f1[i]) in section) {
        print "E", section[o, f1[i]], "(pointer)"
      } else if (k == "R") {
        if (f2[i] ~ /CALL|JUMP|PC24|PLT/) {
          if ((o, f1[i]) in section)
            print "E", section[o, f1[i]], key(o, f3[i])
        } else if ((o, f3[i]) in place || f3[i] in global) {
          print "A", key(o, f3[i])
        } else if ((o, f3[i]) in section) {
          print "A", section[o, f3[i]]
        }
      } else if (k ~ /^X/) {
        print k, f1[i], f2[i]
      }
    }
    for (n in is_global) print "G", n
  }' | sort -u >"$work/facts"

# What to print for a node: "node <tab> demangled name".
awk '$1 == "G" || $1 == "N" { print $2 }' "$work/facts" | sort -u \
  >"$work/nodes"
sed -e 's/^[0-9]*://' -e 's/\.\(constprop\|isra\|part\|cold\).*//' \
  "$work/nodes" | "${cross}c++filt" | paste "$work/nodes" - >"$work/names"

awk -v entry="$entry" -v limit="$limit" -v linked="$linked" -F'\t' '
  FILENAME ~ /names$/ { shown[$1] = $2; next }
  { split($0, f, " ") }
  f[1] == "N" {
    known[f[2]] = 1
    if (f[3] + 0 > frame[f[2]] + 0) frame[f[2]] = f[3] + 0
    if (f[4] != "(static)") unbounded[f[2]] = f[4]
  }
  f[1] == "G" { public[f[2]] = 1 }
  f[1] == "E" { edge(f[2], f[3]); if (f[3] == "(pointer)") n_pointer++ }
  f[1] == "A" { edge("(pointer)", f[2]); n_taken++ }
  f[1] == "X" { external[f[2]] = 1 }
  f[1] == "XS" { x_frame[f[2]] += f[3] }
  f[1] == "XD" { x_unbounded[f[2]] = 1 }
  f[1] == "XE" { x_edges[f[2]] = x_edges[f[2]] " " f[3] }
  function edge(from, to) { edges[from] = edges[from] " " to }
  function name(n) { return n in shown ? shown[n] : n }
  # Whether the program holds function `n` (a local one is "object:symbol").
  function in_program(n) {
    sub(/^[0-9]+:/, "", n)
    return !linked || n == "(pointer)" || n in external
  }

  # Bytes below the caller of `n`, its own frame included.
  function depth(n,    to, i, count, deepest, d) {
    if (!in_program(n)) return 0
    if (state[n] == 2) return memo[n]
    if (state[n] == 1) { cycle(n); return 0 }
    state[n] = 1
    path[++level] = n
    if (n in unbounded) fail("unbounded frame " unbounded[n] ": " name(n))
    if (!(n in known) && n != "(pointer)") {
      if (!(n in external)) {
        fail("no frame size known of " name(n) ", called by " \
             name(path[level - 1]))
      } else {
        used[n] = 1
        frame[n] = x_frame[n] + 0
        edges[n] = x_edges[n]
        if (n in x_unbounded) fail("unbounded frame: " n)
      }
    }
    count = split(edges[n], to, " ")
    for (i = 1; i <= count; ++i) {
      # A branch to its own start is a loop in assembly, a call is not.
      if (to[i] == n && (n in used)) continue
      d = depth(to[i])
      if (d > deepest + 0) deepest = d
    }
    --level
    state[n] = 2
    return memo[n] = frame[n] + deepest
  }
  function cycle(n,    i, text) {
    for (i = level; path[i] != n; --i) continue
    for (; i <= level; ++i) text = text name(path[i]) " -> "
    fail("recursion: " text name(n))
  }
  function fail(text) { print text; bad = 1 }

  END {
    if (n_pointer > 0 && n_taken == 0) {
      print "callgraph.sh: calls through pointers, but no table of functions" \
        > "/dev/stderr"
      exit 2
    }
    for (n in known) depth(n)
    for (n in public) {
      if (!(n in known) || !in_program(n) || name(n) !~ entry) continue
      n_entries++
      printf "%6d  %s\n", memo[n], name(n) | "sort -rn"
      if (memo[n] > worst) worst = memo[n]
    }
    close("sort -rn")
    if (n_entries == 0 && !bad) {
      print "callgraph.sh: no function matches " entry > "/dev/stderr"
      exit 2
    }
    for (n in used) list = list " " n "(" frame[n] ")"
    if (limit >= 0 && worst > limit)
      fail("stack: " worst " bytes is over the limit of " limit)
    if (bad) exit 1
    print "callgraph: no recursion; deepest stack " worst + 0 " bytes over " \
          n_entries " functions" (list == "" ? "" : "; frames read from code:" \
          list)
  }' "$work/names" "$work/facts"
