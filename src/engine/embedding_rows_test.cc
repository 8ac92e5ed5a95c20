// SPDX-License-Identifier: Apache-2.0
#include "engine/embedding_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/rng.h"
#include "io/faulty_queue.h"
#include "io/faulty_reader.h"
#include "support/temporary_files.h"
#include "support/tiny_engine.h"
#include "weights/gguf/gguf_test_builder.h"
#include "weights/quant/dequantize.h"

namespace pantry {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kCols = 256;
constexpr int64_t kVocab = 700;

// A file of one matrix that is no other tensor's neighbour, of random bytes.
class EmbeddingRowsTest : public ::testing::TestWithParam<TensorType> {
 protected:
  EmbeddingRowsTest() {
    row_bytes_ = RowBytes(GetParam(), kCols);
    bytes_ = testing::GgufBuilder().Tensor("token_embd.weight", {kCols, kVocab}, GetParam()).Build();
    Rng rng(7);
    const auto n_bytes = static_cast<std::ptrdiff_t>(kVocab * row_bytes_);
    std::for_each(bytes_.end() - n_bytes, bytes_.end(), [&](uint8_t& byte) {
      byte = static_cast<uint8_t>(rng.NextU64() & 0x3b);  // no NaN in any format
    });
  }
  // A file on the disk.
  std::unique_ptr<GgufFile> OnDisk() {
    path_ = folder_.path() + "/rows.gguf";
    Write();
    return GgufFile::Open(path_).value();
  }
  void Write() const {
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes_.data()), static_cast<std::streamsize>(bytes_.size()));
  }
  static RowsInFile Where(const GgufFile& file) {
    const TensorInfo& tensor = *file.FindTensor("token_embd.weight");
    WeightPlacer placer;
    placer.AddRows(tensor, 0);
    return *placer.rows_in_file();
  }
  static std::vector<TokenId> Tokens(size_t n) {
    Rng rng(3);
    std::vector<TokenId> tokens = {0, kVocab - 1, 5, 5, 6, 7, 5};
    while (tokens.size() < n) {
      const auto most = static_cast<uint64_t>(tokens.size() % 3 == 0 ? 10 : kVocab);  // many of them often
      tokens.push_back(static_cast<TokenId>(rng.NextU64() % most));
    }
    tokens.resize(n);
    return tokens;
  }
  void ExpectRows(const GgufFile& file, EmbeddingRows& rows, const std::vector<TokenId>& tokens) {
    const TensorInfo& tensor = *file.FindTensor("token_embd.weight");
    std::vector<float> out(tokens.size() * kCols, -1.0f);
    const Status status = rows.Rows(tokens, out.data());
    ASSERT_TRUE(status.ok()) << status.ToString();
    std::vector<float> expected(kCols);
    for (size_t i = 0; i < tokens.size(); ++i) {
      DequantizeRow(tensor.type, bytes_.data() + tensor.offset + static_cast<uint64_t>(tokens[i] * row_bytes_), kCols,
                    expected.data());
      ASSERT_TRUE(std::equal(expected.begin(), expected.end(), out.begin() + static_cast<int64_t>(i * kCols)))
          << "token " << i;
    }
  }

  static const SteadyClock kClock;
  NullLogger log_;
  const testing::TemporaryFolder folder_;
  std::string path_;
  int64_t row_bytes_ = 0;
  std::vector<uint8_t> bytes_;
};
const SteadyClock EmbeddingRowsTest::kClock;

TEST_P(EmbeddingRowsTest, EveryReaderGivesTheRowsOfRunsOfAnyLength) {
  const auto file = OnDisk();
  for (const DiskAccess access : {DiskAccess::kAuto, DiskAccess::kUring, DiskAccess::kPread, DiskAccess::kPageCache}) {
    SCOPED_TRACE(DiskAccessName(access));
    auto rows = EmbeddingRows::Open(*file, Where(*file), {.access = access}, kClock, log_);
    EXPECT_TRUE(rows.ok() || access == DiskAccess::kUring) << rows.status().ToString();
    if (!rows.ok()) continue;
    for (const size_t n : {1, 2, 17, 512, 513, 1500}) ExpectRows(*file, **rows, Tokens(n));
  }
}

TEST_P(EmbeddingRowsTest, EqualTokensAreReadOnce) {
  const auto file = OnDisk();
  auto rows = EmbeddingRows::Open(*file, Where(*file), {}, kClock, log_);
  ASSERT_TRUE(rows.ok());
  ExpectRows(*file, **rows, {9, 3, 9, 9, 3});
  EXPECT_EQ((*rows)->stats().n_reads, 2);
  EXPECT_EQ((*rows)->stats().bytes_wanted, 2 * row_bytes_);
}

TEST_P(EmbeddingRowsTest, ADiskThatFailsNowAndThenAndStopsShortGivesTheSameRows) {
  const auto file = OnDisk();
  for (const uint64_t seed : {1, 2, 3}) {
    const DiskFaults faults = {.error_share = 0.1, .short_share = 0.3, .hold_share = 0.5, .seed = seed};
    auto rows =
        EmbeddingRows::Open(*file, Where(*file), {}, kClock, log_, testing::FaultyBlockReader(*file, faults, 100));
    ASSERT_TRUE(rows.ok());
    ExpectRows(*file, **rows, Tokens(600));
    EXPECT_GT((*rows)->stats().n_retries, 0);
  }
}

