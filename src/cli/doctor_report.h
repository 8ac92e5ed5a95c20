// SPDX-License-Identifier: Apache-2.0
// DoctorReport() says what a HardwareProfile holds, for people: tables of rates, and in a line each what follows from them.
//
// Threads: any.
#pragma once

#include <string>

#include "sys/hardware_profile.h"

namespace pantry {

// Ends with a newline. `no_disk` says why there is no disk, where there is none.
std::string DoctorReport(const HardwareProfile& profile, const std::string& no_disk);

}  // namespace pantry
