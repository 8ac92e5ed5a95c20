// SPDX-License-Identifier: Apache-2.0
// Integer kernels for NEON with SMMLA, which multiplies two rows of weights with two rows of activations over eight columns: twice as many
// products as SDOT. One activation row alone goes the way of SDOT.
//
// A weight pair is the codes of two neighbouring rows over eight columns, made of two code vectors by interleaving their lanes; sums and
// accumulators are 2 x 2 tiles: [row 0 with x 0, row 0 with x 1, row 1 with x 0, row 1 with x 1]. Activations are brought into the same
// shape once per group of rows, as PairBlocks. The operations on a lane are those of integer_kernel.inc, in its order.
#include <arm_neon.h>

#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/quant_format.h"

namespace pantry::matmul {
namespace {

constexpr int kMaxM = 8;

#include "compute/kernels/matmul/neon_vectors.inc"

#include "compute/kernels/matmul/neon_dotprod.inc"

#include "compute/kernels/matmul/integer_kernel.inc"

constexpr int kMaxPairs = 4;
constexpr int kPairRangeBlocks = 128;  // 45 KB of PairBlocks: they stay in the second-level cache

// One block of two activation rows.
template <QuantFormat F>
struct PairBlock {
  int8_t q[4][2][8];  // columns 8i..8i+7 of both rows
  float scale[2];
  int32_t correction[kSubsOf<F>][2];  // as in RowGroup
};

// Blocks [begin, end) of P pairs of rows from row `first` on, to out[block][pair].
template <QuantFormat F, int P>
void PreparePairs(const ActivationRows& x, int64_t first, int64_t begin, int64_t end, PairBlock<F>* out) {
  const int64_t n_blocks = x.n_cols / kBlockCols;
  for (int64_t block = begin; block < end; ++block) {
    for (int p = 0; p < P; ++p, ++out) {
      for (int i = 0; i < 2; ++i) {
        const int64_t from = (first + 2 * p + i) * n_blocks + block;
        for (int g = 0; g < 4; ++g) __builtin_memcpy(out->q[g][i], x.q + from * kBlockCols + 8 * g, 8);
        out->scale[i] = x.scales[from];
        for (int s = 0; s < kSubsOf<F>; ++s) out->correction[s][i] = Correction<F>(x, from, s);
      }
    }
  }
}

PANTRY_INLINE Ints SplatPair(const void* two) {  // [0, 1, 0, 1]
  int64_t bits;
  __builtin_memcpy(&bits, two, sizeof(bits));
  return vreinterpretq_s32_s64(vdupq_n_s64(bits));
}

// One tile with 2 P activation rows over the blocks of [begin, end); out[r * y_stride] are the tile's outputs.
template <QuantFormat F, int P>
PANTRY_INLINE void TilePairs(const uint8_t* tile, const PairBlock<F>* x, int64_t begin, int64_t end, float* out,
                             int64_t y_stride, int64_t n_valid) {
  constexpr int kSubs = kSubsOf<F>;
  constexpr int kSteps = 4 / kSubs;  // of eight columns
  Floats acc[P][2];
  for (int p = 0; p < P; ++p) {
    acc[p][0] = acc[p][1] = SplatFloat(0.0f);
    if (begin == 0) continue;
    const Floats x0 = LoadPart(out + 2 * p * y_stride, n_valid), x1 = LoadPart(out + (2 * p + 1) * y_stride, n_valid);
    acc[p][0] = vzip1q_f32(x0, x1);
    acc[p][1] = vzip2q_f32(x0, x1);
  }
  const uint8_t* at = tile + begin / F.span_blocks * kR * F.SpanBytes();
  for (int64_t block = begin; block < end;) {
    const Floats d = F.d_bytes == 2 ? LoadHalves(at) : LoadPowers(at);
    const Floats m = F.has_min ? LoadHalves(at + kR * F.d_bytes) : d;
    const uint8_t* six_bits = at + kR * (F.d_bytes + (F.has_min ? 2 : 0));
    at += kR * F.HeadBytes();
    for (int b = 0; b < F.span_blocks; ++b, ++block, at += kR * F.BlockBytes(), x += P) {
      const uint8_t* sub = F.sub == SubScales::kSixBits ? six_bits : at;
      const int first_sub = F.sub == SubScales::kSixBits ? b * kSubs : 0;
      Ints w[8], pairs[8];
      LoadCodes<F>(at + kR * F.BlockSubBytes(), w);
      for (int g = 0; g < 8; g += 2) {
        pairs[g] = vzip1q_s32(w[g], w[g + 1]);      // rows 0 and 1
        pairs[g + 1] = vzip2q_s32(w[g], w[g + 1]);  // rows 2 and 3
      }
#pragma GCC unroll 2
      for (int s = 0; s < kSubs; ++s) {
        Floats scale, minus_min = m;
        LoadScales<F>(sub, first_sub + s, d, m, &scale, &minus_min);
        const Floats scales[2] = {vzip1q_f32(scale, scale), vzip2q_f32(scale, scale)};
        const Floats minima[2] = {vzip1q_f32(minus_min, minus_min), vzip2q_f32(minus_min, minus_min)};
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) {
          const Ints correction = SplatPair(x[p].correction[s]);
          const Floats x_scale = AsFloats(SplatPair(x[p].scale));
#pragma GCC unroll 2
          for (int r = 0; r < 2; ++r) {
            Ints isum = F.has_min || kIsSigned<F> ? Splat32(0) : correction;
#pragma GCC unroll 4
            for (int g = s * kSteps; g < (s + 1) * kSteps; ++g) {
              isum = vmmlaq_s32(isum, SignedBytes(pairs[2 * g + r]), vld1q_s8(x[p].q[g][0]));
            }
            acc[p][r] = Fma(ToFloat(isum), Mul(scales[r], x_scale), acc[p][r]);
            if constexpr (F.has_min) {
              if constexpr (F.sub == SubScales::kNone) acc[p][r] = Fma(minima[r], AsFloats(correction), acc[p][r]);
              else acc[p][r] = FusedNegative(minima[r], AsFloats(correction), acc[p][r]);
            }
          }
        }
      }
    }
  }
  for (int p = 0; p < P; ++p) {
    StorePart(out + 2 * p * y_stride, vuzp1q_f32(acc[p][0], acc[p][1]), n_valid);
    StorePart(out + (2 * p + 1) * y_stride, vuzp2q_f32(acc[p][0], acc[p][1]), n_valid);
  }
}

template <QuantFormat F, int P>
void GroupOfPairs(PANTRY_MATMUL_ARGS, int64_t first) {
  alignas(64) PairBlock<F> blocks[P * kPairRangeBlocks];
  const int64_t tile_bytes = TileBytes<F>(cols);
  const int64_t n_blocks = cols / kBlockCols;
  for (int64_t begin = 0; begin < n_blocks; begin += kPairRangeBlocks) {
    const int64_t end = begin + kPairRangeBlocks < n_blocks ? begin + kPairRangeBlocks : n_blocks;
    PreparePairs<F, P>(x, first, begin, end, blocks);
    for (int64_t t = tile_begin; t < tile_end; ++t) {
      const int64_t n_valid = rows - t * kR < kR ? rows - t * kR : kR;
      TilePairs<F, P>(tiles + t * tile_bytes, blocks, begin, end, y + first * y_stride + t * kR, y_stride, n_valid);
    }
  }
}

template <QuantFormat F>
void ComputePairs(PANTRY_MATMUL_ARGS) {
  int64_t r = 0;
  for (; r + 2 * kMaxPairs <= x.n_rows; r += 2 * kMaxPairs) {
    GroupOfPairs<F, kMaxPairs>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride, r);
  }
  if (r + 4 <= x.n_rows) GroupOfPairs<F, 2>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride, r), r += 4;
  if (r + 2 <= x.n_rows) GroupOfPairs<F, 1>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride, r), r += 2;
  if (r < x.n_rows) GroupOfRows<F, 1>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride, r);
}

}  // namespace

#define PANTRY_DEFINE_PAIR_KERNEL(format, suffix)                                           \
  void Compute##format##_##suffix(PANTRY_MATMUL_ARGS) {                                     \
    ComputePairs<kFormat##format>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride); \
  }
PANTRY_INTEGER_FORMATS(PANTRY_DEFINE_PAIR_KERNEL, neoni8mm)

}  // namespace pantry::matmul
