// SPDX-License-Identifier: Apache-2.0
// Metadata is the key-value part of a GGUF file: hyperparameters, tokenizer, chat template.
//
// Values keep their GGUF type; typed getters convert between integer widths where no information is lost and report a wrong type
// with key, expected and found. Threads: const methods from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/status.h"

namespace pantry {

enum class MetadataType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};
std::string_view MetadataTypeName(MetadataType type);  // "u32", "string", ...

struct MetadataArray;

// Integers of all widths live in int64_t or uint64_t; `type` remembers the width on disk.
struct MetadataValue {
  MetadataType type = MetadataType::kU32;
  std::variant<uint64_t, int64_t, double, bool, std::string, std::unique_ptr<MetadataArray>> value;
};

struct MetadataArray {
  MetadataType element_type = MetadataType::kU32;
  // Exactly one of these is filled, by the element type: strings, integers and bools, floats, nested arrays.
  std::vector<std::string> strings;
  std::vector<int64_t> integers;
  std::vector<double> floats;
  std::vector<MetadataValue> nested;
  size_t size() const;
};

class Metadata {
 public:
  struct Entry {
    std::string key;
    MetadataValue value;
  };

  bool Has(std::string_view key) const { return Find(key) != nullptr; }
  const MetadataValue* Find(std::string_view key) const;          // null where absent
  const std::vector<Entry>& entries() const { return entries_; }  // in file order

  // kNotFound names the key; kCorruption says expected and found type.
  Result<int64_t> GetInt(std::string_view key) const;   // any integer type, or bool
  Result<double> GetFloat(std::string_view key) const;  // any number
  Result<bool> GetBool(std::string_view key) const;
  Result<std::string_view> GetString(std::string_view key) const;
  Result<const MetadataArray*> GetArray(std::string_view key) const;
  // The value, or `fallback` where the key is absent. A wrong type is an error still.
  Result<int64_t> GetIntOr(std::string_view key, int64_t fallback) const;
  Result<double> GetFloatOr(std::string_view key, double fallback) const;
  Result<bool> GetBoolOr(std::string_view key, bool fallback) const;
  Result<std::string_view> GetStringOr(std::string_view key, std::string_view fallback) const;

  // False when the key is there already.
  bool Add(std::string key, MetadataValue value);

 private:
  std::vector<Entry> entries_;
  std::unordered_map<std::string, size_t> index_;
};

// One line for `pantry show`: numbers plain, strings quoted and cut at max_chars, arrays as "[49152 strings] a, b, ...".
std::string FormatMetadataValue(const MetadataValue& value, size_t max_chars);

}  // namespace pantry
