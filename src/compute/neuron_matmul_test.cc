// SPDX-License-Identifier: Apache-2.0
#include "compute/neuron_matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "base/rng.h"
#include "compute/kernels/matmul/random_weights.h"

namespace pantry {
namespace {

using testing::OwnedActivations;
using testing::PackedMatrix;
using testing::RandomActivations;
using testing::RandomRows;

constexpr int64_t kEmbd = 320, kFf = 736;  // neither is a whole number of tiles of columns or strips

struct Case {
  Isa isa;
  TensorType up, down;
};

// A network in tiles, and the same as a block of neurons.
struct Network {
  Network(const Case& c, Rng& rng) : ops(VectorOpsFor(c.isa)) {
    const auto rows_of = [&](TensorType type, int64_t rows, int64_t cols) { return RandomRows(type, rows, cols, rng); };
    gate_rows = rows_of(TensorType::kQ4_0, kFf, kEmbd);
    const std::vector<uint8_t> up_rows = rows_of(c.up, kFf, kEmbd), down_rows = rows_of(c.down, kEmbd, kFf);
    parts.emplace_back(*FindMatMulKernel(TensorType::kQ4_0, c.isa), gate_rows, kFf, kEmbd);
    parts.emplace_back(*FindMatMulKernel(c.up, c.isa), up_rows, kFf, kEmbd);
    parts.emplace_back(*FindMatMulKernel(c.down, c.isa), down_rows, kEmbd, kFf);
    layout = NeuronLayout::InPack(
        {.kernel = FindMatMulKernel(c.up, c.isa, WeightOrder::kRows), .rows = kFf, .cols = kEmbd},
        {.kernel = FindMatMulKernel(c.down, c.isa, WeightOrder::kColumns), .rows = kEmbd, .cols = kFf});
    in_memory = NeuronLayout::InMemory(layout.up, layout.down);
    const auto place = [&](const NeuronLayout& of, std::vector<uint8_t>& to) {
      to.assign(static_cast<size_t>(of.n_bytes()), 0x5A);
      of.PlaceUp(up_rows.data(), 0, 100, to.data());
      of.PlaceUp(up_rows.data() + 100 * RowBytes(c.up, kEmbd), 100, kFf - 100, to.data());
      const int64_t tile = of.down.kernel->row_tile;
      of.PlaceDown(down_rows.data(), 0, tile, to.data());
      of.PlaceDown(down_rows.data() + tile * RowBytes(c.down, kFf), tile, kEmbd - tile, to.data());
    };
    place(layout, block);
    place(in_memory, memory);
  }
  const VectorOps& ops;
  std::vector<uint8_t> gate_rows, block, memory;
  std::vector<PackedMatrix> parts;
  NeuronLayout layout, in_memory;
};

class NeuronMatMul : public ::testing::TestWithParam<Case> {};

TEST_P(NeuronMatMul, RangeAfterRangeGivesTheBitsOfTheWholeNetwork) {
  if (!RequireIsa(GetParam().isa).ok()) GTEST_SKIP() << "this CPU does not run " << IsaName(GetParam().isa);
  Rng rng(11);
  Network net(GetParam(), rng);
  EXPECT_EQ(net.layout.bundle_bytes % NeuronLayout::kBundleAlignment, 0);
  EXPECT_EQ(net.layout.kept_bytes % NeuronLayout::kKeptAlignment, 0);
  EXPECT_LE(net.layout.kept_bytes, net.layout.bundle_bytes);
  // What a cache keeps of them, side by side.
  const auto kept_bytes = static_cast<size_t>(net.layout.kept_bytes);
  std::vector<uint8_t> kept(kFf * kept_bytes);
  for (size_t neuron = 0; neuron < kFf; ++neuron) {
    std::memcpy(kept.data() + neuron * kept_bytes,
                net.block.data() + net.layout.bundle_offset(static_cast<int64_t>(neuron)), kept_bytes);
  }
  const GatedActivation activations[] = {net.ops.relu_mul, net.ops.drelu_mul, net.ops.relu2_mul};
  for (const int64_t m : {1, 2, 3, 4, 9, 70, 150}) {
    for (const GatedActivation activation : activations) {
      const auto n = static_cast<size_t>(m);
      OwnedActivations x(RandomActivations(m, kEmbd, rng), m, kEmbd);
      std::vector<float> gate(n * kFf), up(n * kFf), hidden(n * kFf), expected(n * kEmbd);
      net.parts[0].Compute(x.rows, gate.data(), kFf);
      for (float& value : gate) value -= 0.5F * static_cast<float>(rng.NextDouble());  // most of them rest
      for (size_t i = 0; i < gate.size(); ++i) {
        if (i % kFf / 64 == 3) gate[i] = -1;  // a run of neurons rests for all rows
      }
      net.parts[1].Compute(x.rows, up.data(), kFf);
      activation(gate.data(), up.data(), static_cast<int64_t>(gate.size()), hidden.data());
      OwnedActivations dense(hidden, m, kFf);
      for (int64_t row = 0; row < m; ++row) net.ops.quantize_row(dense.rows, row);
      net.parts[2].Compute(dense.rows, expected.data(), kEmbd);

      std::vector<int32_t> firing;
      std::vector<const uint8_t*> bundles, columns(kFf);
      for (int64_t neuron = 0; neuron < kFf; ++neuron) {
        bool fires = false;
        for (int64_t row = 0; row < m; ++row) fires |= !(gate[static_cast<size_t>(row * kFf + neuron)] <= 0);
        if (!fires) continue;
        firing.push_back(static_cast<int32_t>(neuron));
        bundles.push_back(kept.data() + static_cast<size_t>(neuron) * kept_bytes);
      }
      ASSERT_LT(firing.size(), static_cast<size_t>(kFf));
      for (const int64_t width : {int64_t{32}, int64_t{192}, kFf}) {
        for (const int n_threads : {1, 3}) {
          ThreadPool pool(n_threads);
          OwnedActivations scratch(std::vector<float>(n * kFf, 7.0F), m, kFf);
          std::vector<float> out(n * kEmbd, -3.0F);
          std::vector<float> activated = gate;
          const NeuronRun run = {.layout = &net.layout,
                                 .scales = net.block.data(),
                                 .x = x.rows,
                                 .gate = activated.data(),
                                 .gate_stride = kFf,
                                 .activation = activation,
                                 .ops = &net.ops,
                                 .hidden = scratch.rows,
                                 .columns = columns.data(),
                                 .out = out.data()};
          for (int64_t begin = 0; begin < kFf; begin += width) {
            const int64_t end = std::min(begin + width, kFf);
            const auto from = std::lower_bound(firing.begin(), firing.end(), begin) - firing.begin();
            const auto to = std::lower_bound(firing.begin(), firing.end(), end) - firing.begin();
            const NeuronRange range = {
                begin, end, {firing.data() + from, firing.data() + to}, {bundles.data() + from, bundles.data() + to}};
            // Some of the range first, the others behind them.
            const size_t n_first = range.firing.size() / 3;
            ActivateNeurons(pool, run, range.firing.subspan(n_first), range.bundles.subspan(n_first));
            ActivateNeurons(pool, run, range.firing.first(n_first), range.bundles.first(n_first));
            SumNeurons(pool, run, range);
          }
          ASSERT_EQ(out, expected) << "m " << m << ", ranges of " << width << ", " << n_threads << " threads";
        }
      }
    }
  }
}

// A network in memory finds by itself what fires, in any row: of a ReLU, or of a SiLU by a threshold.
TEST_P(NeuronMatMul, InMemoryGivesTheBitsOfTheWholeNetworkAndComputesWhatFires) {
  if (!RequireIsa(GetParam().isa).ok()) GTEST_SKIP() << "this CPU does not run " << IsaName(GetParam().isa);
  Rng rng(12);
  Network net(GetParam(), rng);
  EXPECT_LT(net.in_memory.bundle_bytes, net.layout.bundle_bytes);
  struct Gating {
    GatedActivation activation;
    FiringGates firing;
  };
  for (const Gating& gating : {Gating{net.ops.relu_mul, FiringGates::Positive()},
                               {net.ops.drelu_mul, FiringGates::Positive()},
                               {net.ops.silu_mul, FiringGates::OfSilu(0)},
                               {net.ops.silu_mul, FiringGates::OfSilu(0.2F)},
                               {net.ops.silu_mul, FiringGates::OfSilu(1e9F)}}) {
    // With 31 rows a strip has fewer neurons than a thread's share, and their number is no power of two.
    for (const int64_t m : {1, 2, 4, 9, 31, 70, 150}) {
      const auto n = static_cast<size_t>(m);
      OwnedActivations x(RandomActivations(m, kEmbd, rng), m, kEmbd);
      std::vector<float> gate(n * kFf), up(n * kFf), hidden(n * kFf), expected(n * kEmbd);
      net.parts[0].Compute(x.rows, gate.data(), kFf);
      net.parts[1].Compute(x.rows, up.data(), kFf);
      gating.activation(gate.data(), up.data(), static_cast<int64_t>(gate.size()), hidden.data());
      int64_t n_expected = 0;
      for (size_t i = 0; i < gate.size(); ++i) {
        const bool fires = gating.firing.Contain(gate[i]);
        hidden[i] = fires ? hidden[i] : 0;
        n_expected += fires ? 1 : 0;
      }
      OwnedActivations dense(hidden, m, kFf);
      for (int64_t row = 0; row < m; ++row) net.ops.quantize_row(dense.rows, row);
      net.parts[2].Compute(dense.rows, expected.data(), kEmbd);
      for (const int n_threads : {1, 3}) {
        ThreadPool pool(n_threads);
        OwnedActivations scratch(std::vector<float>(n * kFf, 7.0F), m, kFf);
        std::vector<float> out(n * kEmbd, -3.0F), gates = gate, ups(n * kFf);
        std::vector<const uint8_t*> columns(kFf);
        const NeuronRun run = {.layout = &net.in_memory,
                               .scales = net.memory.data(),
                               .x = x.rows,
                               .gate = gates.data(),
                               .gate_stride = kFf,
                               .activation = gating.activation,
                               .ops = &net.ops,
                               .hidden = scratch.rows,
                               .columns = columns.data(),
                               .out = out.data()};
        std::atomic<int64_t> n_firing = 0;
        ComputeNeurons(pool, run, NeuronChoice{.firing = gating.firing, .n_firing = &n_firing});
        ASSERT_EQ(out, expected) << "m " << m << ", " << n_threads << " threads";
        EXPECT_EQ(n_firing, n_expected);
        ComputeUps(pool, net.in_memory, net.memory.data(), x.rows, ups.data(), kFf);
        ASSERT_EQ(ups, up) << "m " << m;
      }
    }
  }
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const MatMulKernel& kernel : AllMatMulKernels()) {
    if (kernel.order != WeightOrder::kColumns) continue;
    for (const TensorType up : {TensorType::kQ4_0, TensorType::kQ8_0}) cases.push_back({kernel.isa, up, kernel.type});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, NeuronMatMul, ::testing::ValuesIn(Cases()), [](const auto& param) {
  std::string name = fmt::format("{}_{}_{}", IsaName(param.param.isa), TensorTypeName(param.param.up),
                                 TensorTypeName(param.param.down));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace pantry
