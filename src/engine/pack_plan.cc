// SPDX-License-Identifier: Apache-2.0
#include "engine/pack_plan.h"

#include <utility>

#include "models/model.h"
#include "models/weight_placer.h"

namespace pantry {

namespace {

// Below this a disk takes as long for a neuron as for several beside it: a read costs about what 16 KiB in a long one do.
constexpr int64_t kLeastBundleBytes = 2048;
// Of experts, which could come whole instead: with 2048 bytes (smallthinker-4b) by neuron ran 0.6 to 0.8 times as fast, with 4608 (Mixtral)
// about twice (docs/performance.md).
constexpr int64_t kLeastBundleBytesOfExperts = 4096;

// A model whose neurons can lie one by one, and are worth it or need not be; null: there is none.
std::unique_ptr<WeightPlacer> PlaceByNeuron(const GgufFile& file, Isa isa, bool where_worth_it) {
  auto placer = std::make_unique<WeightPlacer>(WeightPlacer::ByNeuron());
  const bool can = PackedWeightBytes(file, isa, placer.get()).ok() && placer->neurons() != nullptr;
  if (!can) return nullptr;
  const int64_t least_bytes = placer->has_experts() ? kLeastBundleBytesOfExperts : kLeastBundleBytes;
  return where_worth_it && placer->neurons()->bundle_bytes < least_bytes ? nullptr : std::move(placer);
}

}  // namespace

bool PacksByNeuron(const GgufFile& file, Isa isa) { return PlaceByNeuron(file, isa, true) != nullptr; }

Result<PackPlan> PlanPack(const GgufFile& file, Isa isa, NeuronPacking neurons) {
  std::unique_ptr<WeightPlacer> placer;
  if (neurons != NeuronPacking::kNever) {
    placer = PlaceByNeuron(file, isa, neurons == NeuronPacking::kWhereWorthIt);
  }
  if (placer == nullptr) {
    placer = std::make_unique<WeightPlacer>();
    const bool by_neuron = neurons != NeuronPacking::kNever;
    PANTRY_RETURN_IF_ERROR(PackedWeightBytes(file, isa, placer.get(), nullptr, by_neuron).status());
  }
  if (placer->n_blocks() == 0)
    return InvalidArgumentError("{}: nothing of it is ever streamed, so there is nothing to pack", file.path());
  PackPlan plan;
  plan.layout = isa;
  for (const WeightPlacer::Group& group : placer->groups()) {
    plan.groups.push_back({group.tensors, group.n_blocks, static_cast<uint64_t>(group.block_bytes), group.order});
  }
  plan.placer = std::move(placer);
  return plan;
}

}  // namespace pantry
