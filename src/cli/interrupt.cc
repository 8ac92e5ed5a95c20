// SPDX-License-Identifier: Apache-2.0
#include "cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace pantry {
namespace {

std::atomic<int> g_interrupts{0};  // NOLINT(readability-identifier-naming): a signal handler has no other way to tell
static_assert(std::atomic<int>::is_always_lock_free);

void OnInterrupt(int) {
  if (g_interrupts.fetch_add(1) > 0) _exit(130);
}

}  // namespace

void InstallSignalHandlers() {
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;
  action.sa_flags = 0;  // no SA_RESTART: a blocking read returns, and its caller looks at Interrupted()
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
}

bool Interrupted() { return g_interrupts.load() > 0; }
void ClearInterrupt() { g_interrupts.store(0); }

}  // namespace pantry
