// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "interrupt.h"

#include <signal.h>
#include <unistd.h>

namespace fewstep::cli {
namespace {

volatile sig_atomic_t g_interrupted = 0;

extern "C" void on_interrupt(int) {
  g_interrupted = 1;
  // The second of either signal is final.
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  static const char kMessage[] =
      "\nfewstep: stopping after this iteration (once more ends at once)\n";
  const ssize_t ignored = write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  static_cast<void>(ignored);
}

}  // namespace

void watch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return g_interrupted != 0; }

}  // namespace fewstep::cli
