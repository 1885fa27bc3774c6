// Refused by writable.sh: state.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
int canary_bss() {
  static int calls;
  return ++calls;
}
