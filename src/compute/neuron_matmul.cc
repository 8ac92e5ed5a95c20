// SPDX-License-Identifier: Apache-2.0
#include "compute/neuron_matmul.h"

#include <algorithm>
#include <array>

#include "base/status.h"

namespace pantry {
namespace {

constexpr int64_t kStrip = 4 * kActivationBlock;  // neurons that are activated and quantised together
constexpr int64_t kRows = 32;                     // of x, in one go: what a strip makes of them stays in L1

// Neurons [begin, begin + kStrip) of the range, for all rows of x.
void ComputeStrip(const NeuronRun& run, const NeuronRange& range, int64_t begin) {
  const int64_t n = std::min(kStrip, range.end - begin);
  const auto first = std::lower_bound(range.firing.begin(), range.firing.end(), static_cast<int32_t>(begin));
  const auto last = std::lower_bound(first, range.firing.end(), static_cast<int32_t>(begin + n));
  const std::span<const int32_t> firing(first, last);
  const auto n_firing = static_cast<int64_t>(firing.size());
  const uint8_t* const* const bundles = range.bundles.data() + (first - range.firing.begin());
  const WeightMatrix& up = run.layout->up;
  std::array<float, kStrip * kRows> products;
  alignas(64) std::array<float, kStrip> gates, strip;
  for (int64_t row = 0; row < run.x.n_rows; row += kRows) {
    const int64_t n_rows = std::min(kRows, run.x.n_rows - row);
    if (n_firing > 0) {
      up.kernel->compute_rows_at(bundles, n_firing, up.cols, run.x.Rows(row, n_rows), products.data(), n_firing);
    }
    for (int64_t r = 0; r < n_rows; ++r) {
      const float* const gate = run.gate + (row + r) * run.gate_stride;
      float* const product = products.data() + r * n_firing;
      for (int64_t i = 0; i < n_firing; ++i) gates[static_cast<size_t>(i)] = gate[firing[static_cast<size_t>(i)]];
      run.activation(gates.data(), product, n_firing, product);
      std::fill_n(strip.begin(), n, 0.0F);
      for (int64_t i = 0; i < n_firing; ++i) {
        strip[static_cast<size_t>(firing[static_cast<size_t>(i)] - begin)] = product[i];
      }
      ActivationRows piece = run.hidden.Piece(row + r, begin, n);
      piece.f32 = strip.data();
      run.ops->quantize_row(piece, 0);
    }
  }
}

}  // namespace

void ComputeNeurons(ThreadPool& pool, const NeuronRun& run, const NeuronRange& range) {
  const NeuronLayout& layout = *run.layout;
  PANTRY_CHECK(layout.down.kernel->activation == ActivationFormat::kQ8 && range.firing.size() == range.bundles.size());
  const int64_t n_strips = (range.end - range.begin + kStrip - 1) / kStrip;
  pool.ParallelFor(n_strips, [&](int64_t strip, int) { ComputeStrip(run, range, range.begin + strip * kStrip); });

  // Columns of what rests are read by kernels that take all of them, and times zero: any codes will do.
  const uint8_t* const any = range.bundles.empty() ? run.scales : layout.ColumnOf(range.bundles[0]);
  std::fill(run.columns + range.begin, run.columns + range.end, any);
  for (size_t i = 0; i < range.firing.size(); ++i) run.columns[range.firing[i]] = layout.ColumnOf(range.bundles[i]);
  const WeightMatrix& down = layout.down;
  const int64_t n_tiles = down.n_tiles();
  const int64_t n_shares = std::min<int64_t>(n_tiles, pool.n_threads());
  pool.ParallelFor(n_shares, [&](int64_t share, int) {
    down.kernel->compute_columns_at(run.columns, run.scales, down.rows, n_tiles * share / n_shares,
                                    n_tiles * (share + 1) / n_shares, range.begin, range.end, run.hidden, run.out,
                                    down.rows);
  });
}

}  // namespace pantry
