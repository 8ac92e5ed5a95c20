// SPDX-License-Identifier: Apache-2.0
#include "weights/pack/pack_check.h"

#include "io/read_extents.h"
#include "weights/gguf/pack_table.h"

namespace pantry {

Result<std::vector<uint8_t>> CheckPieces(const Reader& reader, std::span<const CheckedPiece> pieces, int n_lanes,
                                         const std::function<bool(uint64_t n_bytes)>& progress) {
  std::vector<Extent> extents;
  extents.reserve(pieces.size());
  for (const CheckedPiece& piece : pieces) extents.push_back({&reader, piece.offset, piece.n_bytes});
  std::vector<uint8_t> intact(pieces.size(), 0);  // not vector<bool>: lanes write neighbours
  const auto check = [&](size_t i, const uint8_t* bytes) {
    intact[i] = PackChecksum({bytes, pieces[i].n_bytes}) == pieces[i].checksum ? 1 : 0;
    return OkStatus();
  };
  size_t failed = 0;
  PANTRY_RETURN_IF_ERROR(
      ReadExtents(extents, {.n_lanes = n_lanes, .page_cache = PageCacheUse::kNever}, check, progress, &failed));
  return intact;
}

}  // namespace pantry
