// SPDX-License-Identifier: Apache-2.0
#include "sys/aligned_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/units.h"

namespace pantry {
namespace {

constexpr auto kHugePage = static_cast<size_t>(AlignedBuffer::kHugePageBytes);

size_t RoundUp(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

size_t MappedBytes(size_t n_bytes) { return RoundUp(n_bytes, AlignedBuffer::PageBytes()); }

}  // namespace

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), n_bytes_(std::exchange(other.n_bytes_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  AlignedBuffer taken(std::move(other));  // what this held goes with `taken`, now and not when `other` dies
  std::swap(data_, taken.data_);
  std::swap(n_bytes_, taken.n_bytes_);
  return *this;
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ != nullptr) munmap(data_, MappedBytes(n_bytes_));
}

void AlignedBuffer::Touch(std::span<uint8_t> fresh) {
  for (size_t i = 0; i < fresh.size(); i += PageBytes()) *const_cast<volatile uint8_t*>(fresh.data() + i) = 0;
}

size_t AlignedBuffer::PageBytes() {
  static const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return page;
}

Result<AlignedBuffer> AlignedBuffer::Allocate(size_t n_bytes, HugePages huge_pages) {
  return Map(n_bytes, huge_pages, 0);
}

Result<AlignedBuffer> AlignedBuffer::Reserve(size_t n_bytes, HugePages huge_pages) {
#if defined(MAP_NORESERVE)
  return Map(n_bytes, huge_pages, MAP_NORESERVE);
#else
  return Map(n_bytes, huge_pages, 0);
#endif
}

Result<AlignedBuffer> AlignedBuffer::Map(size_t n_bytes, HugePages huge_pages, int extra_flags) {
  AlignedBuffer buffer;
  if (n_bytes == 0) return buffer;
  const auto refused = [n_bytes](int error_number) {
    const int64_t shown = n_bytes > size_t{INT64_MAX} ? INT64_MAX : static_cast<int64_t>(n_bytes);
    return OutOfBudgetError("cannot allocate {}: {}", FormatBytes(shown), std::strerror(error_number));
  };
  if (n_bytes > SIZE_MAX / 2) return refused(ENOMEM);

  // mmap aligns to small pages only: for huge pages take one more than needed and give back what sticks out on both sides.
  const bool huge = n_bytes >= kHugePage && huge_pages == HugePages::kWanted;
  const size_t keep = MappedBytes(n_bytes);
  const size_t reserve = huge ? keep + kHugePage : keep;
  void* mapping = mmap(nullptr, reserve, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1, 0);
  if (mapping == MAP_FAILED) return refused(errno);
  uint8_t* data = static_cast<uint8_t*>(mapping);
  if (huge) {
    const size_t address = reinterpret_cast<size_t>(data);
    const size_t head = RoundUp(address, kHugePage) - address;
    if (head > 0) munmap(data, head);
    if (kHugePage - head > 0) munmap(data + head + keep, kHugePage - head);
    data += head;
#if defined(MADV_HUGEPAGE)
    (void)madvise(data, keep, MADV_HUGEPAGE);  // a wish: where it is refused, small pages work as well
#endif
  } else if (huge_pages == HugePages::kNever) {
#if defined(MADV_NOHUGEPAGE)
    (void)madvise(data, keep, MADV_NOHUGEPAGE);  // some systems give huge pages unasked
#endif
  }
  buffer.data_ = data;
  buffer.n_bytes_ = n_bytes;
  return buffer;
}

void AlignedBuffer::WantHugePages([[maybe_unused]] size_t begin) {
#if defined(MADV_HUGEPAGE)
  begin = RoundUp(begin, kHugePage);
  if (begin < MappedBytes(n_bytes_)) (void)madvise(data_ + begin, MappedBytes(n_bytes_) - begin, MADV_HUGEPAGE);
#endif
}

void AlignedBuffer::RefuseHugePages() {
#if defined(MADV_NOHUGEPAGE)
  if (data_ != nullptr) (void)madvise(data_, MappedBytes(n_bytes_), MADV_NOHUGEPAGE);
#endif
}

void AlignedBuffer::GiveBack(size_t begin, size_t n_bytes) {
  PANTRY_CHECK(begin % PageBytes() == 0 && n_bytes % PageBytes() == 0 && begin <= MappedBytes(n_bytes_) &&
               n_bytes <= MappedBytes(n_bytes_) - begin);
  if (n_bytes == 0) return;
  // A huge page of which only a part goes would be charged to us as a whole until memory is short: Linux just unmaps the part. It breaks up a
  // huge page where a part is marked as free to drop, and then the part goes at once (69 MiB of 1 GiB were kept else).
#if defined(MADV_FREE)
  const size_t end = begin + n_bytes, first = std::min(RoundUp(begin, kHugePage), end);
  const size_t last = std::max(first, end / kHugePage * kHugePage);
  if (begin < first) (void)madvise(data_ + begin, first - begin, MADV_FREE);
  if (last < end) (void)madvise(data_ + last, end - last, MADV_FREE);
#endif
  (void)madvise(data_ + begin, n_bytes, MADV_DONTNEED);  // private and anonymous: it cannot fail
}

}  // namespace pantry
