// SPDX-License-Identifier: Apache-2.0
#include "compute/expert_matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "compute/kernels/matmul/random_weights.h"

namespace pantry {
namespace {

using testing::OwnedActivations;
using testing::PackedMatrix;
using testing::RandomActivations;
using testing::RandomRows;
using Line = OwnedActivations::CacheLine;

struct Formats {
  TensorType gate, up, down;
  bool by_neuron = false;
};
// All forms of activations on either side, and neighbours of different formats.
const Formats kFormats[] = {{TensorType::kQ4_0, TensorType::kQ8_0, TensorType::kQ6_K},
                            {TensorType::kF16, TensorType::kF32, TensorType::kQ4_1},
                            {TensorType::kQ5_K, TensorType::kQ4_K, TensorType::kF32},
                            {TensorType::kBF16, TensorType::kBF16, TensorType::kBF16},
                            {TensorType::kMXFP4, TensorType::kMXFP4, TensorType::kMXFP4}};
const Formats kByNeuron[] = {{TensorType::kQ4_0, TensorType::kQ4_0, TensorType::kQ4_0, true},
                             {TensorType::kQ6_K, TensorType::kQ8_0, TensorType::kQ4_0, true},
                             {TensorType::kQ4_0, TensorType::kQ4_0, TensorType::kQ8_0, true}};

// Some experts of a layer, and rows that chose some of them each.
struct Layer {
  static constexpr int64_t kEmbd = 512, kFf = 768;
  static constexpr int32_t kExperts = 7;

  Layer(const Formats& formats, Isa isa, int64_t m, int64_t n_slots, uint64_t seed = 5) : isa_of_ops(isa) {
    Rng rng(seed);
    for (int32_t i = 0; i < kExperts; ++i) {
      for (const auto& [type, rows, cols] : {std::tuple(formats.gate, kFf, kEmbd), std::tuple(formats.up, kFf, kEmbd),
                                             std::tuple(formats.down, kEmbd, kFf)}) {
        const std::vector<uint8_t> gguf = RandomRows(type, rows, cols, rng);
        parts.emplace_back(*FindMatMulKernel(type, isa), gguf, rows, cols);
        WeightOrder order = WeightOrder::kTiles;
        if (formats.by_neuron && parts.size() % 3 == 2) order = WeightOrder::kRows;
        if (formats.by_neuron && parts.size() % 3 == 0) order = WeightOrder::kColumns;
        ordered.emplace_back(*FindMatMulKernel(type, isa, order), gguf, rows, cols);
      }
    }
    const auto shape = [&](size_t part) {
      return WeightMatrix{ordered[part].kernel, ordered[part].rows, ordered[part].cols, nullptr};
    };
    layout = ExpertLayout::Of({shape(0), shape(1), shape(2)});
    for (size_t i = 0; i < kExperts; ++i) {
      std::vector<Line>& block = blocks.emplace_back(static_cast<size_t>(layout.n_bytes / 64));
      size_t line = 0;
      for (size_t part = 3 * i; part < 3 * i + 3; ++part) {
        std::copy(ordered[part].lines.begin(), ordered[part].lines.end(), block.begin() + static_cast<int64_t>(line));
        line += ordered[part].lines.size();
      }
    }
    x = std::make_unique<OwnedActivations>(RandomActivations(m, kEmbd, rng), m, kEmbd);
    std::vector<std::vector<int32_t>> rows_of(kExperts);
    for (int64_t row = 0; row < m; ++row) {
      for (int64_t slot = 0; slot < n_slots; ++slot) {
        rows_of[(rng.NextU64() % 3 + static_cast<uint64_t>(2 * slot + row * row)) % kExperts].push_back(
            static_cast<int32_t>(row));
      }
    }
    for (int32_t i = 0; i < kExperts; ++i) {
      const std::vector<int32_t>& rows = rows_of[static_cast<size_t>(i)];
      if (rows.empty()) continue;
      tasks.push_back({.block = blocks[static_cast<size_t>(i)][0].bytes,
                       .expert = i,
                       .first_pick = static_cast<int64_t>(pick_row.size()),
                       .n_picks = static_cast<int64_t>(rows.size())});
      pick_row.insert(pick_row.end(), rows.begin(), rows.end());
    }
    ff.resize(pick_row.size() * static_cast<size_t>(ExpertRun::ScratchFloats(kFf)) * 4 / 64);
    partials.resize(pick_row.size() * static_cast<size_t>(ExpertRun::ScratchFloats(kEmbd)) * 4 / 64);
  }

