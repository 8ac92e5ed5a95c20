// SPDX-License-Identifier: Apache-2.0
#include "compute/neuron_matmul.h"

#include <algorithm>
#include <array>

#include "base/status.h"

namespace pantry {
namespace {

constexpr int64_t kStrip = 4 * kActivationBlock;  // neurons that are quantised together
constexpr int64_t kRows = 32;                     // of x, in one go: what comes of them stays in L1
constexpr int64_t kFewRows = 4;
// Neurons of a part: a few rows' take some 15 us to come from memory; many rows' kernel takes so many together.
constexpr int64_t kPartOfFewRows = 64;
constexpr int64_t kPartOfManyRows = 128;

// Neurons of a part, for all rows of x.
void ActivatePart(const NeuronRun& run, std::span<const int32_t> neurons, const uint8_t* const* bundles) {
  const WeightMatrix& up = run.layout->up;
  const auto n = static_cast<int64_t>(neurons.size());
  std::array<float, kPartOfManyRows * kRows> products;
  std::array<float, kPartOfManyRows> gates;
  for (int64_t row = 0; row < run.x.n_rows; row += kRows) {
    const int64_t n_rows = std::min(kRows, run.x.n_rows - row);
    up.kernel->compute_rows_at(bundles, n, up.cols, run.x.Rows(row, n_rows), products.data(), n);
    for (int64_t r = 0; r < n_rows; ++r) {
      float* const gate = run.gate + (row + r) * run.gate_stride;
      float* const product = products.data() + r * n;
      for (size_t i = 0; i < neurons.size(); ++i) gates[i] = gate[neurons[i]];
      run.activation(gates.data(), product, n, product);
      for (size_t i = 0; i < neurons.size(); ++i) gate[neurons[i]] = product[i];
    }
  }
}

// Neurons [begin, begin + kStrip) of the range, for all rows: zero where they rest, in the form that down reads.
void QuantizeStrip(const NeuronRun& run, const NeuronRange& range, int64_t begin) {
  const int64_t n = std::min(kStrip, range.end - begin);
  const auto first = std::lower_bound(range.firing.begin(), range.firing.end(), static_cast<int32_t>(begin));
  const auto last = std::lower_bound(first, range.firing.end(), static_cast<int32_t>(begin + n));
  alignas(64) std::array<float, kStrip> strip;
  for (int64_t row = 0; row < run.x.n_rows; ++row) {
    const float* const activated = run.gate + row * run.gate_stride;
    std::fill_n(strip.begin(), n, 0.0F);
    for (auto neuron = first; neuron != last; ++neuron)
      strip[static_cast<size_t>(*neuron - begin)] = activated[*neuron];
    ActivationRows piece = run.hidden.Piece(row, begin, n);
    piece.f32 = strip.data();
    run.ops->quantize_row(piece, 0);
  }
}

}  // namespace

void ActivateNeurons(ThreadPool& pool, const NeuronRun& run, std::span<const int32_t> neurons,
                     std::span<const uint8_t* const> bundles, FunctionRef<void()> between) {
  PANTRY_CHECK(neurons.size() == bundles.size());
  const auto part = static_cast<size_t>(run.x.n_rows <= kFewRows ? kPartOfFewRows : kPartOfManyRows);
  pool.ParallelFor(static_cast<int64_t>((neurons.size() + part - 1) / part), [&](int64_t item, int thread) {
    const size_t first = static_cast<size_t>(item) * part, n = std::min(part, neurons.size() - first);
    ActivatePart(run, neurons.subspan(first, n), bundles.data() + first);
    if (thread == 0 && between) between();
  });
}

void SumNeurons(ThreadPool& pool, const NeuronRun& run, const NeuronRange& range) {
  const NeuronLayout& layout = *run.layout;
  PANTRY_CHECK(layout.down.kernel->activation == ActivationFormat::kQ8 && range.firing.size() == range.bundles.size());
  const int64_t n_strips = (range.end - range.begin + kStrip - 1) / kStrip;
  const auto quantize = [&](int64_t strip, int) { QuantizeStrip(run, range, range.begin + strip * kStrip); };
  if (run.x.n_rows > kFewRows) pool.ParallelFor(n_strips, quantize);
  else
    for (int64_t strip = 0; strip < n_strips; ++strip) quantize(strip, 0);  // sooner done than told

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
