// port_example.h for an emulated Cortex-M under `qemu -icount shift=0`.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "../port_example.h"

#include "semihosting.h"
#include "startup.h"

// Under `-icount shift=0` an instruction takes one emulated nanosecond, so a
// tick of the 25 MHz core clock stands for 40 instructions.
constexpr uint32_t kInstructionsPerTick = 40;

void port_print(const char* text) { semihosting::write(text); }

void port_exit(int status) { semihosting::exit(status); }

uint64_t port_counter() { return systick_ticks() * kInstructionsPerTick; }

const char* port_counter_unit() { return "instructions"; }

uint32_t port_stack_high_water() { return stack_high_water(); }