  ExpertRun Run() {
    const VectorOps& ops = VectorOpsFor(isa_of_ops);
    return {.layout = &layout,
            .x = x->rows,
            .pick_row = pick_row.data(),
            .activation = ops.*activation,
            .ops = &ops,
            .ff = reinterpret_cast<float*>(ff[0].bytes),
            .partials = reinterpret_cast<float*>(partials[0].bytes)};
  }
  // The picks' results after computing the given groups of tasks one after another.
  std::vector<float> Compute(int n_threads, const std::vector<std::vector<ExpertTask>>& groups) {
    std::memset(ff[0].bytes, 0x77, ff.size() * 64);
    std::memset(partials[0].bytes, 0x77, partials.size() * 64);
    ThreadPool pool(n_threads);
    for (const auto& group : groups) ComputeExperts(pool, Run(), group);
    const float* from = reinterpret_cast<const float*>(partials[0].bytes);
    static_assert(ExpertRun::ScratchFloats(kEmbd) == kEmbd);
    return {from, from + pick_row.size() * kEmbd};
  }
  // What the kernels alone give for one pick.
  std::vector<float> Expected(int32_t expert, int32_t row, const ExpertBias& bias = {}) {
    const VectorOps& ops = VectorOpsFor(isa_of_ops);
    const auto at = x->f32.begin() + row * kEmbd;
    OwnedActivations one(std::vector<float>(at, at + kEmbd), 1, kEmbd);
    const auto part = size_t{3} * static_cast<size_t>(expert);
    std::vector<float> gate(kFf), up(kFf), out(kEmbd);
    parts[part].Compute(one.rows, gate.data(), kFf);
    parts[part + 1].Compute(one.rows, up.data(), kFf);
    if (bias.gate) ops.add(gate.data(), bias.gate, kFf);
    if (bias.up) ops.add(up.data(), bias.up, kFf);
    (ops.*activation)(gate.data(), up.data(), kFf, up.data());
    OwnedActivations hidden(up, 1, kFf);
    ops.quantize_row(hidden.rows, 0);
    parts[part + 2].Compute(hidden.rows, out.data(), kEmbd);
    if (bias.down) ops.add(out.data(), bias.down, kEmbd);
    return out;
  }

  Isa isa_of_ops;
  GatedActivation VectorOps::* activation = &VectorOps::silu_mul;
  std::vector<PackedMatrix> parts, ordered;  // gate, up, down of each expert: in tiles, and as the blocks have them
  ExpertLayout layout;
  std::vector<std::vector<Line>> blocks;
  std::unique_ptr<OwnedActivations> x;
  std::vector<int32_t> pick_row;
  std::vector<ExpertTask> tasks;
  std::vector<Line> ff, partials;
};

class ExpertsOnIsa : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!IsaSupported(GetParam())) GTEST_SKIP() << "this CPU has no " << IsaName(GetParam());
  }
};

TEST_P(ExpertsOnIsa, EachPickIsWhatTheKernelsAloneGive) {
  for (const Formats& formats : kFormats) {
    const auto form = [](TensorType type) { return FindMatMulKernel(type, GetParam())->activation; };
    if (form(formats.gate) != form(formats.up)) continue;
    for (const int64_t m : {1, 3, 40, 150}) {
      if (GetParam() == Isa::kScalar && m > 3) continue;  // slow
      Layer layer(formats, GetParam(), m, 3);
      const std::vector<float> results = layer.Compute(2, {layer.tasks});
      for (const ExpertTask& task : layer.tasks) {
        for (int64_t pick = task.first_pick; pick < task.first_pick + task.n_picks; ++pick) {
          const std::vector<float> expected = layer.Expected(task.expert, layer.pick_row[static_cast<size_t>(pick)]);
          ASSERT_TRUE(std::equal(expected.begin(), expected.end(), results.begin() + pick * Layer::kEmbd))
              << TensorTypeName(formats.gate) << ", " << m << " rows, expert " << task.expert << ", pick " << pick;
        }
      }
    }
  }
}

