// Refused by callgraph.sh: two functions that call each other.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
int fewstep_canary_even(unsigned n);
__attribute__((noinline)) int fewstep_canary_odd(unsigned n) {
  return n == 0 ? 0 : fewstep_canary_even(n - 1) + 1;
}
__attribute__((noinline)) int fewstep_canary_even(unsigned n) {
  return n == 0 ? 1 : fewstep_canary_odd(n - 1) + 1;
}
