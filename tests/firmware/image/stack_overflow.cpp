// Uses more stack than there is: the run must not end with status 0.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "port_example.h"

namespace {

__attribute__((noinline)) uint32_t deeper(uint32_t n) {
  volatile uint32_t frame[64];
  frame[n & 63U] = n;
  const uint32_t below = n == 0 ? 0 : deeper(n - 1);
  return below + frame[n & 63U];
}

}  // namespace

int main() {
  port_print("before\n");
  if (deeper(1000000) != 0) port_print("after\n");
  return 0;
}
