// What the example programs ask of a target. This header only specifies; each
// ports/<target>/ implements it.
//
// The library itself asks nothing of a target: no clock, no heap, no file, no
// lock. A product that links fewstep::device needs none of these functions;
// they let one example source run on every target and be compared.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_PORTS_PORT_EXAMPLE_H_
#define FEWSTEP_PORTS_PORT_EXAMPLE_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Writes `text` (zero-terminated ASCII) to the target's console. Lines end
/// with '\n'. Never fails: what cannot be written is dropped.
void port_print(const char* text);

/// Ends the program with `status` (0..125, 0 is success), after everything
/// printed so far is out. On silicon without a debugger: stops.
__attribute__((noreturn)) void port_exit(int status);

/// Work done since some fixed moment, in port_counter_unit()s; never decreases
/// while the program runs. Always 0 where the target has no counter.
uint64_t port_counter(void);

/// What port_counter() counts: "instructions", "cycles", "ns" or "none".
const char* port_counter_unit(void);

/// The deepest the stack has been since reset, in bytes; 0 where unknown.
uint32_t port_stack_high_water(void);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // FEWSTEP_PORTS_PORT_EXAMPLE_H_
