// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/vector_ops/lanes_x86v2.h"
#include "compute/kernels/vector_ops/vector_ops.h"

namespace pantry {
namespace {

#include "compute/kernels/vector_ops/vector_ops_lanes.inc"

}  // namespace

extern const VectorOps kVectorOpsX86V2;
constinit const VectorOps kVectorOpsX86V2 = MakeVectorOps(Isa::kX86V2);

}  // namespace pantry
