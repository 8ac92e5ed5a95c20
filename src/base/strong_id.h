// SPDX-License-Identifier: Apache-2.0
// A StrongId is an integer that cannot be mistaken for another kind of integer: a layer is not a token.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace pantry {

template <typename Tag, typename Rep = int32_t>
class StrongId {
 public:
  using rep = Rep;
  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep value) : value_(value) {}
  constexpr Rep value() const { return value_; }
  friend constexpr auto operator<=>(StrongId, StrongId) = default;

 private:
  Rep value_ = -1;
};

// A token of a vocabulary. Plain, because every tokenizer, sampler and C caller does arithmetic on arrays of them.
using TokenId = int32_t;
inline constexpr TokenId kNoToken = -1;

}  // namespace pantry

template <typename Tag, typename Rep>
struct std::hash<pantry::StrongId<Tag, Rep>> {
  size_t operator()(pantry::StrongId<Tag, Rep> id) const { return std::hash<Rep>()(id.value()); }
};
