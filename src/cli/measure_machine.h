// SPDX-License-Identifier: Apache-2.0
// Measures this machine for `pantry doctor`, and for verbs that need its speeds before anybody asked doctor.
//
// With a line of progress; what was found is kept for all verbs (cli/known_machine.h).
// Threads: the caller's; nothing else should be at work.
#pragma once

#include <string>

#include "base/status.h"
#include "cli/verbs.h"
#include "sys/hardware_profile.h"

namespace pantry {

// What is read to measure a disk: a file, or a folder to write one in. Neither: no disk is measured.
struct DiskChoice {
  std::string file;
  std::string folder;
};

// Under 20 s. kCancelled after an interrupt; errors of reading, or of writing to the folder.
Result<HardwareProfile> MeasureMachine(VerbContext& context, const DiskChoice& disk);

// What is known of it, else what is measured now, with the disk under the file `model` ("": none); with
// --no-measure, where a profile cannot be kept or measuring fails: KnownMachine()'s error, or a machine whose disk nobody knows.
Result<HardwareProfile> KnownOrMeasuredMachine(VerbContext& context, const std::string& model);

}  // namespace pantry
