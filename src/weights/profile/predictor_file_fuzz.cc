// SPDX-License-Identifier: Apache-2.0
// Whatever a predictor file holds, reading it ends with a message or with predictors that come out of Serialize() as they went in.
// The checksum would keep most inputs out, so it is put right where the file is long enough to have one.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "weights/profile/hashed_bytes.h"
#include "weights/profile/predictor_file.h"

namespace {

using namespace pantry;

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

void ReadAll(const std::string& bytes) {
  const auto* const data = reinterpret_cast<const uint8_t*>(bytes.data());
  const auto reader = MakeMemoryReader("fuzz.predictor", {data, data + bytes.size()});
  const Result<PredictorFile> file = PredictorFile::Read(*reader);
  if (!file.ok()) {
    Require(file.status().message().starts_with("fuzz.predictor"));
    return;
  }
  Require(file->Serialize().size() == bytes.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  ReadAll(bytes);
  if (size < kFixedBytes) return 0;
  const uint64_t hash = HashOf(bytes);
  std::memcpy(bytes.data() + kHashOffset, &hash, sizeof hash);
  ReadAll(bytes);
  return 0;
}
