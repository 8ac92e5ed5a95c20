// SPDX-License-Identifier: Apache-2.0
// Scalar decoding of every weight format: the truth that kernels are compared with.
//
// Formulas are those of ggml's reference (checked against the `gguf` Python package, see testdata/quant/README.md).
#pragma once

#include <cstdint>

#include "weights/quant/tensor_type.h"

namespace pantry {

// Decodes `n_elements` weights from `blocks` into out[n_elements].
// REQUIRES: TraitsOf(type).is_weight; n_elements a multiple of the block's. Cost: memory-bound, single thread, no SIMD.
void DequantizeRow(TensorType type, const uint8_t* blocks, int64_t n_elements, float* out);

// The 16 values of the 4-bit tables (IQ4_NL, IQ4_XS; MXFP4 doubled, so that they are integers).
extern const int8_t kIq4NlValues[16];
extern const int8_t kMxfp4Values[16];  // value = table / 2 * 2^(e - 127)

}  // namespace pantry
