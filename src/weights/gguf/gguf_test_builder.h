// SPDX-License-Identifier: Apache-2.0
// A GgufBuilder writes GGUF files in memory for tests: good ones, and bad ones byte by byte. For tests only.
//
// By default everything is as the format wants it; Version(), Counts(), RawEntry() and a tensor's offset override what
// a test wants wrong.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "weights/gguf/metadata.h"
#include "weights/quant/tensor_type.h"

namespace pantry::testing {

// Little-endian bytes, appended one field after the other.
class Bytes {
 public:
  template <typename T>
  Bytes& Put(T value) {
    return Raw(&value, sizeof(T));
  }
  Bytes& U8(uint8_t v) { return Put(v); }
  Bytes& U32(uint32_t v) { return Put(v); }
  Bytes& U64(uint64_t v) { return Put(v); }
  Bytes& Text(std::string_view text) { return Raw(text.data(), text.size()); }
  Bytes& String(std::string_view text) { return U64(text.size()).Text(text); }
  Bytes& Append(const Bytes& other) {
    bytes_.insert(bytes_.end(), other.bytes_.begin(), other.bytes_.end());
    return *this;
  }
  Bytes& PadTo(size_t multiple) {
    bytes_.resize((bytes_.size() + multiple - 1) / multiple * multiple);
    return *this;
  }
  size_t size() const { return bytes_.size(); }
  std::vector<uint8_t> Take() { return std::move(bytes_); }

 private:
  // Not inlined: gcc 12 then sees a vector's growth with constants, and overflows that cannot be.
  [[gnu::noinline]] Bytes& Raw(const void* from, size_t n) {
    const size_t at = bytes_.size();
    bytes_.resize(at + n);
    if (n > 0) std::memcpy(bytes_.data() + at, from, n);
    return *this;
  }
  std::vector<uint8_t> bytes_;
};

class GgufBuilder {
 public:
  GgufBuilder& Version(uint32_t version) { return version_ = version, *this; }
  GgufBuilder& Counts(uint64_t n_tensors, uint64_t n_entries) { return counts_ = {n_tensors, n_entries}, *this; }
  GgufBuilder& Alignment(uint32_t alignment) { return alignment_ = alignment, U32("general.alignment", alignment); }

  // Metadata.
  GgufBuilder& RawEntry(const Bytes& bytes) { return entries_.Append(bytes), ++n_entries_, *this; }
  template <typename T>
  GgufBuilder& Entry(std::string_view key, MetadataType type, T value) {
    return RawEntry(Bytes().String(key).U32(static_cast<uint32_t>(type)).Put(value));
  }
  GgufBuilder& U16(std::string_view key, uint16_t v) { return Entry(key, MetadataType::kU16, v); }
  GgufBuilder& U32(std::string_view key, uint32_t v) { return Entry(key, MetadataType::kU32, v); }
  GgufBuilder& I32(std::string_view key, int32_t v) { return Entry(key, MetadataType::kI32, v); }
  GgufBuilder& F32(std::string_view key, float v) { return Entry(key, MetadataType::kF32, v); }
  GgufBuilder& Bool(std::string_view key, bool v) { return Entry(key, MetadataType::kBool, static_cast<uint8_t>(v)); }
  GgufBuilder& String(std::string_view key, std::string_view v) {
    return RawEntry(Bytes().String(key).U32(static_cast<uint32_t>(MetadataType::kString)).String(v));
  }
  template <typename T>
  GgufBuilder& Array(std::string_view key, MetadataType element_type, const std::vector<T>& values) {
    Bytes bytes = ArrayHead(key, element_type, values.size());
    for (const T& value : values) bytes.Put(value);
    return RawEntry(bytes);
  }
  GgufBuilder& Strings(std::string_view key, const std::vector<std::string>& values) {
    Bytes bytes = ArrayHead(key, MetadataType::kString, values.size());
    for (const std::string& value : values) bytes.String(value);
    return RawEntry(bytes);
  }
  // Key, "array", element type, count: the elements follow.
  static Bytes ArrayHead(std::string_view key, MetadataType element_type, uint64_t count) {
    return Bytes()
        .String(key)
        .U32(static_cast<uint32_t>(MetadataType::kArray))
        .U32(static_cast<uint32_t>(element_type))
        .U64(count);
  }

  // Tensors. The data are n_data_bytes of (index of the tensor + 1); the offset is the next aligned one unless given.
  GgufBuilder& RawTensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type, size_t n_data_bytes,
                         std::optional<uint64_t> offset = std::nullopt) {
    table_.String(name).U32(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) table_.U64(dim);
    data_.PadTo(alignment_);
    table_.U32(type).U64(offset.value_or(data_.size()));
    ++n_tensors_;
    data_.Text(std::string(n_data_bytes, static_cast<char>(n_tensors_)));
    return *this;
  }
  GgufBuilder& Tensor(std::string_view name, const std::vector<uint64_t>& dims, TensorType type) {
    int64_t n_rows = 1;
    for (size_t i = 1; i < dims.size(); ++i) n_rows *= static_cast<int64_t>(dims[i]);
    const int64_t n_bytes = RowBytes(type, static_cast<int64_t>(dims[0])) * n_rows;
    return RawTensor(name, dims, static_cast<uint32_t>(type), static_cast<size_t>(n_bytes));
  }

  std::vector<uint8_t> Build() const {
    const auto [n_tensors, n_entries] = counts_.value_or(std::pair{n_tensors_, n_entries_});
    Bytes file;
    file.Text("GGUF").U32(version_).U64(n_tensors).U64(n_entries).Append(entries_).Append(table_);
    return file.PadTo(alignment_).Append(data_).Take();
  }

 private:
  uint32_t version_ = 3;
  size_t alignment_ = 32;
  std::optional<std::pair<uint64_t, uint64_t>> counts_;
  uint64_t n_entries_ = 0;
  uint64_t n_tensors_ = 0;
  Bytes entries_, table_, data_;
};

}  // namespace pantry::testing
