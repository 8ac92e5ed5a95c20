// SPDX-License-Identifier: Apache-2.0
#include "io/faulty_reader.h"

#include <cerrno>
#include <utility>

#include "sys/posix_error.h"

namespace pantry {

FaultyReader::FaultyReader(std::unique_ptr<Reader> inner, const FaultPlan& plan)
    : inner_(std::move(inner)), plan_(plan), rng_(plan.seed) {}

bool FaultyReader::FailsNow(uint64_t offset, uint64_t n_bytes) const {
  const int64_t call = n_calls_++;
  // Drawn in every call, so that the other conditions do not shift the random ones.
  const bool unlucky = rng_.NextDouble() < plan_.fail_share;
  if (plan_.fail_call && *plan_.fail_call == call) return true;
  if (plan_.fail_offset && *plan_.fail_offset >= offset && *plan_.fail_offset - offset < n_bytes) return true;
  return unlucky;
}

Status FaultyReader::Admit(uint64_t offset, uint64_t n_bytes) const {
  const std::lock_guard lock(mutex_);
  if (!FailsNow(offset, n_bytes)) return OkStatus();
  ++n_faults_;
  return PosixError(fmt::format("{}: injected fault reading {} bytes at offset {}", path(), n_bytes, offset), EIO);
}

Status FaultyReader::ReadAt(uint64_t offset, std::span<uint8_t> out) const {
  PANTRY_RETURN_IF_ERROR(Admit(offset, out.size()));
  PANTRY_RETURN_IF_ERROR(inner_->ReadAt(offset, out));
  const std::lock_guard lock(mutex_);
  n_bytes_ += static_cast<int64_t>(out.size());
  return OkStatus();
}

Result<const uint8_t*> FaultyReader::ReadPastCache(uint64_t offset, size_t n_bytes, std::span<uint8_t> slot) const {
  PANTRY_RETURN_IF_ERROR(Admit(offset, n_bytes));
  PANTRY_ASSIGN_OR_RETURN(const uint8_t* bytes, inner_->ReadPastCache(offset, n_bytes, slot));
  const std::lock_guard lock(mutex_);
  n_bytes_ += static_cast<int64_t>(n_bytes);
  return bytes;
}

int64_t FaultyReader::n_calls() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return n_calls_;
}
int64_t FaultyReader::n_faults() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return n_faults_;
}
int64_t FaultyReader::n_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return n_bytes_;
}
int64_t FaultyReader::delay_us() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return n_calls_ * plan_.delay_us;
}

}  // namespace pantry
