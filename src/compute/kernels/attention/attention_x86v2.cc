// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/attention/attention.h"
#include "compute/kernels/vector_ops/lanes_x86v2.h"

namespace pantry {

extern const AttentionOps kAttentionOpsScalar;  // takes the head sizes that are no multiple of 16

namespace {

#include "compute/kernels/attention/attention_lanes.inc"

}  // namespace

extern const AttentionOps kAttentionOpsX86V2;
const AttentionOps kAttentionOpsX86V2 = {
    .isa = Isa::kX86V2, .store = StorePosition, .attend = Attend, .attend_tile = AttendTile, .fold = Fold};

}  // namespace pantry
