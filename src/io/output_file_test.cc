// SPDX-License-Identifier: Apache-2.0
#include "io/output_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "sys/aligned_buffer.h"

namespace pantry {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class OutputFileTest : public ::testing::Test {
 protected:
  OutputFileTest() {
    std::string name = (std::filesystem::temp_directory_path() / "pantry-output-XXXXXX").string();
    PANTRY_CHECK(mkdtemp(name.data()) != nullptr);
    folder_ = name;
    path_ = name + "/out";
  }
  ~OutputFileTest() override { std::filesystem::remove_all(folder_); }
  static std::string Text(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }

  std::filesystem::path folder_;
  std::string path_;
};

TEST_F(OutputFileTest, NameAppearsWithAllOfTheBytesAtOnce) {
  AlignedBuffer bytes = *AlignedBuffer::Allocate(8192);
  std::memset(bytes.data(), 'x', bytes.size());
  {
    const auto file = *OpenOutputFile(path_, false);
    ASSERT_TRUE(file->Reserve(16384).ok());
    EXPECT_EQ(file->size(), 16384u);
    ASSERT_TRUE(file->WriteAt(4096, {bytes.data(), bytes.size()}).ok());
    ASSERT_TRUE(file->Sync().ok());
    EXPECT_FALSE(std::filesystem::exists(path_));
    ASSERT_TRUE(file->Publish().ok());
  }
  EXPECT_EQ(Text(path_), std::string(4096, '\0') + std::string(8192, 'x') + std::string(4096, '\0'));
  EXPECT_FALSE(std::filesystem::exists(path_ + ".part"));
}

TEST_F(OutputFileTest, PartStaysUnlessItIsEmpty) {
  {
    const auto file = *OpenOutputFile(path_, false);
  }
  EXPECT_FALSE(std::filesystem::exists(path_ + ".part"));
  {
    ASSERT_TRUE((*OpenOutputFile(path_, false))->Reserve(4096).ok());
  }
  EXPECT_EQ(Text(path_ + ".part").size(), 4096u);
  EXPECT_EQ((*OpenOutputFile(path_, false))->size(), 4096u);
}

TEST_F(OutputFileTest, ExistingFileIsReplacedOnlyWhereThatWasAsked) {
  std::ofstream(path_) << "old";
  const Status refused = OpenOutputFile(path_, false).status();
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("exists already; --force replaces it"));
  {
    const auto file = *OpenOutputFile(path_, true);
    ASSERT_TRUE(file->Reserve(4096).ok());
    EXPECT_EQ(Text(path_), "old");
    ASSERT_TRUE(file->Publish().ok());
  }
  EXPECT_EQ(Text(path_).size(), 4096u);
}

TEST_F(OutputFileTest, FileThatAppearedInTheMeantimeIsNotReplaced) {
  const auto file = *OpenOutputFile(path_, false);
  ASSERT_TRUE(file->Reserve(4096).ok());
  std::ofstream(path_) << "somebody else's";
  EXPECT_EQ(file->Publish().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Text(path_), "somebody else's");
}

TEST_F(OutputFileTest, SecondWriterIsTurnedAway) {
  const auto file = *OpenOutputFile(path_, false);
  const Status status = OpenOutputFile(path_, false).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("another process is writing"));
}

TEST_F(OutputFileTest, MoreThanTheDiskHasIsRefusedWithNumbersBeforeAnythingIsWritten) {
  const auto file = *OpenOutputFile(path_, false);
  const Status status = file->Reserve(uint64_t{1} << 60);
  EXPECT_EQ(status.code(), StatusCode::kIoError);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("is too full: "), HasSubstr(" more are needed, "),
                                                   HasSubstr(" are free. Make room there")));
  EXPECT_EQ(file->size(), 0u);
}

TEST_F(OutputFileTest, FoldersAndMissingFoldersAreRefused) {
  EXPECT_EQ(OpenOutputFile(folder_.string(), true).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(OpenOutputFile((folder_ / "no" / "out").string(), true).status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace pantry
