// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/vector_ops/lanes_neon.h"
#include "compute/kernels/vector_ops/vector_ops.h"

namespace pantry {
namespace {

#include "compute/kernels/vector_ops/vector_ops_lanes.inc"

}  // namespace

extern const VectorOps kVectorOpsNeon;
constinit const VectorOps kVectorOpsNeon = MakeVectorOps(Isa::kNeon);

}  // namespace pantry
