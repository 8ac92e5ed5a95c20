// SPDX-License-Identifier: Apache-2.0
// A TensorType is a number format of weights on disk, with GGUF's own type number.
//
// A tensor's row is a sequence of blocks; a block holds `block_elements` weights in `block_bytes` bytes.
// Source: the GGUF specification and the layouts of ggml's block structs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace pantry {

enum class TensorType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kBF16 = 30,
  kMXFP4 = 39,
};

struct TensorTypeTraits {
  TensorType type;
  std::string_view name;   // "Q4_1", as GGUF tools print it
  int32_t block_elements;  // weights in a block
  int32_t block_bytes;
  bool is_weight;  // DequantizeRow() can decode it; integer and F64 tensors are stored but not computed with
};

// Every known type, in ascending order of its number.
std::span<const TensorTypeTraits> AllTensorTypes();
// Null for a number that this version does not know.
const TensorTypeTraits* FindTensorType(uint32_t gguf_number);
const TensorTypeTraits& TraitsOf(TensorType type);
inline std::string_view TensorTypeName(TensorType type) { return TraitsOf(type).name; }

// Bytes of a row of `n_elements`. REQUIRES: n_elements % block_elements == 0.
inline int64_t RowBytes(TensorType type, int64_t n_elements) {
  const TensorTypeTraits& traits = TraitsOf(type);
  return n_elements / traits.block_elements * traits.block_bytes;
}

}  // namespace pantry
