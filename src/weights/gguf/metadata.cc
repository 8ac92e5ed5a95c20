// SPDX-License-Identifier: Apache-2.0
#include "weights/gguf/metadata.h"

#include <limits>
#include <utility>

#include "weights/gguf/gguf_cursor.h"

namespace pantry {
namespace {

Status Missing(std::string_view key) { return NotFoundError("metadata key '{}' is missing", Printable(key, 100)); }

Status WrongType(std::string_view key, std::string_view expected, const MetadataValue& value) {
  return CorruptionError("metadata key '{}': expected {}, found {}", Printable(key, 100), expected,
                         MetadataTypeName(value.type));
}

std::string FormatFloat(MetadataType type, double value) {
  // An F32 is printed as the F32 that it was: 1e-05, not 9.999999747378752e-06.
  return type == MetadataType::kF32 ? fmt::format("{}", static_cast<float>(value)) : fmt::format("{}", value);
}

std::string FormatElement(const MetadataArray& array, size_t i, size_t max_chars) {
  if (!array.strings.empty()) return Printable(array.strings[i], max_chars);
  if (!array.floats.empty()) return FormatFloat(array.element_type, array.floats[i]);
  if (!array.nested.empty()) return FormatMetadataValue(array.nested[i], max_chars);
  if (array.element_type == MetadataType::kBool) return array.integers[i] != 0 ? "true" : "false";
  if (array.element_type == MetadataType::kU64) return fmt::format("{}", static_cast<uint64_t>(array.integers[i]));
  return fmt::format("{}", array.integers[i]);
}

std::string FormatArray(const MetadataArray& array, size_t max_chars) {
  const size_t n = array.size();
  std::string out = fmt::format("[{} {}{}]", n, MetadataTypeName(array.element_type), n == 1 ? "" : "s");
  for (size_t i = 0; i < n; ++i) {
    const size_t room = max_chars > out.size() + 2 ? max_chars - out.size() - 2 : 0;
    const std::string element = FormatElement(array, i, room);
    if (element.size() > room) return out + (i == 0 ? " ..." : ", ...");
    out += (i == 0 ? " " : ", ") + element;
  }
  return out;
}

}  // namespace

std::string_view MetadataTypeName(MetadataType type) {
  switch (type) {
    case MetadataType::kU8: return "u8";
    case MetadataType::kI8: return "i8";
    case MetadataType::kU16: return "u16";
    case MetadataType::kI16: return "i16";
    case MetadataType::kU32: return "u32";
    case MetadataType::kI32: return "i32";
    case MetadataType::kF32: return "f32";
    case MetadataType::kBool: return "bool";
    case MetadataType::kString: return "string";
    case MetadataType::kArray: return "array";
    case MetadataType::kU64: return "u64";
    case MetadataType::kI64: return "i64";
    case MetadataType::kF64: return "f64";
  }
  return "unknown";
}

size_t MetadataArray::size() const { return strings.size() + integers.size() + floats.size() + nested.size(); }

const MetadataValue* Metadata::Find(std::string_view key) const {
  const auto it = index_.find(std::string(key));
  return it == index_.end() ? nullptr : &entries_[it->second].value;
}

bool Metadata::Add(std::string key, MetadataValue value) {
  if (!index_.emplace(key, entries_.size()).second) return false;
  entries_.push_back({std::move(key), std::move(value)});
  return true;
}

Result<int64_t> Metadata::GetInt(std::string_view key) const {
  const MetadataValue* found = Find(key);
  if (found == nullptr) return Missing(key);
  if (const bool* b = std::get_if<bool>(&found->value)) return int64_t{*b};
  if (const int64_t* i = std::get_if<int64_t>(&found->value)) return *i;
  const uint64_t* u = std::get_if<uint64_t>(&found->value);
  if (u == nullptr) return WrongType(key, "an integer", *found);
  if (*u > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return CorruptionError("metadata key '{}': {} is too large for an integer of 63 bits", Printable(key, 100), *u);
  }
  return static_cast<int64_t>(*u);
}

Result<double> Metadata::GetFloat(std::string_view key) const {
  const MetadataValue* found = Find(key);
  if (found == nullptr) return Missing(key);
  if (const double* d = std::get_if<double>(&found->value)) return *d;
  if (const int64_t* i = std::get_if<int64_t>(&found->value)) return static_cast<double>(*i);
  if (const uint64_t* u = std::get_if<uint64_t>(&found->value)) return static_cast<double>(*u);
  return WrongType(key, "a number", *found);
}

Result<bool> Metadata::GetBool(std::string_view key) const {
  const MetadataValue* found = Find(key);
  if (found == nullptr) return Missing(key);
  const bool* b = std::get_if<bool>(&found->value);
  if (b == nullptr) return WrongType(key, "bool", *found);
  return *b;
}

Result<std::string_view> Metadata::GetString(std::string_view key) const {
  const MetadataValue* found = Find(key);
  if (found == nullptr) return Missing(key);
  const std::string* s = std::get_if<std::string>(&found->value);
  if (s == nullptr) return WrongType(key, "string", *found);
  return std::string_view(*s);
}

Result<const MetadataArray*> Metadata::GetArray(std::string_view key) const {
  const MetadataValue* found = Find(key);
  if (found == nullptr) return Missing(key);
  const auto* array = std::get_if<std::unique_ptr<MetadataArray>>(&found->value);
  if (array == nullptr) return WrongType(key, "array", *found);
  return static_cast<const MetadataArray*>(array->get());
}

Result<int64_t> Metadata::GetIntOr(std::string_view key, int64_t fallback) const {
  if (!Has(key)) return fallback;
  return GetInt(key);
}
Result<double> Metadata::GetFloatOr(std::string_view key, double fallback) const {
  if (!Has(key)) return fallback;
  return GetFloat(key);
}
Result<bool> Metadata::GetBoolOr(std::string_view key, bool fallback) const {
  if (!Has(key)) return fallback;
  return GetBool(key);
}
Result<std::string_view> Metadata::GetStringOr(std::string_view key, std::string_view fallback) const {
  if (!Has(key)) return fallback;
  return GetString(key);
}

std::string FormatMetadataValue(const MetadataValue& value, size_t max_chars) {
  struct Visitor {
    MetadataType type;
    size_t max_chars;
    std::string operator()(uint64_t u) const { return fmt::format("{}", u); }
    std::string operator()(int64_t i) const { return fmt::format("{}", i); }
    std::string operator()(double d) const { return FormatFloat(type, d); }
    std::string operator()(bool b) const { return b ? "true" : "false"; }
    std::string operator()(const std::string& s) const { return '"' + Printable(s, max_chars) + '"'; }
    std::string operator()(const std::unique_ptr<MetadataArray>& a) const {
      return a ? FormatArray(*a, max_chars) : "[]";
    }
  };
  return std::visit(Visitor{value.type, max_chars}, value.value);
}

}  // namespace pantry
