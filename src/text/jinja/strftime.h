// SPDX-License-Identifier: Apache-2.0
// strftime() in UTC and English, whatever the locale of the process is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pantry::jinja {

// "%Y-%m-%d %H:%M" and all of C's conversions; "%-d" drops the padding. An unknown conversion stays as written.
std::string FormatTime(std::string_view format, int64_t unix_seconds);

}  // namespace pantry::jinja
