// SPDX-License-Identifier: Apache-2.0
#include "io/reader.h"

namespace pantry {

Result<const uint8_t*> Reader::ReadPastCache(uint64_t offset, size_t n_bytes, std::span<uint8_t> slot) const {
  PANTRY_CHECK(slot.size() >= n_bytes);
  PANTRY_RETURN_IF_ERROR(ReadAt(offset, slot.first(n_bytes)));
  return static_cast<const uint8_t*>(slot.data());
}
bool Reader::InPageCache(uint64_t, uint64_t) const { return true; }
void Reader::WillRead(uint64_t, uint64_t) const {}
void Reader::DoneWith(uint64_t, uint64_t) const {}

}  // namespace pantry
