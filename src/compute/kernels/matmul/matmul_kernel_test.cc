// SPDX-License-Identifier: Apache-2.0
// Every kernel of matmul_kernels.inc against the scalar truth, and the scalar truth against double precision.
#include "compute/kernels/matmul/matmul_kernel.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "compute/kernels/matmul/random_weights.h"
#include "weights/quant/dequantize.h"

namespace pantry {

void PrintTo(const MatMulKernel& kernel, std::ostream* out) { *out << kernel.name; }  // for test names

namespace {

using testing::OwnedActivations;
using testing::PackedMatrix;
using testing::RandomActivations;
using testing::RandomRows;

constexpr int64_t kRowCounts[] = {1, 15, 16, 17, 33};
constexpr float kUntouched = 12345.0f;

// Row lengths that the format allows: one block, odd counts of blocks, several hundred columns; for float formats any.
std::vector<int64_t> ColumnCounts(TensorType type) {
  const int64_t block = TraitsOf(type).block_elements;
  if (block == 1) return {1, 15, 16, 17, 100, 257};
  if (block == 32) return {32, 64, 96, 288, 416};
  return {256, 512, 768};
}

// The product by `kernel`, in rows of `stride` with the rest untouched.
std::vector<float> Product(PackedMatrix& w, const ActivationRows& x, int64_t stride) {
  std::vector<float> y(static_cast<size_t>(x.n_rows * stride), kUntouched);
  w.Compute(x, y.data(), stride);
  return y;
}

const MatMulKernel& ScalarOf(const MatMulKernel& kernel) { return *FindMatMulKernel(kernel.type, Isa::kScalar); }

// Every bit where the level has fused multiply-add and the kernel adds in the scalar order; else to 2^-16 of the largest output: the rigorous
// bound has a test of its own.
::testing::Matcher<std::vector<float>> LikeScalar(const MatMulKernel& kernel, const std::vector<float>& expected) {
  if (HasFusedMultiplyAdd(kernel.isa) && kernel.activation != ActivationFormat::kBf16)
    return ::testing::ContainerEq(expected);
  float largest = 0;
  for (const float y : expected) largest = std::max(largest, std::abs(y));
  return ::testing::Pointwise(::testing::FloatNear(largest * 0x1p-16f), expected);
}

// What a failing test and its name say of its parameter.
std::string KernelName(const ::testing::TestParamInfo<MatMulKernel>& tested) { return tested.param.name; }

template <typename Wanted>
std::vector<MatMulKernel> KernelsWhere(Wanted wanted) {
  std::vector<MatMulKernel> kernels;
  std::copy_if(AllMatMulKernels().begin(), AllMatMulKernels().end(), std::back_inserter(kernels), wanted);
  return kernels;
}

class MatMulKernels : public ::testing::TestWithParam<MatMulKernel> {
 protected:
  void SetUp() override {
    if (!IsaSupported(GetParam().isa)) GTEST_SKIP() << "this CPU does not run " << IsaName(GetParam().isa);
  }
  const MatMulKernel& kernel() const { return GetParam(); }
  // Numbers that the kernel's activation format holds exactly, where it is a float format.
  std::vector<float> Activations(int64_t m, int64_t cols) {
    std::vector<float> x = RandomActivations(m, cols, rng_);
    if (kernel().activation != ActivationFormat::kBf16) return x;
    const OwnedActivations rounded(x, m, cols);
    for (size_t i = 0; i < x.size(); ++i) x[i] = std::bit_cast<float>(uint32_t{rounded.rows.bf16[i]} << 16);
    return x;
  }
  Rng rng_{2024};
};

TEST_P(MatMulKernels, EveryShapeEqualsTheScalarKernel) {
  constexpr int64_t kBatches[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33, 145};
  size_t shape = 0;
  for (const int64_t cols : ColumnCounts(kernel().type)) {
    for (const int64_t rows : kRowCounts) {
      const std::vector<uint8_t> gguf = RandomRows(kernel().type, rows, cols, rng_);
      PackedMatrix truth_matrix(ScalarOf(kernel()), gguf, rows, cols);
      PackedMatrix matrix(kernel(), gguf, rows, cols);
      for (int i = 0; i < 4; ++i) {  // over all shapes every batch meets every row and column count several times
        const int64_t m = kBatches[(shape++ * 3) % std::size(kBatches)];
        const OwnedActivations x(Activations(m, cols), m, cols);
        ASSERT_THAT(Product(matrix, x.rows, rows), LikeScalar(kernel(), Product(truth_matrix, x.rows, rows)))
            << rows << "x" << cols << ", m " << m;
      }
    }
  }
}

// Kernels may walk rows beyond some thousand columns in ranges; the accumulators must survive the border.
TEST_P(MatMulKernels, LongRowsEqualTheScalarKernel) {
  const int64_t rows = 17, m = 23, cols = 2 * 16384 + 256;
  const std::vector<uint8_t> gguf = RandomRows(kernel().type, rows, cols, rng_);
  PackedMatrix truth_matrix(ScalarOf(kernel()), gguf, rows, cols);
  PackedMatrix matrix(kernel(), gguf, rows, cols);
  const OwnedActivations x(Activations(m, cols), m, cols);
  EXPECT_THAT(Product(matrix, x.rows, rows), LikeScalar(kernel(), Product(truth_matrix, x.rows, rows)));
}

// Kernels may walk long tiles of a single row side by side, wherever a range of tiles begins and ends.
TEST_P(MatMulKernels, LongTilesOfOneRowAreTheSameInAnyRange) {
  const int64_t cols = 2 * 16384 + 256, rows = 4 * kernel().row_tile + 1;
  const std::vector<uint8_t> gguf = RandomRows(kernel().type, rows, cols, rng_);
  PackedMatrix truth_matrix(ScalarOf(kernel()), gguf, rows, cols);
  PackedMatrix matrix(kernel(), gguf, rows, cols);
  const OwnedActivations x(Activations(1, cols), 1, cols);
  const std::vector<float> whole = Product(matrix, x.rows, rows);
  EXPECT_THAT(whole, LikeScalar(kernel(), Product(truth_matrix, x.rows, rows)));
  for (const int64_t length : {1, 2, 3}) {
    std::vector<float> parts(whole.size(), kUntouched);
    for (int64_t begin = 0; begin < matrix.n_tiles; begin += length) {
      const int64_t end = std::min(begin + length, matrix.n_tiles);
      kernel().compute(matrix.data(), rows, cols, begin, end, x.rows, parts.data(), rows);
    }
    EXPECT_EQ(parts, whole) << length << " tiles at a time";
  }
}

TEST_P(MatMulKernels, ResultsDoNotDependOnTheBatch) {
  const int64_t rows = 33, m = 23, cols = ColumnCounts(kernel().type).back();
  PackedMatrix matrix(kernel(), RandomRows(kernel().type, rows, cols, rng_), rows, cols);
  const std::vector<float> values = Activations(m, cols);
  const std::vector<float> together = Product(matrix, OwnedActivations(values, m, cols).rows, rows);
  for (int64_t i = 0; i < m; ++i) {
    const std::vector<float> one(values.begin() + i * cols, values.begin() + (i + 1) * cols);
    const std::vector<float> alone = Product(matrix, OwnedActivations(one, 1, cols).rows, rows);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + i * rows)) << "activation row " << i;
  }
}

