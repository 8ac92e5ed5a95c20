// SPDX-License-Identifier: Apache-2.0
// What a WeightLoader does once everything is bound: reading, and packing into the arena.
#include <algorithm>
#include <cstring>
#include <utility>

#include "base/units.h"
#include "models/weight_loader.h"
#include "sys/memory_info.h"
#include "weights/gguf/gguf_cursor.h"
#include "weights/quant/dequantize.h"
#include "weights/quant/tensor_type.h"

namespace pantry {
namespace {

// Large enough that a disk streams and a call to the system costs nothing, small enough that packing finds it in the L2 cache.
constexpr int64_t kChunkBytes = 512 * kKiB;
// More than this many reads in flight, or threads that copy from the page cache, gain nothing.
constexpr int kMinLanes = 8;
constexpr int kMaxLanes = 32;
constexpr size_t kMaxNameChars = 100;  // of a tensor, in messages

}  // namespace

// Where file and weights do not fit into memory side by side, a copy in the page cache would push out something else, this model's first
// half for one.
PageCacheUse WeightLoader::CacheUse(int64_t available_bytes, uint64_t tensor_bytes) {
  const bool is_short = available_bytes >= 0 && static_cast<uint64_t>(available_bytes) / 2 < tensor_bytes;
  return is_short ? PageCacheUse::kNever : PageCacheUse::kForSlowDisks;
}

int64_t WeightLoader::RowBytesOf(const Binding& binding) {
  return RowBytes(binding.tensor->type, binding.tensor->row_elements());
}

std::vector<WeightLoader::Chunk> WeightLoader::ChunksInFileOrder() const {
  std::vector<const Binding*> order;
  for (const Binding& binding : bindings_) {
    if (binding.arena_offset != kInBlocks) order.push_back(&binding);
  }
  std::sort(order.begin(), order.end(), [](const Binding* a, const Binding* b) {
    return std::pair(a->tensor->shard, a->tensor->offset) < std::pair(b->tensor->shard, b->tensor->offset);
  });
  std::vector<Chunk> chunks;
  for (const Binding* binding : order) {
    const int64_t tile = binding->kernel != nullptr ? binding->kernel->row_tile : 1;
    const int64_t tiles_per_chunk = std::max<int64_t>(1, kChunkBytes / (tile * RowBytesOf(*binding)));
    // A tile has rows of one matrix only, so chunks may go on into the next matrix where it begins with a tile.
    const int64_t n_rows = binding->tensor->n_rows();
    const int64_t section = binding->rows % tile == 0 ? n_rows : binding->rows;
    for (int64_t begin = 0; begin < n_rows; begin += section) {
      const int64_t step = std::min(section, tiles_per_chunk * tile);
      for (int64_t row = 0; row < section; row += step) {
        chunks.push_back({binding, begin + row, std::min(step, section - row)});
      }
    }
  }
  return chunks;
}

void WeightLoader::Pack(const Chunk& chunk, const uint8_t* rows, uint8_t* arena) {
  const Binding& binding = *chunk.binding;
  uint8_t* const to = arena + binding.arena_offset;
  if (binding.kernel == nullptr) {
    const int64_t row_bytes = RowBytesOf(binding);
    for (int64_t i = 0; i < chunk.n_rows; ++i) {
      DequantizeRow(binding.tensor->type, rows + i * row_bytes, binding.cols,
                    reinterpret_cast<float*>(to) + (chunk.first_row + i) * binding.cols);
    }
    return;
  }
  const MatMulKernel& kernel = *binding.kernel;
  if (binding.neurons != nullptr) {
    if (kernel.order == WeightOrder::kRows) binding.neurons->PlaceUp(rows, chunk.first_row, chunk.n_rows, to);
    else binding.neurons->PlaceDown(rows, chunk.first_row, chunk.n_rows, to);
    return;
  }
  const int64_t row_bytes = RowBytesOf(binding), tile_bytes = kernel.packed_tile_bytes(binding.cols);
  for (int64_t done = 0, n = 0; done < chunk.n_rows; done += n) {  // of one matrix after another
    const int64_t matrix = (chunk.first_row + done) / binding.rows, row = (chunk.first_row + done) % binding.rows;
    n = std::min(binding.rows - row, chunk.n_rows - done);
    PackRows(kernel, rows + done * row_bytes, row_bytes, n, binding.cols,
             to + matrix * binding.stride + row / kernel.row_tile * tile_bytes);
  }
}

std::vector<WeightLoader::Piece> WeightLoader::PiecesOfPack() const {
  std::vector<Piece> pieces;
  for (const LoadedGroup& loaded : loaded_groups_) {
    const WeightPlacer::Group& group = blocks_.groups()[loaded.group];
    for (uint32_t i = 0; i < group.n_blocks; ++i) {
      const BlockId block(group.first_block + i);
      for (int piece = 0; piece < blocks_.n_pieces(block); ++piece)
        pieces.push_back({block, piece, loaded.arena_offset + i * group.block_bytes});
    }
  }
  for (const LoadedScales& loaded : loaded_scales_) {
    const BlockId block(in_file_->groups()[loaded.group].first_block);
    const int64_t piece_bytes = file_.pack()->piece_bytes();
    for (int piece = 0; piece * piece_bytes < loaded.n_bytes; ++piece) {
      pieces.push_back({block, piece, loaded.arena_offset, loaded.n_bytes});
    }
  }
  return pieces;
}

Status WeightLoader::PlaceFront(const Piece& piece, const uint8_t* bytes, uint8_t* memory) const {
  const PackTable& pack = *file_.pack();
  const auto n_bytes = static_cast<int64_t>(pack.PieceBytes(piece.block, piece.piece));
  if (!pack.PieceIsIntact(piece.block, piece.piece, {bytes, static_cast<size_t>(n_bytes)})) {
    return pack.Damaged(piece.block, piece.piece);
  }
  const int64_t begin = int64_t{piece.piece} * pack.piece_bytes();
  std::memcpy(memory + begin, bytes, static_cast<size_t>(std::min(n_bytes, piece.n_bytes - begin)));
  return OkStatus();
}

Status WeightLoader::ReadChunks(uint8_t* arena, int n_threads, const LoadProgress& progress) const {
  const std::vector<Chunk> chunks = ChunksInFileOrder();
  const std::vector<Piece> pieces = PiecesOfPack();
  std::vector<Extent> extents;
  int64_t n_total = 0;
  for (const Chunk& chunk : chunks) {
    const TensorInfo& tensor = *chunk.binding->tensor;
    const int64_t row_bytes = RowBytesOf(*chunk.binding);
    extents.push_back({file_.shards()[static_cast<size_t>(tensor.shard)].get(),
                       tensor.offset + static_cast<uint64_t>(chunk.first_row * row_bytes),
                       static_cast<size_t>(chunk.n_rows * row_bytes)});
    n_total += chunk.n_rows * row_bytes;
  }
  for (const Piece& piece : pieces) {  // they lie behind all other tensors
    const BlockPiece from = PlacerOf(piece).Piece(piece.block, piece.piece);
    extents.push_back({file_.shards()[static_cast<size_t>(from.file)].get(), from.offset, from.n_bytes});
    n_total += static_cast<int64_t>(from.n_bytes);
  }
  ReadExtentsOptions options;
  options.n_lanes = std::clamp(n_threads, kMinLanes, kMaxLanes);
  options.page_cache = CacheUse(AvailableMemoryBytes(), file_.tensor_bytes());
  const auto consume = [&](size_t i, const uint8_t* bytes) {
    if (i >= chunks.size()) {
      const Piece& piece = pieces[i - chunks.size()];
      if (piece.n_bytes < 0) return blocks_.Place(piece.block, piece.piece, bytes, arena + piece.arena_offset);
      return PlaceFront(piece, bytes, arena + piece.arena_offset);
    }
    Pack(chunks[i], bytes, arena);
    return OkStatus();
  };
  size_t failed = extents.size();
  Status status = ReadExtents(
      extents, options, consume,
      [&](uint64_t n_bytes) { return !progress || progress(static_cast<int64_t>(n_bytes), n_total); }, &failed);
  if (failed >= chunks.size()) return status;  // it names the file
  return status.WithContext(fmt::format("tensor '{}'", Printable(chunks[failed].binding->tensor->name, kMaxNameChars)));
}

Result<AlignedBuffer> WeightLoader::Load(const ThreadPool& pool, Logger& log, const LoadProgress& progress) {
  PANTRY_RETURN_IF_ERROR(status_);
  PANTRY_RETURN_IF_ERROR(CheckUnused(log));
  Result<AlignedBuffer> arena = AlignedBuffer::Allocate(static_cast<size_t>(n_bytes_));
  if (!arena.ok())
    return arena.status().WithContext(fmt::format("{}: memory for {} of weights", file_.path(), FormatBytes(n_bytes_)));
  for (const Binding& binding : bindings_) {
    const uint8_t* at = arena->data() + binding.arena_offset;
    if (binding.tiles != nullptr) *binding.tiles = at;
    if (binding.numbers != nullptr) *binding.numbers = reinterpret_cast<const float*>(at);
  }
  for (const LoadedGroup& loaded : loaded_groups_) *loaded.tiles = arena->data() + loaded.arena_offset;
  for (const LoadedScales& loaded : loaded_scales_) *loaded.scales = arena->data() + loaded.arena_offset;
  PANTRY_RETURN_IF_ERROR(ReadChunks(arena->data(), pool.n_threads(), progress));
  return arena;
}

}  // namespace pantry
