// SPDX-License-Identifier: Apache-2.0
#include "engine/neuron_weights.h"

#include <utility>

namespace pantry {
namespace {

NeuronCacheOptions CacheOptions(const WeightPlacer& placer, int64_t cache_bytes, int64_t most_cache_bytes) {
  const NeuronLayout& layout = *placer.neurons();
  return {.n_layers = placer.n_layers(),
          .n_networks = placer.n_networks(),
          .n_neurons = static_cast<int32_t>(layout.n_neurons()),
          .slot_bytes = placer.kept_neuron_bytes(),
          .budget_bytes = cache_bytes,
          .max_budget_bytes = most_cache_bytes};
}

}  // namespace

int64_t NeuronWeights::AllBytes(const WeightPlacer& placer) {
  return int64_t{placer.n_layers()} * placer.n_networks() * placer.neurons()->n_neurons() * placer.kept_neuron_bytes();
}

int64_t NeuronWeights::ReadingBytes(const WeightPlacer& placer) {
  constexpr int64_t kReader = 1 << 20, kPerNeuron = 30;  // of a layer
  return NeuronStream::StagingBytes(placer.neurons()->bundle_bytes) +
         NeuronCache::BookkeepingBytes(CacheOptions(placer, AllBytes(placer), 0)) + kReader +
         kPerNeuron * placer.n_networks() * placer.neurons()->n_neurons();
}

Result<std::unique_ptr<NeuronWeights>> NeuronWeights::Open(const GgufFile& file, const WeightPlacer& placer,
                                                           BlockReader& reader, int64_t cache_bytes,
                                                           int64_t most_cache_bytes, const Clock& clock) {
  PANTRY_CHECK(file.pack() != nullptr && placer.neurons() != nullptr);
  const NeuronLayout& layout = *placer.neurons();
  auto weights = std::unique_ptr<NeuronWeights>(new NeuronWeights());
  NeuronTable& table = weights->table_;
  // A network is a block, so its place among all networks is the block's number.
  for (uint32_t network = 0; network < placer.n_blocks(); ++network) {
    table.offsets.push_back(placer.BundlesOffset(BlockId(network)));
  }
  table.n_networks = placer.n_networks();
  PANTRY_CHECK(placer.n_blocks() == int64_t{placer.n_layers()} * table.n_networks);
  table.n_neurons = static_cast<int32_t>(layout.n_neurons());
  table.bundle_bytes = layout.bundle_bytes;
  table.kept_bytes = placer.kept_neuron_bytes();
  table.is_intact = [&placer](size_t place, int32_t neuron, std::span<const uint8_t> bundle) {
    return placer.BundleIsIntact(BlockId(static_cast<uint32_t>(place)), neuron, bundle);
  };
  table.damaged = [&placer](size_t place, int32_t neuron) {
    return placer.DamagedBundle(BlockId(static_cast<uint32_t>(place)), neuron);
  };
  PANTRY_ASSIGN_OR_RETURN(weights->cache_, NeuronCache::Create(CacheOptions(placer, cache_bytes, most_cache_bytes)));
  PANTRY_ASSIGN_OR_RETURN(weights->stream_, NeuronStream::Create(table, *weights->cache_, reader, clock));
  return weights;
}

}  // namespace pantry
