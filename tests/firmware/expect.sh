#!/usr/bin/env bash
# Runs a command and compares its exit status and output.
#
#   expect.sh STATUS REGEX COMMAND [ARGUMENT...]
#
# Passes when COMMAND exits with STATUS and its output (both streams) has a line
# that matches the extended REGEX ("" matches anything).
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail

want=$1 regex=$2
shift 2
output=$("$@" 2>&1)
got=$?
printf '%s\n' "$output"
if [[ $got -ne $want ]]; then
  echo "expect.sh: exit status $got, expected $want" >&2
  exit 1
fi
if ! grep -Eq -e "$regex" <<<"$output"; then
  echo "expect.sh: no output line matches '$regex'" >&2
  exit 1
fi
