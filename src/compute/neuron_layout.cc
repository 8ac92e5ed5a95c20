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

constexpr int64_t kScalesAlignment = 4096;
constexpr int64_t kScale = 2;  // bytes

int64_t BlocksOf(const WeightMatrix& down) { return down.cols / kActivationBlock; }

// Of one column in one tile.
int64_t CodeBytes(const WeightMatrix& down) {
  const int64_t scales = BlocksOf(down) * down.kernel->row_tile * kScale;
  return (down.kernel->packed_tile_bytes(down.cols) - scales) / down.cols;
}

}  // namespace

NeuronLayout NeuronLayout::Of(const WeightMatrix& up, const WeightMatrix& down) {
  PANTRY_CHECK(up.kernel->order == WeightOrder::kRows && down.kernel->order == WeightOrder::kColumns);
  PANTRY_CHECK(up.rows == down.cols && up.cols == down.rows);
  NeuronLayout layout = {.up = up, .down = down};
  layout.scales_bytes = AlignUp(BlocksOf(down) * down.n_tiles() * down.kernel->row_tile * kScale, kScalesAlignment);
  layout.column_offset = RowBytes(up.kernel->type, up.cols);
  const int64_t column_bytes = down.n_tiles() * CodeBytes(down);
  layout.kept_bytes = AlignUp(layout.column_offset + column_bytes, kKeptAlignment);
  layout.bundle_bytes = AlignUp(layout.column_offset + column_bytes + kCheckBytes, kBundleAlignment);
  return layout;
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
  std::vector<uint8_t> tile(static_cast<size_t>(kernel.packed_tile_bytes(down.cols)));
  for (int64_t row = 0; row < n; row += kernel.row_tile) {
    const int64_t t = (first + row) / kernel.row_tile;
    kernel.pack_tile(rows + row * row_bytes, std::min<int64_t>(kernel.row_tile, n - row), down.cols, tile.data());
    for (int64_t b = 0; b < n_blocks; ++b) {
      std::memcpy(block + (b * n_tiles + t) * scale_bytes, tile.data() + b * scale_bytes,
                  static_cast<size_t>(scale_bytes));
    }
    const uint8_t* codes = tile.data() + n_blocks * scale_bytes;
    for (int64_t neuron = 0; neuron < down.cols; ++neuron, codes += code_bytes) {
      std::memcpy(block + bundle_offset(neuron) + column_offset + t * code_bytes, codes,
                  static_cast<size_t>(code_bytes));
    }
  }
}

}  // namespace pantry