TEST_P(MatMulKernels, TileRangeWritesItsOwnOutputsOnly) {
  const int64_t rows = 65, m = 27, stride = 80, cols = ColumnCounts(kernel().type).back();
  PackedMatrix matrix(kernel(), RandomRows(kernel().type, rows, cols, rng_), rows, cols);
  const OwnedActivations x(Activations(m, cols), m, cols);
  const std::vector<float> whole = Product(matrix, x.rows, stride);
  for (int64_t begin = 0; begin < matrix.n_tiles; begin += 2) {
    const int64_t end = std::min(begin + 2, matrix.n_tiles);
    std::vector<float> part(whole.size(), kUntouched);
    kernel().compute(matrix.data(), rows, cols, begin, end, x.rows, part.data(), stride);
    for (int64_t i = 0; i < m * stride; ++i) {
      const int64_t n = i % stride;
      const bool is_ours = n >= begin * kernel().row_tile && n < std::min(end * kernel().row_tile, rows);
      ASSERT_EQ(part[static_cast<size_t>(i)], is_ours ? whole[static_cast<size_t>(i)] : kUntouched) << "output " << n;
    }
  }
}

TEST_P(MatMulKernels, UnpackedRowEqualsDequantizeRow) {
  for (const int64_t cols : ColumnCounts(kernel().type)) {
    for (const int64_t rows : kRowCounts) {
      const std::vector<uint8_t> gguf = RandomRows(kernel().type, rows, cols, rng_);
      PackedMatrix matrix(kernel(), gguf, rows, cols);
      std::vector<float> expected(static_cast<size_t>(cols)), actual(static_cast<size_t>(cols));
      for (int64_t row = 0; row < rows; ++row) {
        DequantizeRow(kernel().type, gguf.data() + row * RowBytes(kernel().type, cols), cols, expected.data());
        kernel().unpack_row(matrix.data() + row / kernel().row_tile * matrix.tile_bytes, cols, row % kernel().row_tile,
                            actual.data());
        ASSERT_EQ(std::memcmp(actual.data(), expected.data(), static_cast<size_t>(cols) * 4), 0)
            << "row " << row << " of " << cols;
      }
    }
  }
}

