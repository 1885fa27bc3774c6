// What the start-up code measures.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_PORTS_CORTEX_M_STARTUP_H_
#define FEWSTEP_PORTS_CORTEX_M_STARTUP_H_

#include <stdint.h>

/// SysTick ticks of the core clock since reset, wraps included.
uint64_t systick_ticks();

/// Deepest use of the stack since reset, in bytes: what is no longer painted.
uint32_t stack_high_water();

/// Bytes the linker script gives the stack.
uint32_t stack_size();

#endif  // FEWSTEP_PORTS_CORTEX_M_STARTUP_H_
