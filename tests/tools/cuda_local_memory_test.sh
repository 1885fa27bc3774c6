#!/usr/bin/env bash
# tools/cuda_local_memory.py on a listing whose loops and calls are known.
#
#   cuda_local_memory_test.sh SCRIPT
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
script=$1

# outer(): saved at its entry and given back at its exit; a loop that calls, and
# in it one that does not. A slow path lies behind the exit and jumps back: no
# loop by itself. inner(): two loops, one inside the other; the outer one has a
# division's slow path, which is no call.
listing() {
  cat <<'SASS'
	.section	.text._Z5outerv,"ax",@progbits
        .type           _Z5outerv,@function
_Z5outerv:
.text._Z5outerv:
        /*0000*/                   STL [R1], R16                         (*"SpillRefill"*);
.L_x_0:
        /*0010*/                   LDL R2, [R1+0x4]                      (*"SpillRefill"*);
        /*0020*/                   STL.64 [R1+0x8], R4 ;
        /*0030*/                   CALL.REL.NOINC `($_Z5outerv$_Z5innerv) ;
.L_x_1:
        /*0040*/                   LDL R3, [R1+0xc]                      (*"SpillRefill"*);
        /*0050*/              @!P1 BRA `(.L_x_3) ;
.L_x_2:
        /*0060*/               @P0 BRA `(.L_x_1) ;
        /*0070*/               @P2 BRA `(.L_x_0) ;
        /*0080*/                   LDL R16, [R1]                         (*"SpillRefill"*);
        /*0090*/                   EXIT ;
.L_x_3:
        /*00a0*/                   FADD R3, R3, R3 ;
        /*00b0*/                   BRA `(.L_x_2) ;
        .type           $_Z5outerv$_Z5innerv,@function
$_Z5outerv$_Z5innerv:
        /*00c0*/                   MOV R1, R1 ;
.L_x_4:
        /*00d0*/                   LDL R2, [R1+0x4] ;
        /*00e0*/                   CALL.REL.NOINC `($__internal_0_$__cuda_sm3x_div) ;
.L_x_5:
        /*00f0*/                   LDL R3, [R2] ;
        /*0100*/                   STL [R2], R3 ;
        /*0110*/               @P0 BRA `(.L_x_5) ;
        /*0120*/               @P1 BRA `(.L_x_4) ;
        /*0130*/                   RET.REL.NODEC R20 `(_Z5outerv) ;
        .type           _Z5plainv,@function
_Z5plainv:
        /*0140*/                   EXIT ;
SASS
}

expected='| function | once a call | between calls | in loops | innermost |
|---|---|---|---|---|
| `inner` | 0 | 0 | 0 + 3 | 0 + 2 |
| `outer` | 2 + 0 | 1 + 1 | 1 + 0 | 1 + 0 |'
got=$(listing | python3 "$script")
if [ "$got" != "$expected" ]; then
  echo "$got"
  exit 1
fi
# An older nvdisasm marks no spills: all are others.
unmarked=$(listing | sed 's/(\*"SpillRefill"\*)//' | python3 "$script")
case $unmarked in
  *'| `outer` | 0 + 2 | 0 + 2 | 0 + 1 | 0 + 1 |'*) ;;
  *)
    echo "$unmarked"
    exit 1
    ;;
esac
echo "loops, calls and spills are told apart"
