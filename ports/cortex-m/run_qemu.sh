#!/usr/bin/env bash
# Runs a firmware image on an emulated Cortex-M and exits with its status.
#
#   ports/cortex-m/run_qemu.sh ELF [ARGUMENT...]
#
# ARGUMENTs reach the image as its semihosting command line. Environment:
#   FEWSTEP_QEMU_MACHINE  QEMU machine (mps2-an386: Cortex-M4F)
#   FEWSTEP_QEMU_TIMEOUT  seconds until the run is ended with status 124 (120)
#
# The console comes out on standard output, as do messages of QEMU itself.
# One instruction takes one emulated nanosecond (-icount shift=0), so counts
# are the same in every run. 125: QEMU is missing.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail

if [[ $# -lt 1 || ! -r $1 ]]; then
  echo "usage: run_qemu.sh ELF [ARGUMENT...]${1:+ (cannot read $1)}" >&2
  exit 2
fi
if ! command -v qemu-system-arm >/dev/null; then
  echo "run_qemu.sh: qemu-system-arm is missing: apt-get install" \
    "qemu-system-arm" >&2
  exit 125
fi

elf=$1
config=enable=on,target=native
for argument in "$@"; do
  config+=",arg=${argument//,/,,}"  # QEMU's options escape a comma as two.
done

exec timeout --foreground "${FEWSTEP_QEMU_TIMEOUT:-120}" \
  qemu-system-arm -M "${FEWSTEP_QEMU_MACHINE:-mps2-an386}" -nographic \
  -monitor none -serial none -semihosting-config "$config" \
  -icount shift=0 -kernel "$elf" </dev/null 2>&1
