// SPDX-License-Identifier: Apache-2.0
// A TemplateError is how a template, a conversation or a limit stops the work inside this folder.
//
// A tree-walking evaluator of a dynamic language fails in a hundred places, mostly deep inside builtins; an exception keeps those readable.
// It never leaves the folder: Program::Parse() and Program::Render() turn it into a Status with line and column.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <utility>

#include "base/status.h"

namespace pantry::jinja {

inline constexpr uint32_t kNoOffset = UINT32_MAX;

struct TemplateError {
  StatusCode code;
  std::string message;
  uint32_t offset = kNoOffset;  // byte of the source; kNoOffset: wherever the evaluator stands
  bool is_refusal = false;      // raise_exception(): the message goes out alone
};

template <typename... Args>
[[noreturn]] void Fail(fmt::format_string<Args...> format, Args&&... args) {
  throw TemplateError{StatusCode::kInvalidArgument, fmt::format(format, std::forward<Args>(args)...)};
}
template <typename... Args>
[[noreturn]] void FailUnsupported(fmt::format_string<Args...> format, Args&&... args) {
  throw TemplateError{StatusCode::kUnsupported, fmt::format(format, std::forward<Args>(args)...)};
}
template <typename... Args>
[[noreturn]] void FailOutOfBudget(fmt::format_string<Args...> format, Args&&... args) {
  throw TemplateError{StatusCode::kOutOfBudget, fmt::format(format, std::forward<Args>(args)...)};
}

}  // namespace pantry::jinja
