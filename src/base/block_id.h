// SPDX-License-Identifier: Apache-2.0
// A BlockId names a block: the smallest piece of weights that is read, cached, evicted and computed as one.
//
// It is an index into the model's block table, dense from 0, so that whatever is kept per block is an array. What a block is (an expert:
// gate, up and down; a tile of a dense layer; a cluster of neurons) and where it lies is the table's business: weights/ and models/.
#pragma once

#include <cstdint>

#include "base/strong_id.h"

namespace pantry {

using BlockId = StrongId<struct BlockTag, uint32_t>;

// "No block": what a default BlockId is.
inline constexpr BlockId kNoBlock = BlockId();

}  // namespace pantry
