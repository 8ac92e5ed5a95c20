// SPDX-License-Identifier: Apache-2.0
#include "weights/gguf/gguf_head_writer.h"

#include <bit>
#include <cstring>
#include <memory>
#include <utility>

namespace pantry {
namespace {

using Bytes = std::vector<uint8_t>;

template <typename T>
void Put(Bytes& out, T value) {
  static_assert(std::endian::native == std::endian::little, "GGUF files of other byte orders need swapping");
  const size_t at = out.size();
  out.resize(at + sizeof(T));
  std::memcpy(out.data() + at, &value, sizeof(T));
}

void PutString(Bytes& out, std::string_view text) {
  Put<uint64_t>(out, text.size());
  out.insert(out.end(), text.begin(), text.end());
}

void PutType(Bytes& out, MetadataType type) { Put(out, static_cast<uint32_t>(type)); }

void PutInteger(Bytes& out, MetadataType type, uint64_t value) {
  switch (type) {
    case MetadataType::kU8:
    case MetadataType::kI8:
    case MetadataType::kBool: return Put(out, static_cast<uint8_t>(value));
    case MetadataType::kU16:
    case MetadataType::kI16: return Put(out, static_cast<uint16_t>(value));
    case MetadataType::kU32:
    case MetadataType::kI32: return Put(out, static_cast<uint32_t>(value));
    default: return Put(out, value);
  }
}

void PutFloat(Bytes& out, MetadataType type, double value) {
  if (type == MetadataType::kF32) Put(out, static_cast<float>(value));
  else Put(out, value);
}

void PutValue(Bytes& out, const MetadataValue& value);

void PutArray(Bytes& out, const MetadataArray& array) {
  PutType(out, array.element_type);
  Put<uint64_t>(out, array.size());
  for (const std::string& text : array.strings) PutString(out, text);
  for (const int64_t integer : array.integers) PutInteger(out, array.element_type, static_cast<uint64_t>(integer));
  for (const double number : array.floats) PutFloat(out, array.element_type, number);
  for (const MetadataValue& nested : array.nested) PutValue(out, nested);
}

void PutValue(Bytes& out, const MetadataValue& value) {
  if (const auto* u = std::get_if<uint64_t>(&value.value)) PutInteger(out, value.type, *u);
  if (const auto* i = std::get_if<int64_t>(&value.value)) PutInteger(out, value.type, static_cast<uint64_t>(*i));
  if (const auto* d = std::get_if<double>(&value.value)) PutFloat(out, value.type, *d);
  if (const auto* b = std::get_if<bool>(&value.value)) PutInteger(out, value.type, *b ? 1 : 0);
  if (const auto* s = std::get_if<std::string>(&value.value)) PutString(out, *s);
  if (const auto* a = std::get_if<std::unique_ptr<MetadataArray>>(&value.value)) PutArray(out, **a);
}

uint64_t RoundUp(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

GgufHeadWriter::GgufHeadWriter(uint32_t alignment) : alignment_(alignment) { AddU32("general.alignment", alignment); }

void GgufHeadWriter::Add(std::string_view key, const MetadataValue& value) {
  PutString(entries_, key);
  PutType(entries_, value.type);
  PutValue(entries_, value);
  ++n_entries_;
}

void GgufHeadWriter::AddU32(std::string_view key, uint32_t value) {
  Add(key, {MetadataType::kU32, static_cast<uint64_t>(value)});
}

void GgufHeadWriter::AddU64(std::string_view key, uint64_t value) { Add(key, {MetadataType::kU64, value}); }

void GgufHeadWriter::AddString(std::string_view key, std::string_view value) {
  Add(key, {MetadataType::kString, std::string(value)});
}

void GgufHeadWriter::AddStrings(std::string_view key, std::span<const std::string> values) {
  auto array = std::make_unique<MetadataArray>();
  array->element_type = MetadataType::kString;
  array->strings.assign(values.begin(), values.end());
  Add(key, {MetadataType::kArray, std::move(array)});
}

void GgufHeadWriter::AddU32s(std::string_view key, std::span<const uint32_t> values) {
  auto array = std::make_unique<MetadataArray>();
  array->element_type = MetadataType::kU32;
  array->integers.assign(values.begin(), values.end());
  Add(key, {MetadataType::kArray, std::move(array)});
}

void GgufHeadWriter::AddU64s(std::string_view key, std::span<const uint64_t> values) {
  auto array = std::make_unique<MetadataArray>();
  array->element_type = MetadataType::kU64;
  array->integers.assign(values.begin(), values.end());
  Add(key, {MetadataType::kArray, std::move(array)});
}

uint64_t GgufHeadWriter::AddTensor(std::string_view name, TensorType type, std::span<const int64_t> dims,
                                   uint64_t n_bytes) {
  const uint64_t offset = data_bytes_;
  PutString(table_, name);
  Put(table_, static_cast<uint32_t>(dims.size()));
  for (const int64_t dim : dims) Put(table_, static_cast<uint64_t>(dim));
  Put(table_, static_cast<uint32_t>(type));
  Put(table_, offset);
  data_bytes_ += RoundUp(n_bytes, alignment_);
  ++n_tensors_;
  return offset;
}

std::vector<uint8_t> GgufHeadWriter::Finish() const {
  constexpr uint32_t kVersion = 3;
  Bytes head = {'G', 'G', 'U', 'F'};
  Put(head, kVersion);
  Put(head, n_tensors_);
  Put(head, n_entries_);
  head.insert(head.end(), entries_.begin(), entries_.end());
  head.insert(head.end(), table_.begin(), table_.end());
  head.resize(RoundUp(head.size(), alignment_));
  return head;
}

}  // namespace pantry