TEST_P(EmbeddingRowsTest, ARowThatCannotBeReadIsAnErrorOfItsTensorAndOthersStillCanBe) {
  const auto file = OnDisk();
  const RowsInFile where = Where(*file);
  DiskFaults faults;
  faults.bad_offset = where.offset + static_cast<uint64_t>(300 * where.row_bytes);
  auto rows = EmbeddingRows::Open(*file, where, {}, kClock, log_, testing::FaultyBlockReader(*file, faults, 1));
  ASSERT_TRUE(rows.ok());
  std::vector<TokenId> tokens = Tokens(100);
  tokens[50] = 300;
  std::vector<float> out(tokens.size() * kCols);
  for (int round = 0; round < 2; ++round) {
    const Status status = (*rows)->Rows(tokens, out.data());
    EXPECT_EQ(status.code(), StatusCode::kIoError);
    EXPECT_THAT(std::string(status.message()), HasSubstr("tensor 'token_embd.weight'"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(path_));
    ExpectRows(*file, **rows, {1, 2, 699});
  }
}

TEST_P(EmbeddingRowsTest, AFileThatEndsBeforeTheRowIsAnError) {
  const auto file = OnDisk();
  for (const DiskAccess access : {DiskAccess::kUring, DiskAccess::kPread, DiskAccess::kPageCache}) {
    SCOPED_TRACE(DiskAccessName(access));
    Write();
    auto rows = EmbeddingRows::Open(*file, Where(*file), {.access = access}, kClock, log_);
    if (!rows.ok()) continue;
    std::filesystem::resize_file(path_, Where(*file).offset + static_cast<uint64_t>(row_bytes_ * 400 + 1));
    std::vector<float> out(2 * kCols);
    const std::vector<TokenId> tokens = {401, 400};
    const Status status = (*rows)->Rows(tokens, out.data());
    EXPECT_TRUE(status.code() == StatusCode::kIoError || status.code() == StatusCode::kCorruption);
    EXPECT_THAT(std::string(status.message()), HasSubstr(path_));
  }
}

// Files that are not on a disk are read by their own means, and fail by them.
TEST_P(EmbeddingRowsTest, AReaderThatFailsIsAnErrorAndNoMore) {
  const auto plain = OnDisk();
  const RowsInFile where = Where(*plain);
  FaultPlan plan;
  plan.fail_offset = where.offset + static_cast<uint64_t>(3 * row_bytes_);
  const FaultyReader bad(MakeMemoryReader("rows.gguf", bytes_), plan);
  const std::vector<const Reader*> files = {&bad};
  auto rows = EmbeddingRows::Open(
      *plain, where, {}, kClock, log_,
      std::make_unique<BlockReader>(files, OpenReaderQueue(files, 8).value(), BlockReaderOptions(), kClock));
  ASSERT_TRUE(rows.ok()) << rows.status().ToString();
  std::vector<float> out(3 * kCols);
  const std::vector<TokenId> tokens = {600, 3, 500};
  EXPECT_EQ((*rows)->Rows(tokens, out.data()).code(), StatusCode::kIoError);
  ExpectRows(*plain, **rows, {600, 500});
}

TEST_P(EmbeddingRowsTest, RowsMayLieInAShardOfTheirOwn) {
  std::vector<std::vector<uint8_t>> shards;
  for (const uint16_t no : {0, 1}) {
    testing::GgufBuilder builder;
    builder.U16("split.no", no).U16("split.count", 2);
    shards.push_back(builder.Tensor(no == 0 ? "other" : "token_embd.weight", {kCols, kVocab}, GetParam()).Build());
  }
  const auto n_bytes = static_cast<std::ptrdiff_t>(kVocab * row_bytes_);
  std::copy(bytes_.end() - n_bytes, bytes_.end(), shards[1].end() - n_bytes);
  std::vector<std::unique_ptr<Reader>> readers;
  for (const auto& shard : shards) readers.push_back(MakeMemoryReader("shard", shard));
  auto file = GgufFile::Open(std::move(readers));
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  const RowsInFile where = Where(**file);
  EXPECT_EQ(where.file, 1);
  auto rows = EmbeddingRows::Open(**file, where, {}, kClock, log_);
  ASSERT_TRUE(rows.ok()) << rows.status().ToString();
  bytes_ = shards[1];
  ExpectRows(**file, **rows, Tokens(40));
}

INSTANTIATE_TEST_SUITE_P(Types, EmbeddingRowsTest,
                         ::testing::Values(TensorType::kF32, TensorType::kBF16, TensorType::kQ8_0, TensorType::kQ4_K,
                                           TensorType::kQ6_K),
                         [](const auto& param) { return std::string(TensorTypeName(param.param)); });

}  // namespace
}  // namespace pantry
