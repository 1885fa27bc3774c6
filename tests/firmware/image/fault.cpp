// Reads an address where nothing is: the port must say so and exit non-zero.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "port_example.h"

int main() {
  port_print("before\n");
  // Beyond the RAM of the board.
  volatile uint32_t* nowhere = reinterpret_cast<uint32_t*>(0x30000000U);
  static_cast<void>(*nowhere);
  port_print("after\n");
  return 0;
}
