// SPDX-License-Identifier: Apache-2.0
// Integer kernels for AMX-INT8: 16 weight rows by 16 activation rows by a block of 32 columns (or half of one) per instruction.
//
// Tiles of weights are those of AVX512: a block's eight vectors of codes, 16 rows x 4 columns each, are what TDPBSSD wants of its second factor.
// They are decoded to signed codes once for kMaxGroups * 16 activation rows; the instruction gives their exact sums, which go through L1 to
// the same multiply-adds as everywhere. Up to 15 activation rows that are left go the way of AVX512-VNNI.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // _mm512_undefined_ps() in GCC 12's own header
#endif
#include <immintrin.h>

#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/quant_format.h"

namespace pantry::matmul {
namespace {

#include "compute/kernels/matmul/avx512_vectors.inc"

constexpr bool kSignedBytes = false;
PANTRY_INLINE Ints AddDotBytes(Ints sum, Ints codes, Ints values) { return _mm512_dpbusd_epi32(sum, codes, values); }

#include "compute/kernels/matmul/vnni_dot.inc"

#define PANTRY_READ_AHEAD_BYTES kAmxReadAheadBytes
#include "compute/kernels/matmul/integer_kernel.inc"

constexpr int kGroupRows = 16;  // of activations, that one instruction takes
constexpr int kMaxGroups = 8;   // for which a block is decoded once
constexpr int kAmxBlocks = 16;  // of a range: its codes and a group's activations, 8 KiB each, stay in L1
constexpr int kVectorBytes = 64;

// Blocks of which there are minima to keep: this much less of a thread's stack where there are none.
template <QuantFormat F>
constexpr int kMinimaBlocks = F.has_min ? kAmxBlocks : 1;

// A range of one tile of weights.
template <QuantFormat F>
struct DecodedTile {
  alignas(64) uint8_t codes[kAmxBlocks][8][kVectorBytes];  // signed
  alignas(64) float scales[kAmxBlocks][kSubsOf<F>][kR];
  alignas(64) float minima[kMinimaBlocks<F>][kSubsOf<F>][kR];  // m or -w_min, as LoadScales() gives it
};

// A range of 16 activation rows.
template <QuantFormat F>
struct ActivationGroup {
  alignas(64) int8_t q[kAmxBlocks][kGroupRows][kBlockCols];
  float scales[kGroupRows][kAmxBlocks];
  float corrections[kGroupRows][kSubsOf<F>][kMinimaBlocks<F>];  // the factor of the minimum
};

// Shapes of the matrix registers: 0 and 3 sums, 1 and 4 activations, 2 and 5 weights.
template <QuantFormat F>
void ConfigureTiles() {
  struct alignas(64) Config {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  for (int i = 0; i < 6; i += 3) {
    config.row_bytes[i] = config.row_bytes[i + 2] = kVectorBytes;
    config.row_bytes[i + 1] = F.sub_cols;
    config.rows[i] = config.rows[i + 1] = kGroupRows;
    config.rows[i + 2] = F.sub_cols / 4;
  }
  __asm__ volatile("" : : "r"(&config) : "memory");  // GCC 12 believes that 8 bytes of it are read
  _tile_loadconfig(&config);
}

template <QuantFormat F>
void PrepareGroup(const ActivationRows& x, int64_t first, int64_t begin, int64_t n_blocks, ActivationGroup<F>* out) {
  for (int r = 0; r < kGroupRows; ++r) {
    const int64_t at = (first + r) * (x.n_cols / kBlockCols) + begin;
    const int8_t* const q = x.q + at * kBlockCols;
    for (int64_t b = 0; b < n_blocks; ++b) __builtin_memcpy(out->q[b][r], q + b * kBlockCols, kBlockCols);
    __builtin_memcpy(out->scales[r], x.scales + at, static_cast<size_t>(n_blocks) * sizeof(float));
    if constexpr (F.has_min) {
      for (int i = 0; i < kSubsOf<F>; ++i) {
        for (int64_t b = 0; b < n_blocks; ++b) {
          out->corrections[r][i][b] = __builtin_bit_cast(float, Correction<F>(x, at + b, i));
        }
      }
    }
  }
}

// The blocks of a range, whose bytes begin at `at`.
template <QuantFormat F>
void DecodeTile(const uint8_t* at, int64_t n_blocks, DecodedTile<F>* out) {
  for (int64_t block = 0; block < n_blocks;) {
    const Floats d = F.d_bytes == 2 ? LoadHalves(at) : LoadPowers(at);
    const Floats m = F.has_min ? LoadHalves(at + kR * F.d_bytes) : d;
    const uint8_t* six_bits = at + kR * (F.d_bytes + (F.has_min ? 2 : 0));
    at += kR * F.HeadBytes();
    for (int b = 0; b < F.span_blocks; ++b, ++block, at += kR * F.BlockBytes()) {
      const uint8_t* sub = F.sub == SubScales::kSixBits ? six_bits : at;
      const int first_sub = F.sub == SubScales::kSixBits ? b * kSubsOf<F> : 0;
      for (int i = 0; i < kSubsOf<F>; ++i) {
        Floats scale, minimum = m;
        LoadScales<F>(sub, first_sub + i, d, m, &scale, &minimum);
        _mm512_store_ps(out->scales[block][i], scale);
        if constexpr (F.has_min) _mm512_store_ps(out->minima[block][i], minimum);
      }
      Ints w[8];
      LoadCodes<F>(at + kR * F.BlockSubBytes(), w);
      for (int g = 0; g < 8; ++g) _mm512_store_si512(out->codes[block][g], _mm512_sub_epi8(w[g], SplatByte(F.offset)));
    }
  }
}

template <QuantFormat F>
struct BlockSums {
  alignas(64) int32_t of[kSubsOf<F>][kGroupRows][kR];
};

// Numbers of registers are constants of the instructions.
template <QuantFormat F>
PANTRY_INLINE void MultiplyBlock(const DecodedTile<F>& w, const ActivationGroup<F>& x, int64_t block,
                                 BlockSums<F>* sums) {
  _tile_zero(0);
  _tile_loadd(1, x.q[block], kBlockCols);
  _tile_loadd(2, w.codes[block], kVectorBytes);
  _tile_dpbssd(0, 1, 2);
  _tile_stored(0, sums->of[0], kR * sizeof(int32_t));
  if constexpr (kSubsOf<F> == 2) {
    _tile_zero(3);
    _tile_loadd(4, reinterpret_cast<const int8_t*>(x.q[block]) + F.sub_cols, kBlockCols);
    _tile_loadd(5, w.codes[block][F.sub_cols / 4], kVectorBytes);
    _tile_dpbssd(3, 4, 5);
    _tile_stored(3, sums->of[1], kR * sizeof(int32_t));
  }
}

template <QuantFormat F>
PANTRY_INLINE void AddBlock(const DecodedTile<F>& w, const ActivationGroup<F>& x, int64_t block,
                            const BlockSums<F>& sums, Floats acc[kGroupRows]) {
#pragma GCC unroll 2
  for (int i = 0; i < kSubsOf<F>; ++i) {
    const Floats scale = _mm512_load_ps(w.scales[block][i]);
    const Floats minimum = F.has_min ? _mm512_load_ps(w.minima[block][i]) : scale;
#pragma GCC unroll 16
    for (int r = 0; r < kGroupRows; ++r) {
      acc[r] = Fma(ToFloat(_mm512_load_si512(sums.of[i][r])), Mul(scale, SplatFloat(x.scales[r][block])), acc[r]);
      if constexpr (F.has_min) {
        const Floats correction = SplatFloat(x.corrections[r][i][block]);
        if constexpr (F.sub == SubScales::kNone) acc[r] = Fma(minimum, correction, acc[r]);
        else acc[r] = FusedNegative(minimum, correction, acc[r]);
      }
    }
  }
}

// out[r * y_stride]: a tile's outputs for 16 activation rows, accumulated on unless is_first. A block is multiplied before the last one is added,
// since sums come out of a matrix register some 70 cycles later.
template <QuantFormat F>
void MultiplyTile(const DecodedTile<F>& w, const ActivationGroup<F>& x, int64_t n_blocks, bool is_first, float* out,
                  int64_t y_stride, int64_t n_valid) {
  __asm__ volatile("" ::: "memory");  // GCC does not see that the instructions below read memory
  BlockSums<F> sums[2];
  Floats acc[kGroupRows];
  for (int r = 0; r < kGroupRows; ++r) acc[r] = is_first ? SplatFloat(0.0f) : LoadPart(out + r * y_stride, n_valid);
  MultiplyBlock<F>(w, x, 0, &sums[0]);
  for (int64_t block = 0; block < n_blocks; ++block) {
    if (block + 1 < n_blocks) MultiplyBlock<F>(w, x, block + 1, &sums[(block + 1) % 2]);
    AddBlock<F>(w, x, block, sums[block % 2], acc);
  }
  for (int r = 0; r < kGroupRows; ++r) StorePart(out + r * y_stride, acc[r], n_valid);
}

template <QuantFormat F>
void GroupsOfRows(PANTRY_MATMUL_ARGS, int64_t first, int64_t n_groups) {
  static_assert(kAmxBlocks % F.span_blocks == 0);
  ActivationGroup<F> groups[kMaxGroups];
  DecodedTile<F> decoded;
  const int64_t tile_bytes = TileBytes<F>(cols);
  const int64_t n_blocks = cols / kBlockCols;
  for (int64_t begin = 0; begin < n_blocks; begin += kAmxBlocks) {
    const int64_t end = begin + kAmxBlocks < n_blocks ? begin + kAmxBlocks : n_blocks;
    for (int64_t g = 0; g < n_groups; ++g) PrepareGroup<F>(x, first + g * kGroupRows, begin, end - begin, &groups[g]);
    for (int64_t t = tile_begin; t < tile_end; ++t) {
      const int64_t n_valid = rows - t * kR < kR ? rows - t * kR : kR;
      DecodeTile<F>(tiles + t * tile_bytes + begin / F.span_blocks * kR * F.SpanBytes(), end - begin, &decoded);
      for (int64_t g = 0; g < n_groups; ++g) {
        MultiplyTile<F>(decoded, groups[g], end - begin, begin == 0, y + (first + g * kGroupRows) * y_stride + t * kR,
                        y_stride, n_valid);
      }
    }
  }
}

template <QuantFormat F>
void ComputeGroups(PANTRY_MATMUL_ARGS) {
  int64_t first = 0;
  if (x.n_rows >= kGroupRows) ConfigureTiles<F>();
  while (first + kGroupRows <= x.n_rows) {
    const int64_t left = (x.n_rows - first) / kGroupRows;
    const int64_t n_groups = left < kMaxGroups ? left : kMaxGroups;
    GroupsOfRows<F>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride, first, n_groups);
    first += n_groups * kGroupRows;
  }
  if (first > 0) _tile_release();  // or each switch of threads saves 8 KiB
  RowsFrom<F>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride, first);
}

}  // namespace

#define PANTRY_DEFINE_GROUP_KERNEL(format, suffix)                                           \
  void Compute##format##_##suffix(PANTRY_MATMUL_ARGS) {                                      \
    ComputeGroups<kFormat##format>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride); \
  }
PANTRY_INTEGER_FORMATS(PANTRY_DEFINE_GROUP_KERNEL, amxint8)

}  // namespace pantry::matmul
