// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/vector_ops/lanes_avx512.h"
#include "compute/kernels/vector_ops/vector_ops.h"

namespace pantry {
namespace {

#include "compute/kernels/vector_ops/vector_ops_lanes.inc"

}  // namespace

extern const VectorOps kVectorOpsAvx512;
constinit const VectorOps kVectorOpsAvx512 = MakeVectorOps(Isa::kAvx512);

}  // namespace pantry
