// SPDX-License-Identifier: Apache-2.0
// A PackTable says where the blocks of a .pantry file lie, which tensors they hold, and what their bytes must hash to.
//
// A .pantry file is a GGUF file of which some tensors lie in blocks: one run of bytes for each expert, or for each dense matrix, in the
// layout of one instruction set's kernels. The tensor `pantry.blocks` holds them, `pantry.checksums` a checksum for each piece, the keys
// `pantry.pack.*` the rest: docs/format.md. The table is as hostile as the rest of the file, and checked as a whole before it is used.
//
//   group 0: n_blocks x { block_bytes | zeros to a multiple of 4096 }, group 1: ...      blocks are numbered through all groups from 0
//
// It does not know how a block is laid out inside: models/.
// Threads: immutable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/block_id.h"
#include "base/status.h"
#include "io/reader.h"
#include "sys/isa.h"
#include "weights/gguf/gguf_file.h"
#include "weights/gguf/metadata.h"

namespace pantry {

inline constexpr uint32_t kPackVersion = 1;         // of packs whose blocks hold tiles
inline constexpr uint32_t kOrderedPackVersion = 2;  // of those that say what their blocks hold
inline constexpr uint64_t kPackAlignment = 4096;    // of every block, and of every tensor beside
inline constexpr uint32_t kPackPieceBytes =
    512 << 10;  // what we write: a checksum for so much, so that pieces are checked as they come
inline constexpr uint64_t kMaxPackBlockBytes = uint64_t{1} << 40;

inline constexpr uint64_t PackAlign(uint64_t n_bytes) {
  return (n_bytes + kPackAlignment - 1) / kPackAlignment * kPackAlignment;
}

// Keys and tensors that make a GGUF file a pack.
namespace pack_keys {
inline constexpr char kPrefix[] = "pantry.pack.";
inline constexpr char kVersion[] = "pantry.pack.version";
inline constexpr char kLayout[] = "pantry.pack.layout";
inline constexpr char kPieceBytes[] = "pantry.pack.piece_bytes";
inline constexpr char kGroupBlocks[] = "pantry.pack.group.n_blocks";
inline constexpr char kGroupBlockBytes[] = "pantry.pack.group.block_bytes";
inline constexpr char kGroupOrder[] = "pantry.pack.group.order";
inline constexpr char kTensorGroup[] = "pantry.pack.tensor.group";
inline constexpr char kTensorName[] = "pantry.pack.tensor.name";
inline constexpr char kTensorType[] = "pantry.pack.tensor.type";
inline constexpr char kTensorDims[] = "pantry.pack.tensor.dims";
inline constexpr char kSourceBytes[] = "pantry.pack.source_bytes";
inline constexpr char kSourceHash[] = "pantry.pack.source_hash";
inline constexpr char kChecksumsTensor[] = "pantry.checksums";
inline constexpr char kBlocksTensor[] = "pantry.blocks";
}  // namespace pack_keys

// XXH3, 64 bits, seed 0.
uint64_t PackChecksum(std::span<const uint8_t> bytes);

// What a block's bytes are.
enum class PackOrder : uint8_t {
  kTiles,           // matrices in tiles
  kNeurons,         // what belongs to a neuron lies together, to be read alone
  kRowsAndColumns,  // experts whose neurons can be computed alone: gate in tiles, up in rows, down in columns
  kGateAndNeurons,  // experts whose neurons can be read alone: gate in tiles, then as kNeurons
};

// A run of blocks of the same make.
struct PackGroup {
  std::vector<std::string> tensors;  // whose values its blocks hold; at least one
  uint32_t first_block = 0;
  uint32_t n_blocks = 0;
  uint64_t block_bytes = 0;  // without padding
  uint64_t offset = 0;       // of its first block in the file
  uint64_t first_piece = 0;  // counted over the file
  PackOrder order = PackOrder::kTiles;
  uint64_t stride() const { return PackAlign(block_bytes); }
};

// "block 17 of blk.3.ffn_gate_exps.weight, ...": as messages name it. `index` counts in the group.
std::string PackBlockName(const PackGroup& group, uint32_t index);

class PackTable {
 public:
  // Whether a file with these metadata claims to be a pack.
  static bool IsIn(const Metadata& metadata) { return metadata.Has(pack_keys::kVersion); }
  // Reads and checks the table of a pack with the given tensors; `packed` gets those that lie in blocks. kUnsupported: made by another
  // version; kCorruption, kIoError. What it takes is charged against `memory_left`, as the head is (gguf_cursor.h).
  static Result<std::unique_ptr<PackTable>> Read(const Reader& reader, const Metadata& metadata,
                                                 std::span<const TensorInfo> tensors, uint64_t* memory_left,
                                                 std::vector<TensorInfo>* packed);

  Isa layout() const { return layout_; }  // whose kernels' tiles the blocks hold
  uint32_t n_blocks() const { return n_blocks_; }
  const std::vector<PackGroup>& groups() const { return groups_; }
  const PackGroup& GroupOf(BlockId block) const;  // REQUIRES, as all below: block < n_blocks()
  uint64_t BlockOffset(BlockId block) const;      // in the file; a multiple of kPackAlignment

  bool has_neurons() const { return has_neurons_; }      // of some group, that are read alone
  uint32_t piece_bytes() const { return piece_bytes_; }  // of all but a block's last piece
  int n_pieces(BlockId block) const;
  uint64_t PieceOffset(BlockId block, int piece) const;
  size_t PieceBytes(BlockId block, int piece) const;
  uint64_t Checksum(BlockId block, int piece) const;
  // Whether `bytes` are what was packed. REQUIRES: bytes.size() == PieceBytes(block, piece).
  bool PieceIsIntact(BlockId block, int piece, std::span<const uint8_t> bytes) const;
  // The error for a piece that is not: kCorruption with file, block, offset, and how to mend it.
  Status Damaged(BlockId block, int piece) const;

 private:
  friend class PackTableParser;
  PackTable() = default;
  size_t PieceIndex(BlockId block, int piece) const;

  std::string path_;
  Isa layout_ = Isa::kScalar;
  uint32_t piece_bytes_ = 0;
  uint32_t n_blocks_ = 0;
  bool has_neurons_ = false;
  std::vector<PackGroup> groups_;    // by first block
  std::vector<uint64_t> checksums_;  // by piece
};

}  // namespace pantry
