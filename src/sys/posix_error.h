// SPDX-License-Identifier: Apache-2.0
// The one place where errno becomes a Status.
#pragma once

#include <string_view>

#include "base/status.h"

namespace pantry {

// ENOENT -> kNotFound; ENOMEM -> kOutOfBudget; everything else -> kIoError. Message: "context: strerror".
Status PosixError(std::string_view context, int error_number);

}  // namespace pantry
