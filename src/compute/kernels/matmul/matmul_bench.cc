// SPDX-License-Identifier: Apache-2.0
// Every kernel of matmul_kernels.inc on one thread: GEMV over weights that no cache holds (GB/s of weights, beside a plain read of as much
// memory), also with a tenth of the activations or rows used ("used": GB/s as if all were read in columns, of the rows in rows), and blocks of 64 and 128 activation rows (GOPS: a multiplication and an addition are two operations).
#include <benchmark/benchmark.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/rng.h"
#include "compute/kernels/matmul/matmul_kernel.h"
#include "compute/kernels/matmul/random_weights.h"
#include "sys/aligned_buffer.h"

namespace pantry {
namespace {

constexpr int64_t kCols = 2048;
constexpr int64_t kColdBytes = 96 << 20;  // three times the last-level cache of a common server slice
constexpr int64_t kWarmRows = 512;
constexpr double kUsedShare = 0.1;  // of the neurons of a layer that fire for a token

// A matrix whose tiles repeat a few random ones: a kernel's time does not depend on the values.
struct RepeatedMatrix {
  RepeatedMatrix(const MatMulKernel& k, int64_t n_bytes)
      : kernel(k),
        tile_bytes(k.packed_tile_bytes(kCols)),
        n_tiles(n_bytes / tile_bytes),
        memory(AlignedBuffer::Allocate(static_cast<size_t>(n_tiles * tile_bytes)).value()) {
    Rng rng(7);
    constexpr int64_t kDistinctRows = 32;
    testing::PackedMatrix seed(k, testing::RandomRows(k.type, kDistinctRows, kCols, rng), kDistinctRows, kCols);
    for (int64_t t = 0; t < n_tiles; ++t) {
      std::memcpy(memory.data() + t * tile_bytes, seed.data() + t % seed.n_tiles * tile_bytes,
                  static_cast<size_t>(tile_bytes));
    }
  }
  const MatMulKernel& kernel;
  int64_t tile_bytes, n_tiles;
  AlignedBuffer memory;  // in huge pages, as a model's weights
};

// `used`: share of the activations that are not zero.
void RunMatMul(benchmark::State& state, const MatMulKernel& kernel, int64_t n_bytes, int64_t m, double used) {
  RepeatedMatrix w(kernel, n_bytes);
  Rng rng(8);
  std::vector<float> values = testing::RandomActivations(m, kCols, rng);
  for (float& value : values) value = rng.NextDouble() < used ? value : 0.0f;
  const testing::OwnedActivations x(values, m, kCols);
  const int64_t rows = w.n_tiles * kernel.row_tile;
  std::vector<float> y(static_cast<size_t>(m * rows));
  for (auto _ : state) {
    kernel.compute(w.memory.data(), rows, kCols, 0, w.n_tiles, x.rows, y.data(), rows);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  const auto n = static_cast<double>(state.iterations());
  state.counters["weights_GB/s"] =
      benchmark::Counter(n * static_cast<double>(w.n_tiles * w.tile_bytes) * 1e-9, benchmark::Counter::kIsRate);
  state.counters["GOPS"] =
      benchmark::Counter(n * 2e-9 * static_cast<double>(m * rows * kCols), benchmark::Counter::kIsRate);
}

// One row in ten of a matrix that no cache holds: GB/s of those.
void RunRowsAt(benchmark::State& state, const MatMulKernel& kernel) {
  RepeatedMatrix w(kernel, kColdBytes);
  Rng rng(8);
  const testing::OwnedActivations x(testing::RandomActivations(1, kCols, rng), 1, kCols);
  std::vector<const uint8_t*> list;
  for (int64_t row = 0; row < w.n_tiles * kernel.row_tile; ++row) {
    if (rng.NextDouble() >= kUsedShare) continue;
    list.push_back(w.memory.data() + row / kernel.row_tile * w.tile_bytes +
                   row % kernel.row_tile * RowBytes(kernel.type, kCols));
  }
  std::vector<float> y(list.size());
  const auto n_listed = static_cast<int64_t>(list.size());
  for (auto _ : state) {
    kernel.compute_rows_at(list.data(), n_listed, kCols, x.rows, y.data(), n_listed);
    benchmark::ClobberMemory();
  }
  state.counters["weights_GB/s"] =
      benchmark::Counter(static_cast<double>(state.iterations() * n_listed * w.tile_bytes / kernel.row_tile) * 1e-9,
                         benchmark::Counter::kIsRate);
}

void RunPack(benchmark::State& state, const MatMulKernel& kernel) {
  Rng rng(9);
  const std::vector<uint8_t> gguf = testing::RandomRows(kernel.type, kernel.row_tile, kCols, rng);
  std::vector<uint8_t> tile(static_cast<size_t>(kernel.packed_tile_bytes(kCols)));
  for (auto _ : state) {
    kernel.pack_tile(gguf.data(), kernel.row_tile, kCols, tile.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(gguf.size()));
}

// What the memory gives to one thread: the figure to compare GEMV with.
void PlainRead(benchmark::State& state) {
  std::vector<uint64_t> memory(static_cast<size_t>(kColdBytes) / 8, 1);
  for (auto _ : state) {
    uint64_t sums[8] = {};
    for (size_t i = 0; i < memory.size(); i += 8) {
      for (size_t j = 0; j < 8; ++j) sums[j] += memory[i + j];
    }
    benchmark::DoNotOptimize(sums);
  }
  state.counters["weights_GB/s"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * static_cast<double>(kColdBytes) * 1e-9, benchmark::Counter::kIsRate);
}

const bool kRegistered = [] {
  benchmark::RegisterBenchmark("PlainRead", PlainRead);
  for (const MatMulKernel& kernel : AllMatMulKernels()) {
    if (!IsaSupported(kernel.isa)) continue;
    const int64_t warm_bytes = kWarmRows / kernel.row_tile * kernel.packed_tile_bytes(kCols);
    const std::string name = kernel.name;
    if (kernel.isa != Isa::kScalar) {
      benchmark::RegisterBenchmark((name + "/cold/m1").c_str(), RunMatMul, kernel, kColdBytes, 1, 1.0);
      if (kernel.order == WeightOrder::kColumns)
        benchmark::RegisterBenchmark((name + "/cold/used").c_str(), RunMatMul, kernel, kColdBytes, 1, kUsedShare);
      if (kernel.order == WeightOrder::kRows)
        benchmark::RegisterBenchmark((name + "/cold/used").c_str(), RunRowsAt, kernel);
      benchmark::RegisterBenchmark((name + "/m64").c_str(), RunMatMul, kernel, warm_bytes, 64, 1.0);
      benchmark::RegisterBenchmark((name + "/m128").c_str(), RunMatMul, kernel, warm_bytes, 128, 1.0);
    }
    benchmark::RegisterBenchmark((name + "/m1").c_str(), RunMatMul, kernel, warm_bytes, 1, 1.0);
    benchmark::RegisterBenchmark((name + "/pack").c_str(), RunPack, kernel);
  }
  return true;
}();

}  // namespace
}  // namespace pantry