TEST_P(MatMulKernels, PackingWritesEveryByteOfTheTile) {
  for (const int64_t cols : ColumnCounts(kernel().type)) {
    const std::vector<uint8_t> gguf = RandomRows(kernel().type, 17, cols, rng_);
    PackedMatrix on_zeros(kernel(), gguf, 17, cols, 0x00);
    PackedMatrix on_ones(kernel(), gguf, 17, cols, 0xFF);
    EXPECT_EQ(on_zeros.tile_bytes % 64, 0);
    EXPECT_EQ(std::memcmp(on_zeros.data(), on_ones.data(), on_zeros.lines.size() * 64), 0) << cols << " columns";
  }
}

// Kernels whose tiles can be part full.
class TiledKernels : public MatMulKernels {};
// .pantry files hold tiles, rows and columns as kernels lay them out (docs/format.md). Who changes a layout must give packs another version
// (kPackVersion, kOrderedPackVersion in weights/gguf/pack_table.h): an old one would be computed as if it were new, without an error. Then the figures here change, too.
TEST_P(MatMulKernels, TilesLieAsPacksOfThisVersionHaveThem) {
  struct Layout {
    std::string_view name;  // format and rows of a tile
    uint64_t hash;          // FNV-1a of a tile of fixed random rows
  };
  static constexpr Layout kLayouts[] = {
#include "compute/kernels/matmul/tile_layouts.inc"
  };
  const MatMulKernel& kernel = GetParam();
  constexpr int64_t kCols = 512;
  Rng rng(11);
  const std::vector<uint8_t> rows = RandomRows(kernel.type, kernel.row_tile, kCols, rng);
  std::vector<uint8_t> tile(static_cast<size_t>(kernel.packed_tile_bytes(kCols)));
  kernel.pack_tile(rows.data(), kernel.row_tile, kCols, tile.data());
  uint64_t hash = 0xcbf29ce484222325;
  for (const uint8_t byte : tile) hash = (hash ^ byte) * 0x100000001b3;
  std::string name = fmt::format("{}/{}{}", TensorTypeName(kernel.type), kernel.row_tile,
                                 kernel.activation == ActivationFormat::kBf16 ? "/bf16" : "");
  if (kernel.order == WeightOrder::kRows) name = fmt::format("{}/rows", TensorTypeName(kernel.type));
  if (kernel.order == WeightOrder::kColumns) name = kernel.name;  // each instruction set has an order of its own
  const auto* found =
      std::find_if(std::begin(kLayouts), std::end(kLayouts), [&](const Layout& l) { return l.name == name; });
#if !defined(__x86_64__)
  if (found == std::end(kLayouts)) GTEST_SKIP() << "no figure of this layout yet: " << name << " " << hash;
#endif
  ASSERT_NE(found, std::end(kLayouts)) << fmt::format("{{\"{}\", {:#x}}},", name, hash);
  EXPECT_EQ(hash, found->hash) << fmt::format("{{\"{}\", {:#x}}},", name, hash);
}

