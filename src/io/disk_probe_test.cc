// SPDX-License-Identifier: Apache-2.0
#include "io/disk_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "io/scratch_file.h"
#include "sys/fake_system.h"

namespace pantry {
namespace {

using ::testing::HasSubstr;

// Too short to be exact.
DiskProbeOptions Short() {
  DiskProbeOptions options;
  options.block_bytes = {4 * kKiB, 64 * kKiB};
  options.queue_depths = {1, 4};
  options.cell_seconds = 0.005;
  options.sequential_seconds = 0.005;
  return options;
}

class DiskProbe : public ::testing::Test {
 protected:
  std::string FileOf(size_t n_bytes) {
    system_.Write("/file", std::string(n_bytes, 'x'));
    return system_.root() + "/file";
  }
  testing::FakeSystem system_;
};

void ExpectRates(const DiskProfile& disk) {
  EXPECT_GT(disk.sequential_bytes_per_s, 0);
  ASSERT_FALSE(disk.random.empty());
  for (const DiskRate& rate : disk.random) {
    EXPECT_GT(rate.bytes_per_s, 0);
    EXPECT_GT(rate.latency_us, 0);
  }
}

TEST_F(DiskProbe, MeasuresEachBlockSizeAndDepth) {
  const std::string path = FileOf(1 << 20);
  DiskProbeOptions options = Short();
  options.cell_seconds = 0.05;  // long enough that no cell is left out
  std::vector<std::string> seen;
  const Result<DiskProfile> disk = ProbeDisk(path, options, [&](std::string_view what) {
    seen.emplace_back(what);
    return true;
  });
  ASSERT_TRUE(disk.ok()) << disk.status().ToString();
  ExpectRates(*disk);
  EXPECT_EQ(disk->path, path);
  EXPECT_EQ(disk->file_bytes, 1 << 20);
  ASSERT_EQ(disk->random.size(), 4u);
  EXPECT_EQ(disk->random[1].block_bytes, 4 * kKiB);
  EXPECT_EQ(disk->random[1].queue_depth, 4);
  EXPECT_EQ(disk->random[2].block_bytes, 64 * kKiB);
  EXPECT_THAT(seen, ::testing::ElementsAre("disk, from front to back", "disk, 4 KiB x 1", "disk, 4 KiB x 4",
                                           "disk, 64 KiB x 1", "disk, 64 KiB x 4"));
}

TEST_F(DiskProbe, ReadsThroughThePageCacheWhereDirectIsNotToBeHad) {
  DiskProbeOptions options = Short();
  options.direct = false;  // as where the system refuses
  const Result<DiskProfile> disk = ProbeDisk(FileOf(1 << 20), options, nullptr);
  ASSERT_TRUE(disk.ok()) << disk.status().ToString();
  EXPECT_FALSE(disk->direct);
  ExpectRates(*disk);
}

TEST_F(DiskProbe, FilesystemInMemoryIsReadSomehow) {
  std::error_code error;
  if (!std::filesystem::is_directory("/dev/shm", error)) GTEST_SKIP() << "no /dev/shm";
  const Result<ScratchFile> file = ScratchFile::Make("/dev/shm", 1 << 20, 5, nullptr);
  if (!file.ok()) GTEST_SKIP() << file.status().ToString();
  const Result<DiskProfile> disk = ProbeDisk(file->path(), Short(), nullptr);
  ASSERT_TRUE(disk.ok()) << disk.status().ToString();
  ExpectRates(*disk);
}

TEST_F(DiskProbe, BlocksThatTheFileCannotHoldAreLeftOut) {
  DiskProbeOptions options = Short();
  options.cell_seconds = 0.05;
  const Result<DiskProfile> disk = ProbeDisk(FileOf(20000), options, nullptr);  // no multiple of anything
  ASSERT_TRUE(disk.ok()) << disk.status().ToString();
  EXPECT_EQ(disk->random.size(), 2u);
  for (const DiskRate& rate : disk->random) EXPECT_EQ(rate.block_bytes, 4 * kKiB);
}

TEST_F(DiskProbe, BuffersStayWithinTheirLimit) {
  DiskProbeOptions options = Short();
  options.cell_seconds = 0.05;
  options.max_buffer_bytes = 64 * kKiB;
  const Result<DiskProfile> disk = ProbeDisk(FileOf(1 << 20), options, nullptr);
  ASSERT_TRUE(disk.ok()) << disk.status().ToString();
  EXPECT_EQ(disk->random.size(), 3u);  // not 64 KiB x 4
}

TEST_F(DiskProbe, TooSmallMissingAndUnreadableFilesAreErrors) {
  EXPECT_EQ(ProbeDisk(FileOf(100), Short(), nullptr).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ProbeDisk(FileOf(0), Short(), nullptr).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ProbeDisk(system_.root() + "/none", Short(), nullptr).status().code(), StatusCode::kNotFound);
  const Status folder = ProbeDisk(system_.root(), Short(), nullptr).status();
  EXPECT_FALSE(folder.ok());
  EXPECT_THAT(std::string(folder.message()), HasSubstr(system_.root()));
}

TEST_F(DiskProbe, StopsWhenAsked) {
  int n_calls = 0;
  const auto status = ProbeDisk(FileOf(1 << 20), Short(), [&](std::string_view) { return ++n_calls < 3; }).status();
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_EQ(n_calls, 3);
}

TEST_F(DiskProbe, TimeLimitLeavesTheRestOut) {
  DiskProbeOptions options = Short();
  options.max_seconds = 0;
  const Result<DiskProfile> disk = ProbeDisk(FileOf(1 << 20), options, nullptr);
  ASSERT_TRUE(disk.ok());
  EXPECT_TRUE(disk->random.empty());
}

TEST_F(DiskProbe, MountIsTheLongestPrefixAndTheLastOfItsPlace) {
  system_.Write("/proc/self/mountinfo",
                "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
                "21 20 8:2 / /with\\040blank rw,noatime shared:1 - xfs /dev/sdb rw\n"
                "22 20 8:3 / /with\\040blank/deep rw - btrfs /dev/sdc rw\n"
                "23 20 8:4 / /with\\040blank/deep rw - tmpfs tmpfs rw\n"
                "broken line\n");
  const auto at = [&](const char* path) { return FindMount(path, system_.root()); };
  EXPECT_EQ(at("/other/file").device, "/dev/sda1");
  EXPECT_EQ(at("/with blank/file").filesystem, "xfs");
  EXPECT_EQ(at("/with blanket/file").filesystem, "ext4");
  EXPECT_EQ(at("/with blank/deep/file").filesystem, "tmpfs");
  EXPECT_EQ(at("/with blank/deep/file").device, "");
  EXPECT_EQ(FindMount("/x", system_.root() + "/nothing").filesystem, "");
}

TEST_F(DiskProbe, ScratchFileLeavesNothingBehind) {
  {
    const Result<ScratchFile> file = ScratchFile::Make(system_.root(), 5 << 20, 60, nullptr);
    ASSERT_TRUE(file.ok()) << file.status().ToString();
    EXPECT_EQ(std::filesystem::file_size(file->path()), uintmax_t{5} << 20);
    EXPECT_TRUE(std::filesystem::is_empty(system_.root()));
  }
  EXPECT_TRUE(std::filesystem::is_empty(system_.root()));
  EXPECT_EQ(ScratchFile::Make(system_.root() + "/none", 1 << 20, 60, nullptr).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(ScratchFile::Make(system_.root(), INT64_MAX / 4, 60, nullptr).status().code(), StatusCode::kIoError);
  EXPECT_EQ(ScratchFile::Make(system_.root(), 1 << 20, 60, [](int64_t) { return false; }).status().code(),
            StatusCode::kCancelled);
}

}  // namespace
}  // namespace pantry
