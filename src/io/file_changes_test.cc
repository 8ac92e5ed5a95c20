// SPDX-License-Identifier: Apache-2.0
#include "io/file_changes.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

namespace pantry {
namespace {

using ::testing::HasSubstr;

class FileChangesTest : public ::testing::Test {
 protected:
  FileChangesTest() {
    path_ = ::testing::TempDir() + "pantry_file_changes_" + std::to_string(getpid()) +
            ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::ofstream(path_) << std::string(10000, 'a');
    // Long ago, so that a write in the same tick of the clock shows as well.
    const std::array<timespec, 2> then = {timespec{1000, 5}, timespec{1000, 5}};
    EXPECT_EQ(utimensat(AT_FDCWD, path_.c_str(), then.data(), 0), 0);
    reader_ = OpenFileReader(path_).value();
    files_ = {memory_.get(), reader_.get()};
    changes_.emplace(files_);
  }
  ~FileChangesTest() override { std::filesystem::remove(path_); }
  void ExpectChanged(const std::string& how) {
    for (int round = 0; round < 2; ++round) {
      const Status status = changes_->Check();
      EXPECT_EQ(status.code(), StatusCode::kCorruption);
      EXPECT_THAT(std::string(status.message()), HasSubstr(path_ + " was changed while it was being used"));
      EXPECT_THAT(std::string(status.message()), HasSubstr(how));
      EXPECT_THAT(std::string(status.message()), HasSubstr("start again"));
    }
  }

  std::string path_;
  std::array<uint8_t, 3> bytes_ = {1, 2, 3};
  std::unique_ptr<Reader> memory_ = MakeMemoryReader("memory", bytes_);
  std::unique_ptr<Reader> reader_;
  std::array<const Reader*, 2> files_;
  std::optional<FileChanges> changes_;
};

TEST_F(FileChangesTest, ReadingIsNoChange) {
  std::array<uint8_t, 100> out;
  EXPECT_TRUE(reader_->ReadAt(50, out).ok());
  EXPECT_TRUE(changes_->Check().ok());
}

TEST_F(FileChangesTest, RenameUnlinkAndChmodAreNoChange) {
  EXPECT_EQ(chmod(path_.c_str(), 0400), 0);
  EXPECT_TRUE(changes_->Check().ok());
  std::filesystem::rename(path_, path_ + ".old");
  std::ofstream(path_) << "another file under the name";
  EXPECT_TRUE(changes_->Check().ok());
  std::filesystem::remove(path_ + ".old");
  EXPECT_TRUE(changes_->Check().ok());
}

TEST_F(FileChangesTest, RenameOverTheNameKeepsOurFile) {
  std::ofstream(path_ + ".new") << "another file";
  std::filesystem::rename(path_ + ".new", path_);
  EXPECT_TRUE(changes_->Check().ok());
}

TEST_F(FileChangesTest, WriteInPlaceIsFound) {
  std::fstream(path_, std::ios::in | std::ios::out).put('b');
  ExpectChanged("written to");
}

TEST_F(FileChangesTest, CutIsFound) {
  std::filesystem::resize_file(path_, 9000);
  ExpectChanged("from 10000 bytes to 9000");
}

TEST_F(FileChangesTest, GrowthIsFound) {
  std::ofstream(path_, std::ios::app) << "more";
  ExpectChanged("from 10000 bytes to 10004");
}

TEST_F(FileChangesTest, CopyOverIsFound) {
  std::ofstream(path_) << std::string(10000, 'c');
  ExpectChanged("written to");
}

}  // namespace
}  // namespace pantry
