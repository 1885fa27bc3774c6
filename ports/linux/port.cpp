// port_example.h for a Linux process: standard output, and the monotonic clock
// as the counter.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "../port_example.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void port_print(const char* text) { fputs(text, stdout); }

void port_exit(int status) {
  fflush(stdout);
  exit(status);
}

uint64_t port_counter() {
  timespec now;
  if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) return 0;
  return static_cast<uint64_t>(now.tv_sec) * 1000000000U +
         static_cast<uint64_t>(now.tv_nsec);
}

const char* port_counter_unit() { return "ns"; }

uint32_t port_stack_high_water() { return 0; }
