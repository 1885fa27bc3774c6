// The few semihosting calls the emulated targets need: console, exit status,
// command line, reading files. No stdio, no heap.
//
// Each call traps to the debugger or emulator (BKPT 0xAB, Arm's "Semihosting
// for AArch32 and AArch64"); on silicon without a debugger attached it faults.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_PORTS_CORTEX_M_SEMIHOSTING_H_
#define FEWSTEP_PORTS_CORTEX_M_SEMIHOSTING_H_

#include <stddef.h>
#include <stdint.h>

namespace semihosting {

/// Writes a zero-terminated string to the host's console.
void write(const char* text);

/// Ends the emulation; the host process exits with `status`.
[[noreturn]] void exit(int status);

/// Copies the command line, zero-terminated, to buffer[capacity].
///
/// @return False when there is none or it does not fit; `buffer` is "".
bool command_line(char* buffer, size_t capacity);

/// Reads the host file `path` (relative to the emulator's working directory)
/// into buffer[capacity].
///
/// @return Bytes read, or -1 when the file cannot be opened or read, or holds
///         more than `capacity` bytes.
int32_t read_file(const char* path, void* buffer, size_t capacity);

}  // namespace semihosting

#endif  // FEWSTEP_PORTS_CORTEX_M_SEMIHOSTING_H_
