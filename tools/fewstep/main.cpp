// The `fewstep` command's entry: makes sure the processor can run the rest.
//
// This file, and it alone, is compiled for plain x86-64: everything else uses
// AVX2 or AVX-512 from its first instruction, static constructors included, and
// would die of an illegal instruction instead of saying why. So no templates
// and no C++ library here: the linker might pick the other files' copies.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <unistd.h>

#include "cli.h"

#if defined(__x86_64__)
namespace {

// Priority 101 is the first that programs may use: before any constructor of
// the other files.
__attribute__((constructor(101))) void require_processor() {
  __builtin_cpu_init();
#if defined(FEWSTEP_NEEDS_AVX512)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512cd") &&
      __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return;
  }
  static const char kMessage[] =
      "fewstep: this processor lacks AVX-512, which this program was built for "
      "(the machine that built it has it); build it here, or there with "
      "-DFEWSTEP_X86_64=v3\n";
#else
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return;
  static const char kMessage[] =
      "fewstep: this processor lacks AVX2 or FMA, which fewstep needs to "
      "compute the same bits as the devices; use a machine of 2013 or later "
      "(in an emulator or virtual machine, pass the host's processor "
      "through)\n";
#endif
  const ssize_t ignored = write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  static_cast<void>(ignored);
  _exit(fewstep::cli::kExitResource);
}

}  // namespace
#endif

int main(int argc, char** argv) {
  // A file-size limit is an error to report, not a signal to die of.
  signal(SIGXFSZ, SIG_IGN);
  return fewstep::cli::run(argc, argv);
}
