// SPDX-License-Identifier: Apache-2.0
// Whatever a profile file holds, reading it ends with a message or with a profile that comes out of Serialize() as it went in.
// The checksum would keep most inputs out, so it is put right where the file is long enough to have one.
#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "weights/profile/neuron_profile.h"

namespace {

using namespace pantry;

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

void ReadAll(const std::vector<uint8_t>& bytes) {
  const auto reader = MakeMemoryReader("fuzz.profile", bytes);
  const Result<NeuronProfile> profile = NeuronProfile::Read(*reader);
  if (!profile.ok()) {
    Require(profile.status().message().starts_with("fuzz.profile"));
    return;
  }
  const std::string again = profile->Serialize();
  Require(again.size() == bytes.size());
  for (const NeuronProfile::Layer& layer : profile->layers) {
    for (double sparsity = 0; sparsity <= NeuronProfile::kMostSparsity; sparsity += 0.0625) {
      const float threshold = layer.ThresholdFor(sparsity);
      Require(threshold >= 0 && threshold <= layer.thresholds.back());
      (void)FiringGates::OfSilu(threshold);
    }
  }
}

// As Serialize() does it.
void MendChecksum(std::vector<uint8_t>& bytes) {
  constexpr size_t kAt = 56, kEnd = 64;
  if (bytes.size() < kEnd) return;
  const uint64_t fixed = XXH3_64bits(bytes.data(), kAt);
  const uint64_t hash = XXH3_64bits_withSeed(bytes.data() + kEnd, bytes.size() - kEnd, fixed);
  std::memcpy(bytes.data() + kAt, &hash, sizeof hash);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> bytes(data, data + size);
  ReadAll(bytes);
  MendChecksum(bytes);
  ReadAll(bytes);
  return 0;
}
