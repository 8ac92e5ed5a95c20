// SPDX-License-Identifier: Apache-2.0
// Models of several files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "weights/gguf/gguf_file.h"
#include "weights/gguf/gguf_test_builder.h"

namespace pantry {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using testing::GgufBuilder;
using ::testing::HasSubstr;

// A folder with a model of three shards: tensors a, b in the first, c in the second, d in the third.
class GgufShards : public ::testing::Test {
 protected:
  GgufShards() {
    dir_ = ::testing::TempDir() + "pantry_shards_" + ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(dir_);
    Write(1, Shard(0).Tensor("a", {32}, TensorType::kF32).Tensor("b", {32}, TensorType::kQ8_0));
    Write(2, Shard(1).Tensor("c", {32, 2}, TensorType::kQ4_0));
    Write(3, Shard(2).Tensor("d", {32}, TensorType::kF16));
  }
  ~GgufShards() override { std::filesystem::remove_all(dir_); }

  static GgufBuilder Shard(uint16_t no, uint16_t count = 3, int32_t n_tensors = 4) {
    GgufBuilder builder;
    if (no == 0) builder.String("general.name", "sharded");
    builder.U16("split.no", no).U16("split.count", count).I32("split.tensors.count", n_tensors);
    return builder;
  }
  std::string Path(int number) const { return fmt::format("{}/m-{:05}-of-00003.gguf", dir_, number); }
  void Write(int number, const GgufBuilder& builder) {
    const std::vector<uint8_t> bytes = builder.Build();
    std::ofstream(Path(number), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  void ExpectError(const std::string& path, StatusCode code, const ::testing::Matcher<std::string>& message) {
    const auto file = GgufFile::Open(path);
    ASSERT_FALSE(file.ok());
    EXPECT_EQ(file.status().code(), code);
    EXPECT_THAT(std::string(file.status().message()), message);
  }
  std::string dir_;
};

TEST_F(GgufShards, OpeningTheFirstFindsAllTensors) {
  const auto file = GgufFile::Open(Path(1));
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  EXPECT_EQ((*file)->shards().size(), 3u);
  EXPECT_EQ(*(*file)->metadata().GetString("general.name"), "sharded");
  ASSERT_EQ((*file)->tensors().size(), 4u);
  const TensorInfo* c = (*file)->FindTensor("c");
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->shard, 1);
  std::vector<uint8_t> data(c->n_bytes);
  ASSERT_TRUE((*file)->ReadTensor(*c, 0, data).ok());
  EXPECT_EQ(data, std::vector<uint8_t>(36, 1));  // first tensor of its own file
  uint64_t n_bytes = 0;
  for (int i = 1; i <= 3; ++i) n_bytes += std::filesystem::file_size(Path(i));
  EXPECT_EQ((*file)->total_bytes(), n_bytes);
  EXPECT_EQ((*file)->tensor_bytes(), 128u + 34 + 36 + 64);
}

TEST_F(GgufShards, OpeningAnotherShardSaysWhichToOpen) {
  ExpectError(Path(2), StatusCode::kInvalidArgument,
              AllOf(HasSubstr("m-00002-of-00003.gguf: this is shard 2 of 3; open the first: "),
                    EndsWith("m-00001-of-00003.gguf")));
}

TEST_F(GgufShards, MissingShardIsNamed) {
  std::filesystem::remove(Path(3));
  ExpectError(Path(1), StatusCode::kNotFound,
              AllOf(HasSubstr("shard 3 of 3 missing: "), HasSubstr("m-00003-of-00003.gguf"),
                    HasSubstr("download it into the same folder")));
}

TEST_F(GgufShards, RenamedShardsCannotFindTheirSiblings) {
  const std::string renamed = dir_ + "/renamed.gguf";
  std::filesystem::rename(Path(1), renamed);
  ExpectError(renamed, StatusCode::kInvalidArgument,
              AllOf(HasSubstr("shard 1 of 3, but its name does not end in -00001-of-00003.gguf"),
                    HasSubstr("give all shards their names back")));
}

TEST_F(GgufShards, ShardInAnothersPlaceIsFound) {
  std::filesystem::copy_file(Path(3), Path(2), std::filesystem::copy_options::overwrite_existing);
  ExpectError(Path(1), StatusCode::kCorruption,
              AllOf(HasSubstr("m-00002"), HasSubstr("expected shard 2 of 3, found shard 3 of 3")));
}

TEST_F(GgufShards, TensorInTwoShardsIsFound) {
  Write(3, Shard(2).Tensor("a", {32}, TensorType::kF16));
  ExpectError(Path(1), StatusCode::kCorruption,
              AllOf(HasSubstr("m-00003"), HasSubstr("tensor 'a' is in shard 1 already")));
}

TEST_F(GgufShards, WrongNumberOfTensorsIsFound) {
  Write(3, Shard(2));
  ExpectError(Path(1), StatusCode::kCorruption,
              HasSubstr("expected 4 tensors in all shards (split.tensors.count), found 3"));
}

TEST_F(GgufShards, ErrorInALaterShardNamesThatFile) {
  std::filesystem::resize_file(Path(2), std::filesystem::file_size(Path(2)) - 1);
  ExpectError(
      Path(1), StatusCode::kCorruption,
      AllOf(HasSubstr("m-00002-of-00003.gguf: truncated file: tensor c ends at"), HasSubstr("1 bytes missing")));
}

TEST_F(GgufShards, ImpossibleNumbersAreRefused) {
  Write(1, Shard(3, 3));
  ExpectError(Path(1), StatusCode::kCorruption,
              HasSubstr("shard number 3 of 3, counted from 0 (split.no, split.count): impossible"));
  Write(1, GgufBuilder().I32("split.count", -1));
  ExpectError(Path(1), StatusCode::kCorruption, HasSubstr("shard number 0 of -1"));
  Write(1, GgufBuilder().String("split.count", "3"));
  ExpectError(Path(1), StatusCode::kCorruption,
              HasSubstr("m-00001-of-00003.gguf: metadata key 'split.count': expected an integer, found string"));
}

TEST_F(GgufShards, MergedFileWithSplitCountZeroIsAFileOfItsOwn) {
  Write(1, GgufBuilder().U16("split.count", 0).Tensor("a", {32}, TensorType::kF32));
  const auto file = GgufFile::Open(Path(1));
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  EXPECT_EQ((*file)->shards().size(), 1u);
}

TEST_F(GgufShards, ReadersMustBeAllOfThem) {
  std::vector<std::unique_ptr<Reader>> readers;
  readers.push_back(std::move(*OpenFileReader(Path(1))));
  const auto file = GgufFile::Open(std::move(readers));
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(std::string(file.status().message()), HasSubstr("the model has 3 shards, 1 given"));
  EXPECT_EQ(GgufFile::Open(std::vector<std::unique_ptr<Reader>>()).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace pantry
