// SPDX-License-Identifier: Apache-2.0
#include "compute/kernels/attention/parallel_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/rng.h"

namespace pantry {
namespace {

constexpr int32_t kHeads = 6, kKvHeads = 2, kHeadDim = 32;
constexpr int64_t kStride = kHeads * kHeadDim + 8;  // rows of q and out have something behind them

std::vector<float> Random(int64_t n, Rng* rng) {
  std::vector<float> numbers(static_cast<size_t>(n));
  for (float& x : numbers) x = static_cast<float>(2 * rng->NextDouble() - 1);
  return numbers;
}

class ParallelAttention : public ::testing::TestWithParam<Isa> {
 protected:
  static constexpr int64_t kMaxPositions = 64 * kAttentionTile + 700;  // more tiles than a row's share of the scratch

  void SetUp() override {
    ops_ = &AttentionOpsFor(GetParam());
    if (!IsaSupported(GetParam())) GTEST_SKIP() << "not on this CPU";
    if (ops_->isa != GetParam()) GTEST_SKIP() << "has no attention of its own";
    Rng rng(2);
    k_.resize(static_cast<size_t>(kKvHeads * KvHeadBytes(KvType::kF16, kHeadDim, kMaxPositions)));
    v_.resize(k_.size());
    view_ = {
        .k = k_.data(), .v = v_.data(), .n_positions = kMaxPositions, .n_kv_heads = kKvHeads, .head_dim = kHeadDim};
    for (int32_t head = 0; head < kKvHeads; ++head) {
      for (int64_t p = 0; p < kMaxPositions; ++p) {
        ops_->store(view_, head, p, Random(kHeadDim, &rng).data(), Random(kHeadDim, &rng).data());
      }
    }
    q_ = Random(kMaxRows * kStride, &rng);
  }

  // The last n_rows of n_positions: row after row and head after head, or in one run on n_threads.
  std::vector<float> Alone(int64_t n_positions, int64_t n_rows, int64_t window) {
    std::vector<float> out(static_cast<size_t>(n_rows * kStride), 7.0f);
    for (int64_t row = 0; row < n_rows; ++row) {
      for (int32_t head = 0; head < kHeads; ++head) {
        const AttentionQuery query = {.q = q_.data() + row * kStride + head * kHeadDim,
                                      .q_stride = kStride,
                                      .n_rows = 1,
                                      .n_heads = 1,
                                      .kv_head = head / (kHeads / kKvHeads),
                                      .position = n_positions - n_rows + row,
                                      .window = window,
                                      .scale = 2,
                                      .softcap = 0,
                                      .sinks = sinks_ != nullptr ? sinks_ + head : nullptr};
        ops_->attend(view_, query, out.data() + row * kStride + head * kHeadDim, kStride);
      }
    }
    return out;
  }
  std::vector<float> Together(int n_threads, int64_t n_positions, int64_t n_rows, int64_t window) {
    ThreadPool pool(n_threads);
    std::vector<float> out(static_cast<size_t>(n_rows * kStride), 7.0f);
    std::vector<float> scratch(static_cast<size_t>(AttentionScratchFloats(kHeads, kHeadDim)) + 1, 9.0f);
    const AttentionRun run = {.q = q_.data(),
                              .q_stride = kStride,
                              .n_rows = n_rows,
                              .n_heads = kHeads,
                              .position = n_positions - n_rows,
                              .window = window,
                              .scale = 2,
                              .softcap = 0,
                              .sinks = sinks_,
                              .out = out.data(),
                              .out_stride = kStride};
    Attend(pool, *ops_, view_, run, scratch.data());
    EXPECT_EQ(scratch.back(), 9.0f) << "written past the end";
    return out;
  }

  static constexpr int64_t kMaxRows = 130;
  const AttentionOps* ops_ = nullptr;
  const float* sinks_ = nullptr;
  KvLayerView view_;
  std::vector<uint8_t> k_, v_;
  std::vector<float> q_;
};

TEST_P(ParallelAttention, RunHasTheBitsOfItsRowsAndHeadsOneByOne) {
  for (const int64_t n_positions : {130, 257, 700, 1500, 5000}) {
    for (const int64_t n_rows : {1, 2, 3, 5, 8, 9, 40, 130}) {
      if (GetParam() == Isa::kScalar && n_positions * n_rows > 12'000) continue;  // slow
      for (const int64_t window : {0, 20, 600}) {
        const std::vector<float> expected = Alone(n_positions, n_rows, window);
        for (const int n_threads : {1, 2, 5}) {
          EXPECT_EQ(Together(n_threads, n_positions, n_rows, window), expected)
              << n_threads << " threads, " << n_rows << " rows of " << n_positions << " positions, window " << window;
        }
      }
    }
  }
}

TEST_P(ParallelAttention, ContextBeyondTheScratchIsFoldedInRounds) {
  for (const int64_t n_rows : {1, 8}) {
    EXPECT_EQ(Together(2, kMaxPositions, n_rows, 0), Alone(kMaxPositions, n_rows, 0)) << n_rows << " rows";
  }
}

// A sink is one more score, whose value is nothing: every number shrinks by the share that is left for the positions.
TEST_P(ParallelAttention, SinksTakeTheirShareAndKeepTheBits) {
  const float sinks[kHeads] = {-100, -1, 0, 1, 4, 100};
  for (const int64_t n_positions : {40, 700, 1500}) {
    for (const int64_t n_rows : {1, 3, 9}) {
      if (GetParam() == Isa::kScalar && n_positions * n_rows > 5'000) continue;  // slow
      for (const int64_t window : {0, 20}) {
        sinks_ = nullptr;
        const std::vector<float> without = Alone(n_positions, n_rows, window);
        sinks_ = sinks;
        const std::vector<float> expected = Alone(n_positions, n_rows, window);
        for (const int n_threads : {1, 2, 5}) {
          EXPECT_EQ(Together(n_threads, n_positions, n_rows, window), expected);
        }
        const auto last = static_cast<size_t>((n_rows - 1) * kStride);
        for (int32_t head = 0; head < kHeads; ++head) {
          std::vector<float> partials(static_cast<size_t>(PartialFloats(kHeadDim)));
          double sum = 0;  // of exp(score) over all positions
          for (int64_t tile = 0; tile * kAttentionTile < n_positions; ++tile) {
            const AttentionQuery query = {.q = q_.data() + last + static_cast<size_t>(head * kHeadDim),
                                          .kv_head = head / (kHeads / kKvHeads),
                                          .position = n_positions - 1,
                                          .window = window,
                                          .scale = 2};
            ops_->attend_tile(view_, query, tile, partials.data());
            if (partials[kHeadDim + 1] > 0) sum += std::exp(double{partials[kHeadDim]}) * partials[kHeadDim + 1];
          }
          const double share = sum / (sum + std::exp(double{sinks[head]}));
          for (size_t d = last + static_cast<size_t>(head * kHeadDim);
               d < last + static_cast<size_t>(head * kHeadDim + 8); ++d) {
            EXPECT_NEAR(expected[d], without[d] * share, 2e-6) << "head " << head;
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, ParallelAttention, ::testing::ValuesIn(kBuildIsas), [](const auto& param) {
  std::string name(IsaName(param.param));
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
});

}  // namespace
}  // namespace pantry
