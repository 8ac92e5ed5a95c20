// SPDX-License-Identifier: Apache-2.0
// A GgufHeadWriter writes the head of a GGUF file, version 3: metadata and the table of tensors, into memory.
//
// What Metadata holds comes out as it came in, width for width. Tensors get their places one after the other, each aligned; their bytes
// are the caller's business.
// Threads: thread-compatible.
// Source: the GGUF specification (ggml-org/ggml docs/gguf.md).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "weights/gguf/metadata.h"
#include "weights/quant/tensor_type.h"

namespace pantry {

class GgufHeadWriter {
 public:
  // Writes `alignment` (a power of two) as general.alignment: do not add that key.
  explicit GgufHeadWriter(uint32_t alignment);

  void Add(std::string_view key, const MetadataValue& value);
  void AddU32(std::string_view key, uint32_t value);
  void AddU64(std::string_view key, uint64_t value);
  void AddString(std::string_view key, std::string_view value);
  void AddStrings(std::string_view key, std::span<const std::string> values);
  void AddU32s(std::string_view key, std::span<const uint32_t> values);
  void AddU64s(std::string_view key, std::span<const uint64_t> values);
  // Its place, counted from the end of the head.
  uint64_t AddTensor(std::string_view name, TensorType type, std::span<const int64_t> dims, uint64_t n_bytes);

  // The head, with zeros to the alignment: the first tensor follows it at once.
  std::vector<uint8_t> Finish() const;
  uint64_t data_bytes() const { return data_bytes_; }  // of all tensors, with zeros to the alignment behind each

 private:
  const uint32_t alignment_;
  uint64_t n_entries_ = 0;
  uint64_t n_tensors_ = 0;
  uint64_t data_bytes_ = 0;
  std::vector<uint8_t> entries_;
  std::vector<uint8_t> table_;
};

}  // namespace pantry
