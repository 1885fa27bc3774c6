// The instruction counter counts a loop of known length, also across a wrap of
// the 24-bit timer behind it.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "port_example.h"

namespace {

/// Executes exactly 2 n instructions and a constant few.
__attribute__((noinline)) void spin(uint32_t n) {
  __asm__ volatile("1: subs %0, #1\n\tbne 1b" : "+r"(n)::"cc");
}

uint64_t count(uint32_t n) {
  const uint64_t start = port_counter();
  spin(n);
  return port_counter() - start;
}

/// Ticks are 40 instructions, and two readings and a wrap cost some.
bool near(uint64_t counted, uint64_t expected) {
  return counted + 80 >= expected && counted <= expected + 160;
}

}  // namespace

int main() {
  if (!near(count(50000), 100000)) port_exit(1);
  if (count(50000) != count(50000)) {
    if (!near(count(50000), 100000)) port_exit(2);
  }
  // 2^24 ticks are 671 million instructions.
  if (!near(count(400000000), 800000000)) port_exit(3);
  port_print("counted\n");
  return 0;
}
