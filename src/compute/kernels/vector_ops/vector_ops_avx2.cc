// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/vector_ops/lanes_avx2.h"
#include "compute/kernels/vector_ops/vector_ops.h"

namespace pantry {
namespace {

#include "compute/kernels/vector_ops/vector_ops_lanes.inc"

}  // namespace

extern const VectorOps kVectorOpsAvx2;
constinit const VectorOps kVectorOpsAvx2 = MakeVectorOps(Isa::kAvx2);

}  // namespace pantry
