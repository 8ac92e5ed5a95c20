// SPDX-License-Identifier: Apache-2.0
// Flags that scripts written for other engines carry: accepted with one line that says why they do nothing here, or refused as not
// available yet. Nothing is ignored in silence.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace pantry {

enum class ForeignKind : uint8_t {
  kNoEffect,  // accepted; `reason` completes "no effect here because ..."
  kLater,     // refused; `reason` says what to do instead
};

enum class ForeignArity : uint8_t { kNone, kOne, kOptional };

struct ForeignFlag {
  std::string_view names;
  ForeignArity arity;
  ForeignKind kind;
  std::string_view reason;
};

std::span<const ForeignFlag> ForeignFlags();

// Verbs of later versions: "serve", ...
std::span<const std::string_view> LaterVerbs();

}  // namespace pantry
