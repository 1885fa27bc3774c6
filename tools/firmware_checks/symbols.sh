#!/usr/bin/env bash
# Refuses archives that use or define heap, exception, RTTI, stdio or
# double-precision symbols, or that need anything else they should not.
#
#   tools/firmware_checks/symbols.sh ARCHIVE...
#
# The archives are judged together: what one defines, another may use. What
# none defines must be on the short list of compiler helpers in allowed().
# Environment: CROSS, the binutils' prefix (arm-none-eabi-).
# Exit status: 0 clean, 1 a forbidden symbol, 2 the check could not run.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

[[ $# -ge 1 ]] || { echo "usage: symbols.sh ARCHIVE..." >&2; exit 2; }
symbols=$("${CROSS:-arm-none-eabi-}nm" --format=posix -- "$@") || exit 2

awk '
# Why a symbol is refused, or "" when nothing speaks against it.
function forbidden(s) {
  if (s ~ /^_*(m|c|re|v|pv)?alloc(_r)?$/ || s ~ /^_*c?free(_r)?$/ ||
      s ~ /^_*malloc/ || s ~ /^(posix_memalign|aligned_alloc|_?memalign)/ ||
      s ~ /^_?sbrk/ || s ~ /^_Zn[wa]/ || s ~ /^_Zd[la]/ || s == "strdup")
    return "heap"
  if (s ~ /^__cxa_/ || s ~ /^_*Unwind/ || s ~ /^__gxx_personality/ ||
      s ~ /^__aeabi_(unwind|atexit)/ || s ~ /^_ZSt/ || s ~ /^_ZNSt/ ||
      s ~ /^_ZNKSt/ || s == "__dso_handle" || s == "__gnu_Unwind_Find_exidx")
    return "exception"
  if (s ~ /^_ZT[ISVT]/ || s ~ /^__dynamic_cast/) return "RTTI"
  if (s ~ /^_*v?(s|f|d|a|sn|as)?n?i?(printf|scanf)(_r|_chk)?$/ ||
      s ~ /^_*(put|get|fput|fget)(s|c|char)(_r)?$/ || s == "puts" ||
      s ~ /^_?(fopen|fclose|fread|fwrite|fflush|fseek|perror)(_r)?$/ ||
      s ~ /^(_impure_ptr|stdin|stdout|stderr|errno|__errno)$/ ||
      s ~ /^_?(open|close|read|write|exit|abort)(_r)?$/)
    return "stdio"
  if (s ~ /^__aeabi_(d|cd|c?dcmp|f2d|h2d|i2d|ui2d|l2d|ul2d)/ ||
      s ~ /^__[a-z]+df[0-9a-z]*$/ || s ~ /^__(extend|trunc)(sf|df)(df|sf)2$/ ||
      s ~ /^(sqrt|fma|exp|log|sin|cos|tanh|pow|fabs|floor|round|ldexp)$/)
    return "double-precision"
  return ""
}

# What gcc may call in freestanding code.
function allowed(s) {
  return s ~ /^mem(cpy|move|set|cmp)$/ ||
         s ~ /^__aeabi_mem(cpy|move|set|clr)[48]?$/ ||
         s ~ /^__aeabi_u?ldivmod$/ || s ~ /^__aeabi_(lmul|ll[sa]r|llsl)$/ ||
         s ~ /^__aeabi_u?idiv(mod)?$/
}

# "archive[member]:" then "name type [value size]".
/\]:$/ || /\.(o|obj):$/ { member = $0; sub(/:$/, "", member); next }
NF < 2 { next }
{
  n_symbols++
  if ($2 == "U" || $2 == "w" || $2 == "v") {
    if (!($1 in user)) user[$1] = member
  } else {
    if ($2 ~ /[A-Z]/) defined_here[$1] = 1
    why = forbidden($1)
    if (why != "") report(member, why, $1, "defined")
  }
}
function report(where, why, symbol, how) {
  printf "%s: %s symbol %s: %s\n", where, why, how, symbol
  bad = 1
}
END {
  if (n_symbols == 0) {
    print "symbols.sh: no symbol in the archives" > "/dev/stderr"
    exit 2
  }
  for (s in user) {
    if (s in defined_here || allowed(s)) {
      if (!(s in defined_here)) list = list " " s
      continue
    }
    why = forbidden(s)
    report(user[s], why == "" ? "unlisted" : why, s, "used")
  }
  if (bad) exit 1
  print "symbols: clean; needs" (list == "" ? " nothing" : list)
}' <<<"$symbols"
