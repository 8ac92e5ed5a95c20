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

  static constexpr int64_t kHugePageBytes = int64_t{2} << 20;

  // Whether large buffers ask for huge pages. kNever for what is filled here and there, a bit at a time: each first touch of a huge
  // page commits (and clears) 2 MiB.
  enum class HugePages : uint8_t { kWanted, kNever };
  // kOutOfBudget when the system refuses. n_bytes may be 0.
  static Result<AlignedBuffer> Allocate(size_t n_bytes, HugePages huge_pages = HugePages::kWanted);

  // Address space only: like Allocate(), but the system is asked not to set memory aside for it (where it may be asked), so far more can
  // be reserved than there is. Writing commits; GiveBack() takes it back.
  static Result<AlignedBuffer> Reserve(size_t n_bytes, HugePages huge_pages = HugePages::kWanted);

  // Asks for huge pages from byte `begin` on, after kNever. No effect on what is committed already.
  void WantHugePages(size_t begin);
  // No more huge pages from now on, here; those that are there stay.
  void RefuseHugePages();

  // Returns [begin, begin + n_bytes) to the system; reads as zeros again. Both are multiples of PageBytes(). No read or write by the
  // kernel (a disk transfer) may be under way there, and the range must not be registered with one (io_uring's fixed buffers).
  void GiveBack(size_t begin, size_t n_bytes);

  // Commits memory that holds nothing yet: writes a zero to each of its pages.
  static void Touch(std::span<uint8_t> fresh);

  // The unit in which the system commits memory: 4096, or what this machine has.
  static size_t PageBytes();

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return n_bytes_; }
  template <typename T>
  std::span<T> As() {
    return {reinterpret_cast<T*>(data_), n_bytes_ / sizeof(T)};
  }

 private:
  static Result<AlignedBuffer> Map(size_t n_bytes, HugePages huge_pages, int extra_flags);
  uint8_t* data_ = nullptr;
  size_t n_bytes_ = 0;
};

}  // namespace pantry
