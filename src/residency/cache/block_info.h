// SPDX-License-Identifier: Apache-2.0
// A BlockInfo is what the cache needs to know of a block: whose it is, and how much room it takes.
#pragma once

#include <cstdint>

namespace pantry {

struct BlockInfo {
  int32_t layer = 0;    // layers are numbered in the order in which a token visits them
  int64_t n_bytes = 0;  // room it needs in memory, with any slack that the reader wants
};

}  // namespace pantry
