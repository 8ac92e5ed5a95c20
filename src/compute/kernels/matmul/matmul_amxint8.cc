// SPDX-License-Identifier: Apache-2.0
// Integer kernels for AMX-INT8 (amx_groups.inc). Up to 15 activation rows that make no group go the way of AVX512-VNNI.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // _mm512_undefined_ps() in GCC 12's own header
#endif
#include <immintrin.h>

#include "compute/kernels/matmul/matmul_compute.h"
#include "compute/kernels/matmul/quant_format.h"

namespace pantry::matmul {
namespace {

#include "compute/kernels/matmul/avx512vnni_vectors.inc"

#define PANTRY_READ_AHEAD_BYTES kAmxReadAheadBytes
#include "compute/kernels/matmul/integer_kernel.inc"

#include "compute/kernels/matmul/amx_groups.inc"

template <QuantFormat F>
void ComputeGroups(PANTRY_MATMUL_ARGS) {
  const int64_t tile_bytes = TileBytes<F>(cols), begin = tile_begin * kR,
                end = tile_end * kR < rows ? tile_end * kR : rows;
  const TileRange w = {tiles + tile_begin * tile_bytes, tile_bytes, end - begin, 0, cols / kBlockCols};
  const int64_t done = RowsInGroups<F>(w, x, y + begin, y_stride);
  RowsFrom<F>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride, done);
}

}  // namespace

#define PANTRY_DEFINE_GROUP_KERNEL(format, suffix)                                           \
  void Compute##format##_##suffix(PANTRY_MATMUL_ARGS) {                                      \
    ComputeGroups<kFormat##format>(tiles, rows, cols, tile_begin, tile_end, x, y, y_stride); \
  }
PANTRY_INTEGER_FORMATS(PANTRY_DEFINE_GROUP_KERNEL, amxint8)

}  // namespace pantry::matmul