TEST_P(TiledKernels, MissingRowsOfATileAreZeroWeights) {
  const int64_t cols = ColumnCounts(kernel().type).back();
  PackedMatrix matrix(kernel(), RandomRows(kernel().type, 1, cols, rng_), 1, cols);
  std::vector<float> weights(static_cast<size_t>(cols));
  for (int64_t row = 1; row < kernel().row_tile; ++row) {
    kernel().unpack_row(matrix.data(), cols, row, weights.data());
    EXPECT_TRUE(std::all_of(weights.begin(), weights.end(), [](float w) { return w == 0.0f; })) << "row " << row;
  }
}

TEST_P(MatMulKernels, TileIsAtMostThreePercentLarger) {
  const int64_t cols = 2048;
  const int64_t gguf_bytes = RowBytes(kernel().type, cols) * kernel().row_tile;
  EXPECT_LE(static_cast<double>(kernel().packed_tile_bytes(cols)), static_cast<double>(gguf_bytes) * 1.03 + 63);
}

// All codes alike, all activations +-127: the largest sums there are, where 16-bit intermediates would saturate.
class IntegerKernels : public MatMulKernels {};
TEST_P(IntegerKernels, LargestCodesAndActivationsDoNotSaturate) {
  const int64_t rows = 17, m = 21, cols = ColumnCounts(kernel().type).back();
  for (const uint8_t code : {0x00, 0xFF, 0x77, 0x7F, 0x80, 0x81}) {
    std::vector<uint8_t> gguf(static_cast<size_t>(rows * RowBytes(kernel().type, cols)), code);
    for (size_t at = 0; at < gguf.size(); at += static_cast<size_t>(TraitsOf(kernel().type).block_bytes)) {
      for (const int offset : testing::F16Offsets(kernel().type)) {
        gguf[at + static_cast<size_t>(offset)] = 0x00;
        gguf[at + static_cast<size_t>(offset) + 1] = 0x3C;  // 1.0
      }
    }
    PackedMatrix truth_matrix(ScalarOf(kernel()), gguf, rows, cols);
    PackedMatrix matrix(kernel(), gguf, rows, cols);
    OwnedActivations x(std::vector<float>(static_cast<size_t>(m * cols), 127.0f), m, cols);
    for (int64_t i = 0; i < m * cols; ++i) {  // rows: all +, all -, alternating by 1, 2 and 16
      const int64_t row = i / cols, k = i % cols;
      const bool is_negative = row == 1 || (row == 2 && k % 2) || (row == 3 && k / 2 % 2) || (row == 4 && k / 16 % 2);
      x.rows.q[i] = is_negative ? -127 : 127;
    }
    x.SumCodes();
    EXPECT_THAT(Product(matrix, x.rows, rows), LikeScalar(kernel(), Product(truth_matrix, x.rows, rows)))
        << "bytes " << int{code};
  }
}

// Kernels over columns skip those whose activation is zero: any number of them, in any block, on any row of a batch.
class ColumnKernels : public MatMulKernels {};
TEST_P(ColumnKernels, RestingColumnsChangeNothing) {
  const int64_t cols = 416;  // 13 blocks
  for (const int64_t rows : {int64_t{1}, int64_t{31}, int64_t{255}, int64_t{256}, int64_t{300}, int64_t{531}}) {
    const std::vector<uint8_t> gguf = RandomRows(kernel().type, rows, cols, rng_);
    PackedMatrix truth_matrix(ScalarOf(kernel()), gguf, rows, cols);
    PackedMatrix matrix(kernel(), gguf, rows, cols);
    for (const double share : {0.0, 0.03, 0.1, 0.5, 0.97}) {
      for (const int64_t m : {1, 5, 40}) {
        std::vector<float> values = RandomActivations(m, cols, rng_);
        for (float& value : values) value = rng_.NextDouble() < share ? value : 0.0f;
        const OwnedActivations x(values, m, cols);
        ASSERT_THAT(Product(matrix, x.rows, rows), LikeScalar(kernel(), Product(truth_matrix, x.rows, rows)))
            << rows << " rows, " << share << " of the columns, m " << m;
      }
    }
  }
}

