// SPDX-License-Identifier: Apache-2.0
// Whatever a reference file holds, opening it and reading its rows ends with a message, or with rows of as many finite figures as it says.
// Checksums would keep most inputs out, so they are put right where the file is long enough to have them.
#include <xxhash.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "eval/kl_file.h"

namespace {

using namespace pantry;

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

void ReadAll(const std::vector<uint8_t>& bytes) {
  Result<KlFile> file = KlFile::Open(MakeMemoryReader("fuzz.kl", bytes));
  if (!file.ok()) {
    Require(file.status().message().starts_with("fuzz.kl"));
    return;
  }
  const KlHead& head = file->head();
  Require(head.tokens.size() == static_cast<size_t>(head.n_windows * head.n_ctx));
  for (int64_t row = 0; row < head.n_rows(); ++row) {
    const Result<KlRow> read = file->Row(row);
    if (!read.ok()) continue;
    Require(read->steps.size() == static_cast<size_t>(head.n_vocab));
    Require(read->best >= 0 && read->best < head.n_vocab && std::isfinite(read->loss));
  }
}

// As KlFileWriter does it.
void MendChecksums(std::vector<uint8_t>& bytes) {
  constexpr size_t kPage = 4096;
  if (bytes.size() < 2 * kPage) return;
  const uint64_t fixed = XXH3_64bits(bytes.data(), 56);
  const uint64_t head = XXH3_64bits_withSeed(bytes.data() + 64, kPage - 64, fixed);
  std::memcpy(bytes.data() + 56, &head, sizeof head);
  for (size_t row = kPage; row + kPage <= bytes.size(); row += kPage) {
    const uint64_t hash = XXH3_64bits(bytes.data() + row, kPage - sizeof(uint64_t));
    std::memcpy(bytes.data() + row + kPage - sizeof hash, &hash, sizeof hash);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> bytes(data, data + size);
  ReadAll(bytes);
  MendChecksums(bytes);
  ReadAll(bytes);
  return 0;
}
