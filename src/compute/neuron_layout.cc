// SPDX-License-Identifier: Apache-2.0
#include "compute/neuron_layout.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/status.h"
#include "base/units.h"
#include "weights/quant/tensor_type.h"

namespace pantry {
namespace {

constexpr int64_t kPackAlignment = 4096;  // of the first bundle
constexpr int64_t kMemoryAlignment = 64;
constexpr int64_t kScale = 2;  // bytes
// Columns of a tile are put in order so many blocks at a time, which L2 holds twice.
constexpr int64_t kBlocksAtOnce = 16;

int64_t BlocksOf(const WeightMatrix& down) { return down.cols / kActivationBlock; }

// Of one column in one tile.
int64_t CodeBytes(const WeightMatrix& down) {
  const int64_t scales = BlocksOf(down) * down.kernel->row_tile * kScale;
  return (down.kernel->packed_tile_bytes(down.cols) - scales) / down.cols;
}

// All but what a bundle is padded to.
NeuronLayout Packed(const WeightMatrix& up, const WeightMatrix& down, int64_t alignment) {
  PANTRY_CHECK(up.kernel->order == WeightOrder::kRows && down.kernel->order == WeightOrder::kColumns);
  PANTRY_CHECK(up.rows == down.cols && up.cols == down.rows);
  NeuronLayout layout = {.up = up, .down = down};
  layout.scales_bytes = AlignUp(BlocksOf(down) * down.n_tiles() * down.kernel->row_tile * kScale, alignment);
  layout.column_offset = RowBytes(up.kernel->type, up.cols);
  layout.bundle_bytes = layout.column_offset + down.n_tiles() * CodeBytes(down);
  layout.kept_bytes = AlignUp(layout.bundle_bytes, NeuronLayout::kKeptAlignment);
  return layout;
}

}  // namespace

NeuronLayout NeuronLayout::InPack(const WeightMatrix& up, const WeightMatrix& down) {
  NeuronLayout layout = Packed(up, down, kPackAlignment);
  layout.bundle_bytes = AlignUp(layout.bundle_bytes + kCheckBytes, kBundleAlignment);
  return layout;
}

NeuronLayout NeuronLayout::InMemory(const WeightMatrix& up, const WeightMatrix& down) {
  return Packed(up, down, kMemoryAlignment);
}

void NeuronLayout::PlaceUp(const uint8_t* rows, int64_t first, int64_t n, uint8_t* block) const {
  for (int64_t i = 0; i < n; ++i) {
    std::memcpy(block + bundle_offset(first + i), rows + i * column_offset, static_cast<size_t>(column_offset));
  }
}

void NeuronLayout::PlaceDown(const uint8_t* rows, int64_t first, int64_t n, uint8_t* block) const {
  const MatMulKernel& kernel = *down.kernel;
  const int64_t row_bytes = RowBytes(kernel.type, down.cols), code_bytes = CodeBytes(down);
  const int64_t scale_bytes = kernel.row_tile * kScale, n_blocks = BlocksOf(down), n_tiles = down.n_tiles();
  const int64_t at_once = std::min(kBlocksAtOnce, n_blocks), span_bytes = RowBytes(kernel.type, kActivationBlock);
  std::vector<uint8_t> spans(static_cast<size_t>(kernel.row_tile * at_once * span_bytes));
  std::vector<uint8_t> tile(static_cast<size_t>(kernel.packed_tile_bytes(at_once * kActivationBlock)));
  for (int64_t row = 0; row < n; row += kernel.row_tile) {
    const int64_t t = (first + row) / kernel.row_tile, n_rows = std::min<int64_t>(kernel.row_tile, n - row);
    for (int64_t b = 0; b < n_blocks; b += at_once) {
      const int64_t n_here = std::min(at_once, n_blocks - b), bytes_here = n_here * span_bytes;
      for (int64_t i = 0; i < n_rows; ++i) {
        std::memcpy(spans.data() + i * bytes_here, rows + (row + i) * row_bytes + b * span_bytes,
                    static_cast<size_t>(bytes_here));
      }
      kernel.pack_tile(spans.data(), n_rows, n_here * kActivationBlock, tile.data());
      for (int64_t i = 0; i < n_here; ++i) {
        std::memcpy(block + ((b + i) * n_tiles + t) * scale_bytes, tile.data() + i * scale_bytes,
                    static_cast<size_t>(scale_bytes));
      }
      const uint8_t* codes = tile.data() + n_here * scale_bytes;
      for (int64_t i = 0; i < n_here * kActivationBlock; ++i, codes += code_bytes) {
        std::memcpy(block + bundle_offset(b * kActivationBlock + i) + column_offset + t * code_bytes, codes,
                    static_cast<size_t>(code_bytes));
      }
    }
  }
}

}  // namespace pantry
