// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/vector_ops/vector_ops.h"

namespace pantry {

#define PANTRY_VECTOR_OPS(isa, table) extern const VectorOps table;
#include "compute/kernels/vector_ops/vector_ops.inc"
#undef PANTRY_VECTOR_OPS

const VectorOps& VectorOpsFor(Isa isa) {
  const VectorOps* best = &kVectorOpsScalar;
#define PANTRY_VECTOR_OPS(level, table) \
  if (IsaIncludes(isa, Isa::level)) best = &table;
#include "compute/kernels/vector_ops/vector_ops.inc"
#undef PANTRY_VECTOR_OPS
  return *best;
}

}  // namespace pantry
