// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/vector_ops/lanes_avx512vnni.h"
#include "compute/kernels/vector_ops/vector_ops.h"

namespace pantry {
namespace {

#include "compute/kernels/vector_ops/vector_ops_lanes.inc"

}  // namespace

extern const VectorOps kVectorOpsAvx512Vnni;
constinit const VectorOps kVectorOpsAvx512Vnni = MakeVectorOps(Isa::kAvx512Vnni);

}  // namespace pantry
