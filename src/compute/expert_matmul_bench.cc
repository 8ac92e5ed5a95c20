// SPDX-License-Identifier: Apache-2.0
// A feed-forward network with a ReLU gate, one token, two threads: tiles, where everything is computed, beside the same weights by neuron,
// where only what fires is. Several layers in turn, so that no cache holds them. Run with --benchmark_enable_random_interleaving=true
// and repetitions, and compare medians of one run: memory is shared.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/rng.h"
#include "compute/expert_matmul.h"
#include "compute/kernels/matmul/random_weights.h"
#include "sys/aligned_buffer.h"

namespace pantry {
namespace {

constexpr int64_t kEmbd = 4096, kFf = 14336;  // Mistral's and Bamboo's
constexpr int64_t kLayers = 3;                // 300 MB

struct Layers {
  Layers(TensorType type, bool by_neuron) {
    const auto kernel = [&](WeightOrder order) {
      return FindMatMulKernel(type, BestIsa(), by_neuron ? order : WeightOrder::kTiles);
    };
    layout = ExpertLayout::Of({{.kernel = kernel(WeightOrder::kTiles), .rows = kFf, .cols = kEmbd},
                               {.kernel = kernel(WeightOrder::kRows), .rows = kFf, .cols = kEmbd},
                               {.kernel = kernel(WeightOrder::kColumns), .rows = kEmbd, .cols = kFf}});
    memory = AlignedBuffer::Allocate(static_cast<size_t>(kLayers * layout.n_bytes)).value();
    Rng rng(3);
    for (int64_t i = 0; i < kLayers; ++i) {
      const ExpertBlock block = layout.View(memory.data() + i * layout.n_bytes);
      for (const WeightMatrix* w : {&block.gate, &block.up, &block.down}) {
        constexpr int64_t kDistinct = 512;  // rows, over and over
        const int64_t row_bytes = RowBytes(type, w->cols);
        const std::vector<uint8_t> rows = testing::RandomRows(type, kDistinct, w->cols, rng);
        for (int64_t row = 0; row < w->rows; row += kDistinct) {
          PackRows(*w->kernel, rows.data(), row_bytes, kDistinct, w->cols,
                   const_cast<uint8_t*>(w->tiles) + row / w->kernel->row_tile * w->kernel->packed_tile_bytes(w->cols));
        }
      }
    }
  }
  ExpertLayout layout;
  AlignedBuffer memory;
};

// The gate's bias that leaves a share of the neurons firing.
float BiasFor(const Layers& layers, const ActivationRows& x, double share) {
  std::vector<float> gate(kFf);
  const ExpertBlock block = layers.layout.View(layers.memory.data());
  block.gate.kernel->compute(block.gate.tiles, kFf, kEmbd, 0, kFf / block.gate.kernel->row_tile, x, gate.data(), kFf);
  const auto at = gate.begin() + static_cast<int64_t>((1 - share) * static_cast<double>(kFf - 1));
  std::nth_element(gate.begin(), at, gate.end());
  return -*at;
}

void RunLayers(benchmark::State& state, TensorType type, bool by_neuron, double share) {
  const Layers layers(type, by_neuron);
  Rng rng(8);
  const testing::OwnedActivations x(testing::RandomActivations(1, kEmbd, rng), 1, kEmbd);
  const std::vector<float> bias(kFf, BiasFor(layers, x.rows, share));
  AlignedBuffer ff = AlignedBuffer::Allocate(kFf * sizeof(float)).value(),
                partials = AlignedBuffer::Allocate(kEmbd * sizeof(float)).value();
  ThreadPool pool(2);
  const int32_t row = 0;
  const VectorOps& ops = VectorOpsFor(BestIsa());
  const ExpertRun run = {.layout = &layers.layout,
                         .x = x.rows,
                         .pick_row = &row,
                         .activation = ops.relu_mul,
                         .ops = &ops,
                         .ff = reinterpret_cast<float*>(ff.data()),
                         .partials = reinterpret_cast<float*>(partials.data())};
  for (auto _ : state) {
    for (int64_t i = 0; i < kLayers; ++i) {
      const ExpertTask task = {
          .block = layers.memory.data() + i * layers.layout.n_bytes, .n_picks = 1, .bias = {.gate = bias.data()}};
      ComputeExperts(pool, run, {&task, 1});
    }
  }
  state.counters["ms/layer"] = benchmark::Counter(static_cast<double>(state.iterations() * kLayers) * 1e-3,
                                                  benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

const bool kRegistered = [] {
  for (const TensorType type : {TensorType::kQ4_0, TensorType::kQ8_0}) {
    if (FindMatMulKernel(type, BestIsa(), WeightOrder::kRows) == nullptr) continue;
    const std::string name = std::string("FeedForward/") + std::string(TensorTypeName(type));
    benchmark::RegisterBenchmark((name + "/tiles").c_str(), RunLayers, type, false, 0.1)->UseRealTime();
    for (const int percent : {2, 5, 10, 17, 30, 50, 100}) {
      benchmark::RegisterBenchmark((name + "/by_neuron/" + std::to_string(percent)).c_str(), RunLayers, type, true,
                                   percent / 100.0)
          ->UseRealTime();
    }
  }
  return true;
}();

}  // namespace
}  // namespace pantry
