// SPDX-License-Identifier: Apache-2.0
// SourceHash() tells models apart without reading them: it hashes the head and the size of each file and the beginning of each tensor.
//
// Two quantizations of two versions of one model may have equal heads; their tensors differ from the first bytes on.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {

inline constexpr uint64_t kHashedTensorBytes = 4096;  // of each tensor, from its beginning

// XXH3, 64 bits, over, shard by shard: u64 size | the file's bytes up to its first tensor's | kHashedTensorBytes of each tensor, or all of
// it, in the order of tensors(). Reads that much.
Result<uint64_t> SourceHash(const GgufFile& source);

// Whether `pack` was made of `source`, by its size and its hash. false also where one of them cannot be read.
bool IsPackOf(const GgufFile& pack, const GgufFile& source);

}  // namespace pantry
