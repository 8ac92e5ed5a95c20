// SPDX-License-Identifier: Apache-2.0
// A PackHead is the head of a .pantry file to be, and where everything behind it will lie.
//
//   head | tensors that are not in blocks, as they are | pantry.checksums | pantry.blocks      each part begins at a multiple of 4096
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "weights/gguf/gguf_file.h"
#include "weights/gguf/pack_table.h"
#include "weights/pack/pack_plan.h"

namespace pantry {

struct PackHead {
  struct PlainTensor {
    const TensorInfo* source;
    uint64_t offset;  // in the pack
  };
  std::vector<uint8_t> bytes;              // with zeros to kPackAlignment
  std::vector<PlainTensor> plain_tensors;  // one behind the other, from the end of `bytes` to checksums_offset
  std::vector<PackGroup> groups;
  uint64_t checksums_offset = 0;
  uint64_t n_pieces = 0;
  uint64_t blocks_offset = 0;
  uint64_t file_bytes = 0;
};

// Reads the model's head again and a little of each tensor, for the hash of the source. kInvalidArgument: the model is a pack itself, or
// nothing of it becomes a block; kInternal: the plan does not fit the model.
Result<PackHead> MakePackHead(const GgufFile& source, const PackPlan& plan);

}  // namespace pantry