// What does not fire adds zero: computing only the rest gives the bits of computing everything, with biases and without.
TEST_P(ExpertsOnIsa, NeuronsThatRestChangeNoBit) {
  if (FindMatMulKernel(TensorType::kQ4_0, GetParam(), WeightOrder::kColumns) == nullptr)
    GTEST_SKIP() << "no kernels over rows and columns";
  Rng rng(12);
  const std::vector<float> gate = RandomActivations(1, Layer::kFf, rng), up = RandomActivations(1, Layer::kFf, rng);
  for (const Formats& formats : kByNeuron) {
    for (const auto activation : {&VectorOps::relu_mul, &VectorOps::drelu_mul, &VectorOps::relu2_mul}) {
      for (const int64_t m : {1, 2, 9, 40, 150}) {
        for (const ExpertBias& bias : {ExpertBias{}, ExpertBias{.gate = gate.data(), .up = up.data()}}) {
          Layer layer(formats, GetParam(), m, 3);
          layer.activation = activation;
          for (ExpertTask& task : layer.tasks) task.bias = bias;
          const std::vector<float> results = layer.Compute(2, {layer.tasks});
          for (const ExpertTask& task : layer.tasks) {
            for (int64_t pick = task.first_pick; pick < task.first_pick + task.n_picks; ++pick) {
              const std::vector<float> expected =
                  layer.Expected(task.expert, layer.pick_row[static_cast<size_t>(pick)], bias);
              ASSERT_TRUE(std::equal(expected.begin(), expected.end(), results.begin() + pick * Layer::kEmbd))
                  << TensorTypeName(formats.up) << ", " << m << " rows, expert " << task.expert << ", pick " << pick;
            }
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, ExpertsOnIsa, ::testing::ValuesIn(kBuildIsas), [](const auto& param) {
  std::string name(IsaName(param.param));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// What streaming stands on: blocks may come in any order, in any groups, to any address.
TEST(ComputeExperts, OrderGroupsThreadsAndAddressesChangeNothing) {
  Layer layer(kFormats[0], BestIsa(), 40, 3);
  const std::vector<float> expected = layer.Compute(1, {layer.tasks});
  for (int n_threads = 1; n_threads <= 4; ++n_threads) {
    EXPECT_EQ(layer.Compute(n_threads, {layer.tasks}), expected);
    std::vector<ExpertTask> reversed(layer.tasks.rbegin(), layer.tasks.rend());
    EXPECT_EQ(layer.Compute(n_threads, {reversed}), expected);
    std::vector<std::vector<ExpertTask>> one_by_one;
    for (const ExpertTask& task : reversed) one_by_one.push_back({task});
    EXPECT_EQ(layer.Compute(n_threads, one_by_one), expected);
    EXPECT_EQ(
        layer.Compute(n_threads, {{reversed.begin(), reversed.begin() + 2}, {reversed.begin() + 2, reversed.end()}}),
        expected);
  }
  std::vector<std::vector<Line>> slots = layer.blocks;
  for (ExpertTask& task : layer.tasks) task.block = slots[static_cast<size_t>(task.expert)][0].bytes;
  for (std::vector<Line>& block : layer.blocks) std::memset(block[0].bytes, 0, block.size() * 64);
  EXPECT_EQ(layer.Compute(2, {layer.tasks}), expected);
}

TEST(ComputeExperts, BiasesAreAdded) {
  Layer layer(kFormats[0], BestIsa(), 5, 2);
  Rng rng(6);
  const std::vector<float> gate = RandomActivations(1, Layer::kFf, rng), up = RandomActivations(1, Layer::kFf, rng),
                           down = RandomActivations(1, Layer::kEmbd, rng);
  const ExpertBias bias = {gate.data(), up.data(), down.data()};
  for (ExpertTask& task : layer.tasks) task.bias = bias;
  const std::vector<float> results = layer.Compute(2, {layer.tasks});
  const ExpertTask& task = layer.tasks[1];
  for (int64_t pick = task.first_pick; pick < task.first_pick + task.n_picks; ++pick) {
    const std::vector<float> expected = layer.Expected(task.expert, layer.pick_row[static_cast<size_t>(pick)], bias);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), results.begin() + pick * Layer::kEmbd));
    EXPECT_NE(expected, layer.Expected(task.expert, layer.pick_row[static_cast<size_t>(pick)]));
  }
}

TEST(ComputeExperts, NothingToDoIsFine) {
  Layer layer(kFormats[0], BestIsa(), 1, 1);
  ThreadPool pool(2);
  ComputeExperts(pool, layer.Run(), {});
}

TEST(ExpertLayout, PartsFollowEachOtherOnWholeCacheLines) {
  const Layer layer(kFormats[0], BestIsa(), 1, 1);
  const ExpertLayout& layout = layer.layout;
  EXPECT_EQ(layout.up_offset % 64, 0);
  EXPECT_EQ(layout.down_offset % 64, 0);
  EXPECT_EQ(layout.n_bytes % 64, 0);
  EXPECT_EQ(static_cast<size_t>(layout.n_bytes),
            64 * (layer.parts[0].lines.size() + layer.parts[1].lines.size() + layer.parts[2].lines.size()));
  const uint8_t* const base = layer.blocks[0][0].bytes;
  EXPECT_EQ(layout.View(base).gate.tiles, base);
  EXPECT_EQ(layout.View(base).up.tiles, base + layout.up_offset);
  EXPECT_EQ(layout.View(base).down.tiles, base + layout.down_offset);
}

}  // namespace
}  // namespace pantry
