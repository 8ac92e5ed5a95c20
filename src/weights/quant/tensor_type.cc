// SPDX-License-Identifier: Apache-2.0
#include "weights/quant/tensor_type.h"

#include <array>

#include "base/status.h"

namespace pantry {
namespace {

constexpr TensorTypeTraits kTraits[] = {
    {TensorType::kF32, "F32", 1, 4, true},         {TensorType::kF16, "F16", 1, 2, true},
    {TensorType::kQ4_0, "Q4_0", 32, 18, true},     {TensorType::kQ4_1, "Q4_1", 32, 20, true},
    {TensorType::kQ5_0, "Q5_0", 32, 22, true},     {TensorType::kQ5_1, "Q5_1", 32, 24, true},
    {TensorType::kQ8_0, "Q8_0", 32, 34, true},     {TensorType::kQ2_K, "Q2_K", 256, 84, true},
    {TensorType::kQ3_K, "Q3_K", 256, 110, true},   {TensorType::kQ4_K, "Q4_K", 256, 144, true},
    {TensorType::kQ5_K, "Q5_K", 256, 176, true},   {TensorType::kQ6_K, "Q6_K", 256, 210, true},
    {TensorType::kIQ4_NL, "IQ4_NL", 32, 18, true}, {TensorType::kIQ4_XS, "IQ4_XS", 256, 136, true},
    {TensorType::kI8, "I8", 1, 1, false},          {TensorType::kI16, "I16", 1, 2, false},
    {TensorType::kI32, "I32", 1, 4, false},        {TensorType::kI64, "I64", 1, 8, false},
    {TensorType::kF64, "F64", 1, 8, false},        {TensorType::kBF16, "BF16", 1, 2, true},
    {TensorType::kMXFP4, "MXFP4", 32, 17, true},
};

// Index into kTraits by GGUF number, or -1: lookups happen per row in hot loops.
constexpr uint32_t kNumbers = 40;
constexpr auto kIndex = [] {
  std::array<int8_t, kNumbers> index{};
  index.fill(-1);
  for (size_t i = 0; i < std::size(kTraits); ++i) {
    index[static_cast<uint32_t>(kTraits[i].type)] = static_cast<int8_t>(i);
  }
  return index;
}();

}  // namespace

std::span<const TensorTypeTraits> AllTensorTypes() { return kTraits; }

const TensorTypeTraits* FindTensorType(uint32_t gguf_number) {
  if (gguf_number >= kNumbers || kIndex[gguf_number] < 0) return nullptr;
  return &kTraits[kIndex[gguf_number]];
}

const TensorTypeTraits& TraitsOf(TensorType type) {
  const TensorTypeTraits* traits = FindTensorType(static_cast<uint32_t>(type));
  PANTRY_CHECK(traits != nullptr);
  return *traits;
}

}  // namespace pantry
