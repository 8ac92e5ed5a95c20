// SPDX-License-Identifier: Apache-2.0
// A PackPlan says which tensors of a model become blocks, and brings the placer that makes a block's bytes from the file's.
//
// Groups are in the order of their blocks' numbers, which are the placer's: the first group's are 0 to n_blocks - 1, and so on.
// Threads: a value; the placer is immutable.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "residency/stream/block_placer.h"
#include "sys/isa.h"
#include "weights/gguf/pack_table.h"

namespace pantry {

struct PackPlanGroup {
  std::vector<std::string> tensors;  // of the model: gate, up and down of a layer's experts; or one matrix
  uint32_t n_blocks = 0;
  uint64_t block_bytes = 0;  // in memory, at least what the tensors have in the file
  PackOrder order = PackOrder::kTiles;
};

struct PackPlan {
  Isa layout = Isa::kScalar;  // whose kernels' tiles the placer makes
  std::vector<PackPlanGroup> groups;
  std::unique_ptr<BlockPlacer> placer;  // `file` of a piece is a shard of the model
};

}  // namespace pantry
