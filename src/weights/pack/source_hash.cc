// SPDX-License-Identifier: Apache-2.0
#include "weights/pack/source_hash.h"

#include <xxhash.h>

#include <algorithm>
#include <memory>
#include <variant>
#include <vector>

#include "weights/gguf/pack_table.h"

namespace pantry {
namespace {

constexpr size_t kBufferBytes = 256 << 10;

class Hasher {
 public:
  Hasher() : state_(XXH3_createState()), buffer_(kBufferBytes) {
    PANTRY_CHECK(state_ != nullptr && XXH3_64bits_reset(state_.get()) == XXH_OK);
  }
  void Add(const void* bytes, size_t n_bytes) { (void)XXH3_64bits_update(state_.get(), bytes, n_bytes); }
  Status AddRange(const Reader& reader, uint64_t offset, uint64_t n_bytes) {
    while (n_bytes > 0) {
      const size_t n = std::min<uint64_t>(n_bytes, buffer_.size());
      PANTRY_RETURN_IF_ERROR(reader.ReadAt(offset, {buffer_.data(), n}));
      Add(buffer_.data(), n);
      offset += n;
      n_bytes -= n;
    }
    return OkStatus();
  }
  uint64_t Digest() const { return XXH3_64bits_digest(state_.get()); }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { (void)XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_;
  std::vector<uint8_t> buffer_;
};

}  // namespace

Result<uint64_t> SourceHash(const GgufFile& source) {
  Hasher hasher;
  for (size_t shard = 0; shard < source.shards().size(); ++shard) {
    const Reader& reader = *source.shards()[shard];
    const uint64_t size = reader.size();
    uint64_t head_bytes = size;
    for (const TensorInfo& tensor : source.tensors()) {
      if (tensor.shard == static_cast<int32_t>(shard)) head_bytes = std::min(head_bytes, tensor.offset);
    }
    hasher.Add(&size, sizeof(size));
    PANTRY_RETURN_IF_ERROR(hasher.AddRange(reader, 0, head_bytes));
    for (const TensorInfo& tensor : source.tensors()) {
      if (tensor.shard != static_cast<int32_t>(shard)) continue;
      PANTRY_RETURN_IF_ERROR(hasher.AddRange(reader, tensor.offset, std::min(tensor.n_bytes, kHashedTensorBytes)));
    }
  }
  return hasher.Digest();
}

bool IsPackOf(const GgufFile& pack, const GgufFile& source) {
  const auto is = [&](const char* key, uint64_t number) {
    const MetadataValue* const value = pack.metadata().Find(key);
    const uint64_t* const found = value != nullptr ? std::get_if<uint64_t>(&value->value) : nullptr;
    return found != nullptr && *found == number;
  };
  if (pack.pack() == nullptr || !is(pack_keys::kSourceBytes, source.total_bytes())) return false;
  const Result<uint64_t> hash = SourceHash(source);
  return hash.ok() && is(pack_keys::kSourceHash, *hash);
}

}  // namespace pantry
