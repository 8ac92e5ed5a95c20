// SPDX-License-Identifier: Apache-2.0
// Ctrl-C: the first asks whatever is running to stop, the second before anybody answered ends the process with 130.
//
// SIGPIPE is ignored, so that a closed pipe shows as a failed write. A signal handler needs a global; it is hidden in the .cc.
// States: quiet --SIGINT--> Interrupted() --ClearInterrupt()--> quiet;  Interrupted() --SIGINT--> process ends with 130.
// Threads: Interrupted() from any thread.
#pragma once

namespace pantry {

void InstallSignalHandlers();
bool Interrupted();
void ClearInterrupt();

}  // namespace pantry
