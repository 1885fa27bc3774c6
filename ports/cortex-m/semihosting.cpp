// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "semihosting.h"

namespace semihosting {
namespace {

enum Operation : uint32_t {
  kOpen = 0x01,
  kClose = 0x02,
  kWrite0 = 0x04,
  kRead = 0x06,
  kFlen = 0x0c,
  kGetCmdline = 0x15,
  kExitExtended = 0x20,
};

constexpr uint32_t kApplicationExit = 0x20026;  // ADP_Stopped_ApplicationExit
constexpr uint32_t kOpenReadBinary = 1;         // fopen's "rb"

/// r0 = operation, r1 = argument or argument block; the result comes in r0.
uint32_t call(Operation operation, const void* argument) {
  register uint32_t r0 __asm__("r0") = operation;
  register const void* r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

uint32_t address(const void* p) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(p));
}

uint32_t length(const char* text) {
  uint32_t n = 0;
  while (text[n] != '\0') ++n;
  return n;
}

}  // namespace

void write(const char* text) { call(kWrite0, text); }

void exit(int status) {
  // SYS_EXIT of a 32-bit target cannot carry a status; SYS_EXIT_EXTENDED can.
  const uint32_t block[] = {kApplicationExit, static_cast<uint32_t>(status)};
  for (;;) call(kExitExtended, block);
}

bool command_line(char* buffer, size_t capacity) {
  const uint32_t block[] = {address(buffer), static_cast<uint32_t>(capacity)};
  if (capacity > 0 && call(kGetCmdline, block) == 0) return true;
  if (capacity > 0) buffer[0] = '\0';
  return false;
}

int32_t read_file(const char* path, void* buffer, size_t capacity) {
  const uint32_t open_block[] = {address(path), kOpenReadBinary, length(path)};
  const uint32_t file = call(kOpen, open_block);
  if (file == 0xffffffffU) return -1;

  int32_t n = -1;
  const uint32_t n_bytes = call(kFlen, &file);
  if (n_bytes <= capacity && n_bytes <= 0x7fffffffU) {
    const uint32_t read_block[] = {file, address(buffer), n_bytes};
    // SYS_READ returns how many bytes were NOT read.
    if (call(kRead, read_block) == 0) n = static_cast<int32_t>(n_bytes);
  }
  call(kClose, &file);
  return n;
}

}  // namespace semihosting
