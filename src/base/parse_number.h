// SPDX-License-Identifier: Apache-2.0
// Numbers as people write them in options: the whole text or nothing.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

namespace pantry {

// Nothing where `text` is not a number from its first to its last character (neither blanks nor a '+' belong to one), or not one that the
// type holds. Floating-point numbers may be "inf" and "nan"; the locale does not matter.
template <typename Number>
std::optional<Number> ParseNumber(std::string_view text) {
  Number number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
}

}  // namespace pantry
