// SPDX-License-Identifier: Apache-2.0
// What a thread can do with whatever the compiler makes of plain C++: for architectures that Pantry has no kernels for.
#include "sys/hardware_probe_kernel.h"

namespace pantry {
namespace {

constexpr int kItems = 4096;  // of arrays that stay in the first cache

// The compiler must take memory as changed and as used.
void Touch(void* data) { __asm__ volatile("" : : "r"(data) : "memory"); }

template <typename Item, typename Sum>
void RunDot(int64_t n_rounds) {
  Item a[kItems];
  Item b[kItems];
  for (int i = 0; i < kItems; ++i) a[i] = b[i] = static_cast<Item>(i % 16);
  for (int64_t round = 0; round < n_rounds; ++round) {
    constexpr int kSums = 16;
    Sum sums[kSums] = {};
    Touch(a);
    for (int i = 0; i < kItems; i += kSums) {
      for (int j = 0; j < kSums; ++j) sums[j] += static_cast<Sum>(a[i + j]) * static_cast<Sum>(b[i + j]);
    }
    Touch(sums);
  }
}

uint64_t Read(const uint8_t* data, int64_t n_bytes, int, int64_t) {
  uint64_t folds[8] = {};
  for (int64_t at = 0; at < n_bytes; at += static_cast<int64_t>(sizeof folds)) {
    for (int i = 0; i < 8; ++i) {
      uint64_t word = 0;
      __builtin_memcpy(&word, data + at + 8 * i, sizeof word);
      folds[i] ^= word;
    }
  }
  for (int i = 1; i < 8; ++i) folds[0] ^= folds[i];
  return folds[0];
}

}  // namespace

const ProbeKernel kProbeScalar = {Read, RunDot<int8_t, int32_t>, RunDot<float, float>, 2 * kItems, 2 * kItems};

}  // namespace pantry
