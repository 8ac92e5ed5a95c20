// SPDX-License-Identifier: Apache-2.0
#include "weights/profile/predictor_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "base/rng.h"

namespace pantry {
namespace {

using ::testing::HasSubstr;

// Two layers of two networks of every kind: rank 0, 8 and 16, and none.
PredictorFile MadeUp() {
  Rng rng(3);
  PredictorFile file;
  file.model = "a small one";
  file.weights = rng.NextU64();
  file.n_layers = 2;
  file.n_networks = 2;
  file.n_inputs = 5;
  file.n_neurons = 7;
  file.recall = 0.95f;
  file.n_tokens = 4096;
  for (const int32_t rank : {0, 8, PredictorFile::kNone, 16}) {
    PredictorFile::Network& network = file.networks.emplace_back();
    network.rank = rank;
    if (rank == PredictorFile::kNone) continue;
    network.recall = 0.94f;
    network.density = 0.25f;
    network.true_share = 0.125f;
    network.bias.resize(7);
    network.v.resize(static_cast<size_t>(rank) * 5);
    network.u.resize(static_cast<size_t>(rank) * 7);
    std::ranges::generate(network.bias, [&] { return static_cast<float>(rng.NextDouble() - 0.5); });
    for (auto* halves : {&network.v, &network.u}) {
      std::ranges::generate(*halves, [&] { return static_cast<uint16_t>(rng.NextU64() & 0xBBFF); });
    }
  }
  return file;
}

Result<PredictorFile> ReadBytes(const std::string& bytes) {
  const std::span<const char> chars(bytes);
  return PredictorFile::Read(
      *MakeMemoryReader("x.predictor", {reinterpret_cast<const uint8_t*>(chars.data()), chars.size()}));
}

TEST(PredictorFile, ComesOutOfAFileAsItWentIn) {
  const PredictorFile file = MadeUp();
  const Result<PredictorFile> read = ReadBytes(file.Serialize());
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(read->model, file.model);
  EXPECT_EQ(read->weights, file.weights);
  EXPECT_EQ(read->n_layers, 2);
  EXPECT_EQ(read->n_networks, 2);
  EXPECT_EQ(read->n_inputs, 5);
  EXPECT_EQ(read->n_neurons, 7);
  EXPECT_EQ(read->recall, file.recall);
  EXPECT_EQ(read->n_tokens, 4096);
  ASSERT_EQ(read->networks.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    const PredictorFile::Network &got = read->networks[i], &expected = file.networks[i];
    EXPECT_EQ(got.rank, expected.rank);
    EXPECT_EQ(got.recall, expected.recall);
    EXPECT_EQ(got.density, expected.density);
    EXPECT_EQ(got.true_share, expected.true_share);
    EXPECT_EQ(got.bias, expected.bias);
    EXPECT_EQ(got.v, expected.v);
    EXPECT_EQ(got.u, expected.u);
  }
}

TEST(PredictorFile, EveryDamagedOrMissingByteIsNoticed) {
  const std::string bytes = MadeUp().Serialize();
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    const Result<PredictorFile> read = ReadBytes(damaged);
    ASSERT_FALSE(read.ok()) << "byte " << at;
    EXPECT_THAT(std::string(read.status().message()), HasSubstr("x.predictor: "));
  }
  for (const size_t n : {size_t{0}, size_t{7}, size_t{63}, size_t{64}, size_t{100}, bytes.size() - 1}) {
    EXPECT_EQ(ReadBytes(bytes.substr(0, n)).status().code(), StatusCode::kCorruption) << n;
  }
  EXPECT_EQ(ReadBytes(bytes + "x").status().code(), StatusCode::kCorruption);
}

// A reader of a file with holes: zeros behind `bytes`, as far as anybody likes.
class SparseReader final : public Reader {
 public:
  SparseReader(std::string bytes, uint64_t size) : bytes_(std::move(bytes)), size_(size) {}
  const std::string& path() const override { return path_; }
  uint64_t size() const override { return size_; }
  Status ReadAt(uint64_t offset, std::span<uint8_t> out) const override {
    std::ranges::fill(out, uint8_t{0});
    for (size_t i = 0; i < out.size() && offset + i < bytes_.size(); ++i)
      out[i] = static_cast<uint8_t>(bytes_[offset + i]);
    return OkStatus();
  }

 private:
  std::string path_ = "x.predictor";
  std::string bytes_;
  uint64_t size_;
};

TEST(PredictorFile, ASizeThatDoesNotFollowFromTheTableIsRefusedBeforeAnythingIsTaken) {
  const std::string bytes = MadeUp().Serialize();
  for (const uint64_t size : {uint64_t{1} << 40, uint64_t{1} << 62}) {
    const Result<PredictorFile> read = PredictorFile::Read(SparseReader(bytes, size));
    EXPECT_EQ(read.status().code(), StatusCode::kCorruption);
    EXPECT_THAT(std::string(read.status().message()), HasSubstr("it is cut or damaged"));
  }
  std::string many = bytes;  // 2^32 networks
  for (const size_t at : {12, 16}) many.replace(at, 4, std::string("\0\0\1\0", 4));
  EXPECT_THAT(std::string(PredictorFile::Read(SparseReader(many, uint64_t{1} << 40)).status().message()),
              HasSubstr("its head is damaged"));
}

TEST(PredictorFile, SoundChecksumDoesNotExcuseNonsense) {
  PredictorFile above_one = MadeUp(), not_finite = MadeUp(), infinite = MadeUp();
  above_one.networks[1].density = 1.5f;
  not_finite.networks[0].bias[3] = NAN;
  infinite.networks[3].u[0] = 0x7C00;
  for (const PredictorFile& file : {above_one, not_finite, infinite}) {
    EXPECT_EQ(ReadBytes(file.Serialize()).status().code(), StatusCode::kCorruption);
  }
}

TEST(PredictorFile, RefusesAnotherVersion) {
  std::string bytes = MadeUp().Serialize();
  bytes[8] = 9;
  EXPECT_EQ(ReadBytes(bytes).status().code(), StatusCode::kUnsupported);
}

}  // namespace
}  // namespace pantry
