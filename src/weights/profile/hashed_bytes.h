// SPDX-License-Identifier: Apache-2.0
// What the little-endian files of this folder are written and read with: 64 bytes that say how long the rest is, a checksum at their end.
//
//   0  magic and fixed fields    56  u64 XXH3 of bytes 0 to 55, seeding that of all from 64 on    64  the rest
//
// Threads: values.
#pragma once

#include <xxhash.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace pantry {

static_assert(std::endian::native == std::endian::little);

inline constexpr size_t kFixedBytes = 64;
inline constexpr size_t kHashOffset = 56;

// REQUIRES: bytes.size() >= kFixedBytes.
inline uint64_t HashOf(std::string_view bytes) {
  const uint64_t fixed = XXH3_64bits(bytes.data(), kHashOffset);
  return XXH3_64bits_withSeed(bytes.data() + kFixedBytes, bytes.size() - kFixedBytes, fixed);
}

inline bool IsIntact(std::string_view bytes) {
  uint64_t hash = 0;
  std::memcpy(&hash, bytes.data() + kHashOffset, sizeof hash);
  return hash == HashOf(bytes);
}

class ByteWriter {
 public:
  template <typename T>
  void Add(const T& value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  template <typename T>
  void Add(const std::vector<T>& values) {
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  void Add(std::string_view text) { bytes_ += text; }
  void FillTo(size_t n_bytes) { bytes_.resize(n_bytes); }
  // All of it, with its checksum. REQUIRES: kFixedBytes or more.
  std::string TakeHashed() {
    const uint64_t hash = HashOf(bytes_);
    std::memcpy(bytes_.data() + kHashOffset, &hash, sizeof hash);
    return std::move(bytes_);
  }

 private:
  std::string bytes_;
};

// Takes values off the front. REQUIRES: they are there.
class ByteTaker {
 public:
  explicit ByteTaker(std::string_view bytes) : left_(bytes) {}
  template <typename T>
  void Take(T& value) {
    TakeBytes(&value, sizeof value);
  }
  template <typename T>
  T Take() {
    T value;
    Take(value);
    return value;
  }
  template <typename T>
  void TakeMany(std::vector<T>& values, size_t n) {
    values.resize(n);
    TakeBytes(values.data(), n * sizeof(T));
  }
  void TakeBytes(void* to, size_t n) {
    PANTRY_CHECK(n <= left_.size());
    if (n == 0) return;  // then `to` may be null
    std::memcpy(to, left_.data(), n);
    left_.remove_prefix(n);
  }

 private:
  std::string_view left_;
};

}  // namespace pantry
