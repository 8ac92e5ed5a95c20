// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <utility>

#include "io/read_range.h"
#include "io/reader.h"

namespace pantry {
namespace {

class MemoryReader final : public Reader {
 public:
  MemoryReader(std::string path, std::span<const uint8_t> bytes) : path_(std::move(path)), bytes_(bytes) {}

  const std::string& path() const override { return path_; }
  uint64_t size() const override { return bytes_.size(); }

  Status ReadAt(uint64_t offset, std::span<uint8_t> out) const override {
    PANTRY_RETURN_IF_ERROR(CheckReadRange(path_, bytes_.size(), offset, out.size()));
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
    return OkStatus();
  }

 private:
  std::string path_;
  std::span<const uint8_t> bytes_;
};

}  // namespace

std::unique_ptr<Reader> MakeMemoryReader(std::string path, std::span<const uint8_t> bytes) {
  return std::make_unique<MemoryReader>(std::move(path), bytes);
}

}  // namespace pantry
