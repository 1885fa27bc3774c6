// Start-up, console, .data, .bss, FPU and file reading of the Cortex-M port.
// Exits with the number its first argument's file holds.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "port_example.h"
#include "semihosting.h"
#include "startup.h"

namespace {

volatile uint32_t in_data = 0x600df00dU;
volatile uint32_t in_bss[3];
volatile float three = 3.0F;

/// The argument after the image's name, in place; null if there is none.
const char* first_argument(char* line) {
  while (*line != '\0' && *line != ' ') ++line;
  return *line == ' ' ? line + 1 : nullptr;
}

}  // namespace

int main() {
  port_print("hello\n");
  if (in_data != 0x600df00dU) port_exit(101);
  for (uint32_t i = 0; i < 3; ++i) {
    if (in_bss[i] != 0) port_exit(102);
  }
  // Fused, and subnormals kept: neither may be lost in the emulation.
  const float fused = __builtin_fmaf(three, 1.0F / 3.0F, -1.0F);
  if (fused != 0x1p-25F) port_exit(103);
  volatile float smallest = 0x1p-126F;
  if (smallest * 0.5F != 0x1p-127F) port_exit(104);
  if (port_stack_high_water() < 16 || port_stack_high_water() > 1024) {
    port_exit(105);
  }

  char line[256];
  if (!semihosting::command_line(line, sizeof line)) port_exit(106);
  const char* path = first_argument(line);
  if (path == nullptr) return 0;
  char contents[16];
  if (semihosting::read_file("/nonexistent", contents, sizeof contents) != -1) {
    port_exit(107);
  }
  if (semihosting::read_file(path, contents, 1) != -1) port_exit(108);
  const int32_t n = semihosting::read_file(path, contents, sizeof contents);
  if (n < 0) port_exit(109);
  int status = 0;
  for (int32_t i = 0; i < n && contents[i] >= '0' && contents[i] <= '9'; ++i) {
    status = 10 * status + (contents[i] - '0');
  }
  return status;
}
