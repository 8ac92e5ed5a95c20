// SPDX-License-Identifier: Apache-2.0
// The parser of one GGUF file's head: what GgufFile joins over shards.
//
//   "GGUF" version:u32 n_tensors:u64 n_kv:u64                                    (24 bytes)
//   n_kv      x  key:string type:u32 value                                       string: n_bytes:u64, bytes
//   n_tensors x  name:string n_dims:u32 dims:u64[n_dims] type:u32 offset:u64     offset counts from the start of the data
//   padding to general.alignment (32 unless said otherwise), then the tensors' data
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "io/reader.h"
#include "weights/gguf/gguf_file.h"
#include "weights/gguf/metadata.h"

namespace pantry {

struct GgufHeader {
  uint32_t version = 0;
  Metadata metadata;
  std::vector<TensorInfo> tensors;  // offsets absolute, shard 0; distinct names; disjoint, inside the file
};

// kCorruption, kUnsupported, or the reader's error. Reads no tensor data. What the header takes in memory is subtracted from
// `memory_left`, which starts as kMaxHeaderMemoryBytes for the first shard of a model; kCorruption where it does not suffice.
Result<GgufHeader> ParseGguf(const Reader& reader, uint64_t* memory_left);

// The error for a file that does not start with "GGUF": says what it looks like and what to do. Reads its first bytes.
Status NotGgufError(const Reader& reader);

}  // namespace pantry
