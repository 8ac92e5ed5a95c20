// SPDX-License-Identifier: Apache-2.0
// An AlignedBuffer owns zeroed anonymous memory, page-aligned, that never touches the page cache.
//
// Weights, KV cache and scratch live in these. Large buffers ask for transparent huge pages (fewer TLB misses in the decode loop,
// which walks all weights for each token). Memory is committed when first written.
// Threads: thread-compatible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"

namespace pantry {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  ~AlignedBuffer();

  // Whether large buffers ask for huge pages. kNever for what is filled here and there, a bit at a time: each first touch of a huge
  // page commits (and clears) 2 MiB.
  enum class HugePages : uint8_t { kWanted, kNever };
  // kOutOfBudget when the system refuses. n_bytes may be 0.
  static Result<AlignedBuffer> Allocate(size_t n_bytes, HugePages huge_pages = HugePages::kWanted);

  // Asks for huge pages from byte `begin` on, after kNever. No effect on what is committed already.
  void WantHugePages(size_t begin);

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return n_bytes_; }
  template <typename T>
  std::span<T> As() {
    return {reinterpret_cast<T*>(data_), n_bytes_ / sizeof(T)};
  }

 private:
  uint8_t* data_ = nullptr;
  size_t n_bytes_ = 0;
};

}  // namespace pantry