TEST_P(ColumnKernels, ActivationsThatAreNoNumbersAreNotSkipped) {
  const int64_t rows = 40, cols = 96;
  PackedMatrix matrix(kernel(), RandomRows(kernel().type, rows, cols, rng_), rows, cols);
  const OwnedActivations x(std::vector<float>(cols, 0.0f), 1, cols);
  x.rows.scales[1] = std::nanf("");  // what quantize_row() makes of them
  for (const float y : Product(matrix, x.rows, rows)) EXPECT_TRUE(std::isnan(y));
}

class RowKernels : public MatMulKernels {};
TEST_P(RowKernels, RowsHereAndThereAreTheWholeProductsOwn) {
  for (const int64_t cols : {int64_t{32}, int64_t{416}, int64_t{2 * 64 * 32 + 96}}) {
    const int64_t rows = 70, row_bytes = RowBytes(kernel().type, cols);
    const std::vector<uint8_t> gguf = RandomRows(kernel().type, rows, cols, rng_);
    PackedMatrix matrix(kernel(), gguf, rows, cols);
    for (const int64_t m : {int64_t{1}, int64_t{3}, int64_t{21}, int64_t{150}}) {
      const OwnedActivations x(Activations(m, cols), m, cols);
      const std::vector<float> whole = Product(matrix, x.rows, rows);
      for (const int64_t step : {int64_t{1}, int64_t{3}, int64_t{16}, int64_t{69}}) {
        std::vector<const uint8_t*> at;
        std::vector<size_t> numbers;
        for (int64_t row = rows - 1; row >= 0; row -= step) {
          at.push_back(gguf.data() + row * row_bytes);
          numbers.push_back(static_cast<size_t>(row));
        }
        const size_t n = at.size(), stride = n + 1;
        std::vector<float> y(static_cast<size_t>(m) * stride, kUntouched);
        kernel().compute_rows_at(at.data(), static_cast<int64_t>(n), cols, x.rows, y.data(),
                                 static_cast<int64_t>(stride));
        for (size_t r = 0; r < static_cast<size_t>(m); ++r) {
          for (size_t i = 0; i < n; ++i) {
            ASSERT_EQ(y[r * stride + i], whole[r * static_cast<size_t>(rows) + numbers[i]])
                << "row " << numbers[i] << ", m " << m;
          }
          EXPECT_EQ(y[r * stride + n], kUntouched);
        }
      }
    }
  }
}

// The columns of a packed matrix, each brought to a place of its own, and their scales.
struct ScatteredColumns {
  ScatteredColumns(const MatMulKernel& kernel, const uint8_t* tiles, int64_t rows, int64_t cols)
      : n_tiles((rows + kernel.row_tile - 1) / kernel.row_tile) {
    const int64_t n_blocks = cols / 32, scale_bytes = 2 * kernel.row_tile;
    const int64_t tile_bytes = kernel.packed_tile_bytes(cols),
                  column_bytes = (tile_bytes - n_blocks * scale_bytes) / cols;
    codes.assign(static_cast<size_t>(cols), std::vector<uint8_t>(static_cast<size_t>(n_tiles * column_bytes)));
    scales.resize(static_cast<size_t>(n_blocks * n_tiles * scale_bytes));
    for (int64_t t = 0; t < n_tiles; ++t) {
      const uint8_t* const tile = tiles + t * tile_bytes;
      for (int64_t b = 0; b < n_blocks; ++b) {
        std::copy_n(tile + b * scale_bytes, scale_bytes, scales.data() + (b * n_tiles + t) * scale_bytes);
      }
      for (int64_t c = 0; c < cols; ++c) {
        std::copy_n(tile + n_blocks * scale_bytes + c * column_bytes, column_bytes,
                    codes[static_cast<size_t>(c)].data() + t * column_bytes);
      }
    }
  }
  int64_t n_tiles;
  std::vector<std::vector<uint8_t>> codes;
  std::vector<uint8_t> scales;
};

