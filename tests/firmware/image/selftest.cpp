// Replays the golden episodes of capsule files, read from the host: the bits
// of a workstation on an emulated core.
//
//   selftest.elf CAPSULE...
//
// Prints "<file> <status> <hash of the adapted parameters>" for each; exits
// with 1 when any status is not kOk, with 2 when a file cannot be read.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/device/every_op.h"
#include "fewstep/device/session.h"
#include "port_example.h"
#include "semihosting.h"

namespace {

using fewstep::Status;

alignas(16) unsigned char capsule_bytes[1 << 20];
alignas(16) unsigned char arena[2 << 20];
char line[65536];

void print_hash(uint64_t hash) {
  char text[17];
  for (uint32_t i = 0; i < 16; ++i) {
    text[i] = "0123456789abcdef"[hash >> (60 - 4 * i) & 15U];
  }
  text[16] = '\0';
  port_print(text);
}

/// Ends `*rest`'s first word, moves `*rest` past it and returns it; null at the
/// end.
const char* next_word(char** rest) {
  char* at = *rest;
  while (*at == ' ') ++at;
  if (*at == '\0') return nullptr;
  const char* word = at;
  while (*at != ' ' && *at != '\0') ++at;
  if (*at == ' ') *at++ = '\0';
  *rest = at;
  return word;
}

}  // namespace

int main() {
  if (!semihosting::command_line(line, sizeof line)) return 2;
  char* rest = line;
  next_word(&rest);  // The image itself.
  uint32_t n_files = 0;
  int exit_status = 0;
  while (const char* path = next_word(&rest)) {
    ++n_files;
    port_print(path);
    const int32_t n =
        semihosting::read_file(path, capsule_bytes, sizeof capsule_bytes);
    if (n < 0) {
      port_print(" cannot be read\n");
      return 2;
    }
    const fewstep::Bytes bytes = {capsule_bytes, static_cast<size_t>(n)};
    const Status status =
        fewstep::selftest(bytes, fewstep::EveryOp::list, {arena, sizeof arena});
    port_print(" ");
    port_print(to_string(status));
    port_print(" ");
    fewstep::Capsule capsule;
    if (read_capsule(bytes.data, bytes.size, &capsule) == Status::kOk) {
      print_hash(golden_episode(capsule).parameter_hash);
    }
    port_print("\n");
    if (status != Status::kOk) exit_status = 1;
  }
  return n_files == 0 ? 2 : exit_status;
}
