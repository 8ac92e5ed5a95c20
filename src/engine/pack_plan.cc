// SPDX-License-Identifier: Apache-2.0
#include "engine/pack_plan.h"

#include <utility>

#include "models/model.h"
#include "models/weight_placer.h"

namespace pantry {

Result<PackPlan> PlanPack(const GgufFile& file, Isa isa) {
  auto placer = std::make_unique<WeightPlacer>();
  PANTRY_RETURN_IF_ERROR(PackedWeightBytes(file, isa, placer.get()).status());
  if (placer->n_blocks() == 0)
    return InvalidArgumentError("{}: nothing of it is ever streamed, so there is nothing to pack", file.path());
  PackPlan plan;
  plan.layout = isa;
  for (const WeightPlacer::Group& group : placer->groups()) {
    plan.groups.push_back({group.tensors, group.n_blocks, static_cast<uint64_t>(group.block_bytes)});
  }
  plan.placer = std::move(placer);
  return plan;
}

}  // namespace pantry