TEST_P(ColumnKernels, ColumnsHereAndThereRangeAfterRangeGiveTheWholeProduct) {
  const int64_t cols = 416;
  for (const int64_t rows : {int64_t{31}, int64_t{256}, int64_t{2900}}) {
    const std::vector<uint8_t> gguf = RandomRows(kernel().type, rows, cols, rng_);
    PackedMatrix matrix(kernel(), gguf, rows, cols);
    const ScatteredColumns scattered(kernel(), matrix.data(), rows, cols);
    const std::vector<uint8_t> garbage(scattered.codes[0].size(), 0xA5);
    for (const double share : {0.1, 0.9}) {
      for (const int64_t m : {int64_t{1}, int64_t{2}, int64_t{5}, int64_t{20}}) {
        std::vector<float> values = RandomActivations(m, cols, rng_);
        std::vector<const uint8_t*> at(static_cast<size_t>(cols), garbage.data());
        for (int64_t c = 0; c < cols; ++c) {
          if (rng_.NextDouble() < share) at[static_cast<size_t>(c)] = scattered.codes[static_cast<size_t>(c)].data();
          else
            for (int64_t r = 0; r < m; ++r) values[static_cast<size_t>(r * cols + c)] = 0;
        }
        const OwnedActivations x(values, m, cols);
        const std::vector<float> whole = Product(matrix, x.rows, rows);
        for (const int64_t width : {int64_t{32}, int64_t{160}, cols}) {
          std::vector<float> y(whole.size(), kUntouched);
          for (int64_t begin = 0; begin < cols; begin += width) {
            for (const auto& [t0, t1] : {std::pair<int64_t, int64_t>{0, 1}, {1, scattered.n_tiles}}) {
              kernel().compute_columns_at(at.data(), scattered.scales.data(), rows, t0, t1, begin,
                                          std::min(begin + width, cols), x.rows, y.data(), rows);
            }
          }
          ASSERT_EQ(y, whole) << rows << " rows, " << share << " of the columns, m " << m << ", width " << width;
        }
      }
    }
  }
}

