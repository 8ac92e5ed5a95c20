// SPDX-License-Identifier: Apache-2.0
#include "compute/neuron_matmul.h"

#include <algorithm>
#include <array>

#include "base/status.h"
#include "base/units.h"

namespace pantry {
namespace {

// Rows of x in one go, so that what a kernel makes of a tile's codes serves all of them; and those times the neurons that are activated then: L2
// keeps what comes of them. 128 rows instead of 32 in 16 KiB: prompts of bamboo-7b 5 % faster on AMX, the same on AVX512-VNNI.
constexpr int64_t kRows = 128;
constexpr int64_t kPartFloats = 16384;
constexpr int64_t kMaxPart = NeuronPredictor::kMostAtOnce;
// Neurons from a source. A part of a few rows takes some 15 us to come from memory; many rows' kernel takes so many together.
constexpr int64_t kPartOfFewRows = 64;
constexpr int64_t kPartOfManyRows = 128;
constexpr int64_t kQuantizeStrip = 4 * kActivationBlock;  // neurons that are quantised together
static_assert(kPartOfManyRows * kRows <= kPartFloats);
// Neurons in memory are activated and quantised in strips. A strip of a few rows is long, so that up's rows are one stream: its first ones are
// those that nobody asked for before.
constexpr int64_t kStripsPerThread = 4;

// Neurons, at most kMaxPart, for all rows of x: at most kPartFloats with the rows of one go.
void ActivatePart(const NeuronRun& run, std::span<const int32_t> neurons, const uint8_t* const* bundles) {
  if (neurons.empty()) return;
  const WeightMatrix& up = run.layout->up;
  const auto n = static_cast<int64_t>(neurons.size());
  std::array<float, kPartFloats> products;
  alignas(64) std::array<float, kMaxPart> gates;
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

// Neurons [begin, begin + n), at most kMaxPart, of which `firing` were activated and the others rest, for all rows: in the form that down reads.
void QuantizeStrip(const NeuronRun& run, int64_t begin, int64_t n, std::span<const int32_t> firing) {
  alignas(64) std::array<float, kMaxPart> strip;
  for (int64_t row = 0; row < run.x.n_rows; ++row) {
    const float* const activated = run.gate + row * run.gate_stride;
    std::fill_n(strip.begin(), n, 0.0F);
    for (const int32_t neuron : firing) strip[static_cast<size_t>(neuron - begin)] = activated[neuron];
    ActivationRows piece = run.hidden.Piece(row, begin, n);
    piece.f32 = strip.data();
    run.ops->quantize_row(piece, 0);
  }
}

int64_t StripOf(int64_t n_neurons, int64_t n_rows, int n_threads) {
  const int64_t of_rows = kPartFloats / std::min(n_rows, kRows) / kActivationBlock * kActivationBlock;
  const int64_t most = std::min(kMaxPart, of_rows);
  const int64_t fair = AlignUp(n_neurons / (n_threads * kStripsPerThread), kActivationBlock);
  return std::clamp<int64_t>(fair, 4 * kActivationBlock, most);
}

// Tiles of down over neurons [begin, end), whose columns are in run.columns. Columns of what rests are read by kernels that take all of
// them, and times zero: any codes will do.
void ComputeDown(ThreadPool& pool, const NeuronRun& run, int64_t begin, int64_t end) {
  const WeightMatrix& down = run.layout->down;
  const int64_t n_tiles = down.n_tiles();
  const int64_t n_shares = std::min<int64_t>(n_tiles, pool.n_threads());
  pool.ParallelFor(n_shares, [&](int64_t share, int) {
    down.kernel->compute_columns_at(run.columns, run.scales, down.rows, n_tiles * share / n_shares,
                                    n_tiles * (share + 1) / n_shares, begin, end, run.hidden, run.out, down.rows);
  });
}

const float* ReducedOf(const NeuronChoice& choice, int64_t row) {
  return choice.prediction->reduced + row * choice.prediction->most_rank;
}

// What a predictor says of neurons [begin, begin + n): others' gates become zero.
void Predict(const NeuronRun& run, const NeuronChoice& choice, int64_t begin, int64_t n) {
  if (choice.gate != nullptr) {
    choice.prediction->Count(n, choice.predictor->ComputePredicted(ReducedOf(choice, 0), *choice.gate, nullptr, begin,
                                                                   n, run.x, run.gate + begin));
    return;
  }
  for (int64_t row = 0; row < run.x.n_rows; ++row) {
    choice.prediction->Count(
        n, choice.predictor->Mask(ReducedOf(choice, row), begin, n, run.gate + row * run.gate_stride + begin));
  }
}

// Lists what fires of neurons [begin, begin + n) in any row. Of several rows, gates that do not fire become zero.
size_t ListFiring(const NeuronRun& run, const NeuronChoice& choice, int64_t begin, int64_t n, int32_t* list) {
  const FiringGates firing = choice.firing;
  size_t n_listed = 0;
  if (run.x.n_rows == 1) {
    for (int64_t i = begin; i < begin + n; ++i) {
      list[n_listed] = static_cast<int32_t>(i);
      n_listed += firing.Contain(run.gate[i]) ? 1 : 0;
    }
    if (choice.n_firing != nullptr)
      choice.n_firing->fetch_add(static_cast<int64_t>(n_listed), std::memory_order_relaxed);
    return n_listed;
  }
  std::array<uint8_t, kMaxPart> fires = {};
  int64_t n_firing = 0;
  for (int64_t row = 0; row < run.x.n_rows; ++row) {
    float* const gate = run.gate + row * run.gate_stride + begin;
    for (int64_t i = 0; i < n; ++i) {
      const bool does = firing.Contain(gate[i]);
      fires[static_cast<size_t>(i)] |= static_cast<uint8_t>(does);
      n_firing += does ? 1 : 0;
      gate[i] = does ? gate[i] : 0.0F;
    }
  }
  if (choice.n_firing != nullptr) choice.n_firing->fetch_add(n_firing, std::memory_order_relaxed);
  for (int64_t i = 0; i < n; ++i) {
    list[n_listed] = static_cast<int32_t>(begin + i);
    n_listed += fires[static_cast<size_t>(i)];
  }
  return n_listed;
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
  const int64_t n_strips = (range.end - range.begin + kQuantizeStrip - 1) / kQuantizeStrip;
  const auto quantize = [&](int64_t item, int) {
    const int64_t begin = range.begin + item * kQuantizeStrip, n = std::min(kQuantizeStrip, range.end - begin);
    const auto first = std::lower_bound(range.firing.begin(), range.firing.end(), static_cast<int32_t>(begin));
    QuantizeStrip(run, begin, n, {first, std::lower_bound(first, range.firing.end(), static_cast<int32_t>(begin + n))});
  };
  if (run.x.n_rows > kFewRows) pool.ParallelFor(n_strips, quantize);
  else
    for (int64_t strip = 0; strip < n_strips; ++strip) quantize(strip, 0);  // sooner done than told

  const uint8_t* const any = range.bundles.empty() ? run.scales : layout.ColumnOf(range.bundles[0]);
  std::fill(run.columns + range.begin, run.columns + range.end, any);
  for (size_t i = 0; i < range.firing.size(); ++i) run.columns[range.firing[i]] = layout.ColumnOf(range.bundles[i]);
  ComputeDown(pool, run, range.begin, range.end);
}

void ComputeNeurons(ThreadPool& pool, const NeuronRun& run, const NeuronChoice& choice) {
  const NeuronLayout& layout = *run.layout;
  PANTRY_CHECK(layout.down.kernel->activation == ActivationFormat::kQ8 &&
               (choice.gate == nullptr || run.x.n_rows == 1));
  const int64_t n_neurons = layout.n_neurons(), width = StripOf(n_neurons, run.x.n_rows, pool.n_threads());
  pool.ParallelFor((n_neurons + width - 1) / width, [&](int64_t strip, int) {
    const int64_t begin = strip * width, n = std::min(width, n_neurons - begin);
    if (choice.predictor != nullptr) Predict(run, choice, begin, n);
    std::array<int32_t, kMaxPart> list;
    std::array<const uint8_t*, kMaxPart> bundles;
    const size_t n_listed = ListFiring(run, choice, begin, n, list.data());
    std::fill_n(run.columns + begin, n, layout.ColumnOf(run.scales + layout.bundle_offset(begin)));
    for (size_t i = 0; i < n_listed; ++i) {
      bundles[i] = run.scales + layout.bundle_offset(list[i]);
      run.columns[list[i]] = layout.ColumnOf(bundles[i]);
    }
    ActivatePart(run, {list.data(), n_listed}, bundles.data());
    QuantizeStrip(run, begin, n, {list.data(), n_listed});
  });
  ComputeDown(pool, run, 0, n_neurons);
}

void ComputeUps(ThreadPool& pool, const NeuronLayout& layout, const uint8_t* block, const ActivationRows& x, float* up,
                int64_t stride) {
  constexpr int64_t kAtOnce = 64;
  const int64_t n_neurons = layout.n_neurons();
  pool.ParallelFor((n_neurons + kAtOnce - 1) / kAtOnce, [&](int64_t part, int) {
    const int64_t begin = part * kAtOnce, n = std::min(kAtOnce, n_neurons - begin);
    std::array<const uint8_t*, kAtOnce> rows;
    for (int64_t i = 0; i < n; ++i) rows[static_cast<size_t>(i)] = block + layout.bundle_offset(begin + i);
    layout.up.kernel->compute_rows_at(rows.data(), n, layout.up.cols, x, up + begin, stride);
  });
}

}  // namespace pantry
