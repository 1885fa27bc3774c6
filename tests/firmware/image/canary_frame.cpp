// Refused by callgraph.sh: a frame whose size the arguments decide.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
int fewstep_canary_frame(unsigned n) {
  volatile char* buffer = static_cast<volatile char*>(__builtin_alloca(n));
  buffer[0] = 1;
  return buffer[n - 1];
}