// Against double precision on the decoded weights and activations: every term and every addition of the n blocks rounds a few times
// by 2^-24, so the error is below (2 n + 8) 2^-24 times the sum of the terms' magnitudes. A weight may be the difference of code * scale
// and a minimum that are both larger: at most the span of the row's weights.
TEST_P(MatMulKernels, ErrorStaysBelowTheStatedBound) {
  const int64_t rows = 16, m = 2, cols = ColumnCounts(kernel().type).back();
  const std::vector<uint8_t> gguf = RandomRows(kernel().type, rows, cols, rng_);
  PackedMatrix matrix(kernel(), gguf, rows, cols);
  const OwnedActivations x(Activations(m, cols), m, cols);
  const std::vector<float> y = Product(matrix, x.rows, rows);
  std::vector<float> weights(static_cast<size_t>(cols));
  for (int64_t n = 0; n < rows; ++n) {
    DequantizeRow(kernel().type, gguf.data() + n * RowBytes(kernel().type, cols), cols, weights.data());
    const auto [low, high] = std::minmax_element(weights.begin(), weights.end());
    const double spread = std::max(std::abs(*low), std::abs(*high)) * 2.0;
    for (int64_t i = 0; i < m; ++i) {
      double sum = 0, magnitude = 0;
      for (int64_t k = 0; k < cols; ++k) {
        const int64_t at = i * cols + k;
        const double value = kernel().activation == ActivationFormat::kQ8
                                 ? double{x.rows.scales[at / kActivationBlock]} * x.rows.q[at]
                                 : x.f32[static_cast<size_t>(at)];
        sum += weights[static_cast<size_t>(k)] * value;
        magnitude += spread * std::abs(value);
      }
      const double bound = (2.0 * static_cast<double>(cols) / 16 + 8) * 0x1.0p-24 * magnitude;
      EXPECT_NEAR(y[static_cast<size_t>(i * rows + n)], sum, bound) << "output " << n;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, MatMulKernels,
                         ::testing::ValuesIn(KernelsWhere([](const MatMulKernel&) { return true; })), KernelName);
INSTANTIATE_TEST_SUITE_P(All, TiledKernels,
                         ::testing::ValuesIn(KernelsWhere([](const MatMulKernel& k) { return k.row_tile > 1; })),
                         KernelName);
INSTANTIATE_TEST_SUITE_P(All, IntegerKernels, ::testing::ValuesIn(KernelsWhere([](const MatMulKernel& k) {
                           return k.activation == ActivationFormat::kQ8;
                         })),
                         KernelName);

INSTANTIATE_TEST_SUITE_P(All, ColumnKernels, ::testing::ValuesIn(KernelsWhere([](const MatMulKernel& k) {
                           return k.order == WeightOrder::kColumns;
                         })),
                         KernelName);
INSTANTIATE_TEST_SUITE_P(All, RowKernels, ::testing::ValuesIn(KernelsWhere([](const MatMulKernel& k) {
                           return k.order == WeightOrder::kRows;
                         })),
                         KernelName);

TEST(FindMatMulKernel, GivesTheBestKernelThatTheLevelIncludes) {
  for (const TensorTypeTraits& traits : AllTensorTypes()) {
    for (const Isa isa : kBuildIsas) {
      const MatMulKernel* found = FindMatMulKernel(traits.type, isa);
      if (!traits.is_weight) {
        EXPECT_EQ(found, nullptr) << traits.name;
        continue;
      }
      ASSERT_NE(found, nullptr) << traits.name;
      EXPECT_EQ(found->type, traits.type);
      EXPECT_TRUE(IsaIncludes(isa, found->isa)) << IsaName(isa) << " gets " << found->name;
      for (const MatMulKernel& other : AllMatMulKernels()) {
        EXPECT_FALSE(other.type == traits.type && IsaIncludes(isa, other.isa) && other.isa > found->isa)
            << IsaName(isa) << " gets " << found->name << " for " << other.name;
      }
    }
  }
}

TEST(RoundRowToBf16, RoundsToNearestEven) {
  const std::vector<std::pair<float, uint16_t>> cases = {
      {0.0f, 0x0000},        {-1.0f, 0xBF80},      {0x1.01p0f, 0x3F80},  // half way, the even one is below
      {0x1.03p0f, 0x3F82},                                               // half way, the even one is above
      {0x1.0102p0f, 0x3F81}, {0x1.FFFp0f, 0x4000}, {0x1.FFFFFEp127f, 0x7F80},
      {-HUGE_VALF, 0xFF80},  {0x1p-130f, 0x0000}};
  for (const auto& [value, expected] : cases) {
    const OwnedActivations x({value}, 1, 1);
    EXPECT_EQ(x.rows.bf16[0], expected) << value;
  }
  const OwnedActivations not_a_number({std::nanf("")}, 1, 1);
  EXPECT_TRUE(std::isnan(std::bit_cast<float>(uint32_t{not_a_number.rows.bf16[0]} << 16)));
}

#if defined(__x86_64__)
TEST(FindMatMulKernel, EveryFormatHasAKernelForEachX86Level) {
  for (const TensorTypeTraits& traits : AllTensorTypes()) {
    if (!traits.is_weight) continue;
    const bool is_float = FindMatMulKernel(traits.type, Isa::kScalar)->activation == ActivationFormat::kF32;
    for (const Isa isa : {Isa::kX86V2, Isa::kAvx2, Isa::kAvx512}) {
      EXPECT_EQ(FindMatMulKernel(traits.type, isa)->isa, isa) << traits.name;
    }
    for (const Isa isa : {Isa::kAvx2Vnni, Isa::kAvx512Vnni}) {
      const Isa without_vnni = isa == Isa::kAvx2Vnni ? Isa::kAvx2 : Isa::kAvx512;
      EXPECT_EQ(FindMatMulKernel(traits.type, isa)->isa, is_float ? without_vnni : isa) << traits.name;
    }
  }
}
#endif

}  // namespace
}  // namespace pantry
