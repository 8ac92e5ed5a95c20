// SPDX-License-Identifier: Apache-2.0
#include "sys/posix_error.h"

#include <cerrno>
#include <string>
#include <system_error>

namespace pantry {

Status PosixError(std::string_view context, int error_number) {
  const std::string reason = std::generic_category().message(error_number);  // strerror, but safe from any thread
  StatusCode code = StatusCode::kIoError;
  if (error_number == ENOENT) code = StatusCode::kNotFound;
  if (error_number == ENOMEM) code = StatusCode::kOutOfBudget;
  return Status(code, fmt::format("{}: {}", context, reason));
}

}  // namespace pantry
