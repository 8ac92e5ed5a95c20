// SPDX-License-Identifier: Apache-2.0
#include "io/reader.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <thread>
#include <vector>

#include "io/faulty_reader.h"
#include "sys/aligned_buffer.h"

namespace pantry {
namespace {

using ::testing::HasSubstr;

// Fixed content in a file of its own that goes away with the test.
class ReaderTest : public ::testing::Test {
 protected:
  ReaderTest() : bytes_(100003) {
    for (size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<uint8_t>(i * 7 + i / 256);
    path_ =
        ::testing::TempDir() + "pantry_reader_test_" + ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::ofstream file(path_, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes_.data()), static_cast<std::streamsize>(bytes_.size()));
  }
  ~ReaderTest() override { std::filesystem::remove_all(path_); }

  // Every implementation over the same bytes.
  std::vector<std::unique_ptr<Reader>> AllReaders() {
    std::vector<std::unique_ptr<Reader>> readers;
    Result<std::unique_ptr<Reader>> file = OpenFileReader(path_);
    EXPECT_TRUE(file.ok()) << file.status().ToString();
    if (file.ok()) readers.push_back(std::move(*file));
    readers.push_back(MakeMemoryReader("memory", bytes_));
    readers.push_back(std::make_unique<FaultyReader>(MakeMemoryReader("faultless", bytes_), FaultPlan{}));
    return readers;
  }

  std::vector<uint8_t> bytes_;
  std::string path_;
};

TEST_F(ReaderTest, EveryReaderGivesTheSameBytes) {
  for (const auto& reader : AllReaders()) {
    SCOPED_TRACE(reader->path());
    EXPECT_EQ(reader->size(), bytes_.size());
    for (const auto& [offset, n] :
         {std::pair<size_t, size_t>{0, 1}, {1, 4096}, {4095, 4097}, {99999, 4}, {0, 100003}, {100003, 0}, {5, 0}}) {
      std::vector<uint8_t> out(n, 0xEE);
      reader->WillRead(offset, n);
      ASSERT_TRUE(reader->ReadAt(offset, out).ok()) << offset;
      EXPECT_TRUE(std::equal(out.begin(), out.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(offset))) << offset;
      reader->DoneWith(offset, n);
    }
  }
}

TEST_F(ReaderTest, RangesBehindTheEndAreCorruptionThatNamesFileOffsetAndSize) {
  for (const auto& reader : AllReaders()) {
    SCOPED_TRACE(reader->path());
    std::vector<uint8_t> out(10, 0xEE);
    for (const uint64_t offset :
         {uint64_t{99994}, uint64_t{100003}, uint64_t{100004}, std::numeric_limits<uint64_t>::max() - 3}) {
      const Status status = reader->ReadAt(offset, out);
      EXPECT_EQ(status.code(), StatusCode::kCorruption);
      EXPECT_THAT(std::string(status.message()), HasSubstr(reader->path()));
      EXPECT_THAT(std::string(status.message()), HasSubstr("10 bytes at offset " + std::to_string(offset)));
      EXPECT_THAT(std::string(status.message()), HasSubstr("100003"));
      EXPECT_EQ(out, std::vector<uint8_t>(10, 0xEE));
    }
  }
}

TEST_F(ReaderTest, ReadingPastThePageCacheGivesTheSameBytes) {
  for (const auto& reader : AllReaders()) {
    SCOPED_TRACE(reader->path());
    for (const auto& [offset, n] : {std::pair<size_t, size_t>{0, 1},
                                    {4095, 2},
                                    {4096, 4096},
                                    {1, 4095},
                                    {8191, 8194},
                                    {99999, 4},
                                    {0, 100003},
                                    {100003, 0},
                                    {5, 0}}) {
      AlignedBuffer slot = AlignedBuffer::Allocate(Reader::SlotBytes(n) + Reader::kBlockBytes).value();
      const Result<const uint8_t*> found = reader->ReadPastCache(offset, n, {slot.data(), Reader::SlotBytes(n)});
      ASSERT_TRUE(found.ok()) << found.status().ToString();
      EXPECT_TRUE(std::equal(*found, *found + n, bytes_.begin() + static_cast<std::ptrdiff_t>(offset))) << offset;
      EXPECT_GE(*found, slot.data());
      EXPECT_LE(*found + n, slot.data() + Reader::SlotBytes(n));
      EXPECT_EQ(slot.data()[Reader::SlotBytes(n)], 0) << "written behind the slot";
    }
  }
}

TEST_F(ReaderTest, RangesBehindTheEndAreCorruptionPastThePageCacheToo) {
  for (const auto& reader : AllReaders()) {
    AlignedBuffer slot = AlignedBuffer::Allocate(Reader::SlotBytes(10)).value();
    for (const uint64_t offset : {uint64_t{99994}, uint64_t{100004}, std::numeric_limits<uint64_t>::max() - 3}) {
      const auto found = reader->ReadPastCache(offset, 10, {slot.data(), slot.size()});
      ASSERT_FALSE(found.ok());
      EXPECT_EQ(found.status().code(), StatusCode::kCorruption);
    }
  }
}

TEST_F(ReaderTest, ThePageCacheKnowsWhatWasReadThroughIt) {
  const int fd = open(path_.c_str(), O_RDWR);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(fsync(fd), 0);  // pages not yet written stay
  close(fd);
  Result<std::unique_ptr<Reader>> reader = OpenFileReader(path_);
  ASSERT_TRUE(reader.ok());
  (*reader)->DoneWith(0, bytes_.size());
  if ((*reader)->InPageCache(0, bytes_.size())) GTEST_SKIP() << "this file system lives in memory";
  AlignedBuffer slot = AlignedBuffer::Allocate(Reader::SlotBytes(50000)).value();
  ASSERT_TRUE((*reader)->ReadPastCache(20000, 50000, {slot.data(), slot.size()}).ok());
  EXPECT_FALSE((*reader)->InPageCache(20000, 50000)) << "no copy stays";
  ASSERT_TRUE((*reader)->ReadAt(20000, {slot.data(), 50000}).ok());
  EXPECT_TRUE((*reader)->InPageCache(20000, 50000));
}

TEST_F(ReaderTest, HintsBehindTheEndAreHarmless) {
  for (const auto& reader : AllReaders()) {
    reader->WillRead(0, std::numeric_limits<uint64_t>::max());
    reader->WillRead(std::numeric_limits<uint64_t>::max(), 1);
    EXPECT_TRUE(reader->InPageCache(std::numeric_limits<uint64_t>::max(), 1));
    reader->DoneWith(99999, std::numeric_limits<uint64_t>::max());
    uint8_t byte = 0;
    ASSERT_TRUE(reader->ReadAt(7, {&byte, 1}).ok());
    EXPECT_EQ(byte, bytes_[7]);
  }
}

TEST_F(ReaderTest, FileCutWhileInUseIsAnIoError) {
  Result<std::unique_ptr<Reader>> reader = OpenFileReader(path_);
  ASSERT_TRUE(reader.ok());
  std::filesystem::resize_file(path_, 1000);
  std::vector<uint8_t> out(100);
  EXPECT_TRUE((*reader)->ReadAt(900, out).ok());
  const Status status = (*reader)->ReadAt(950, out);
  EXPECT_EQ(status.code(), StatusCode::kIoError);
  EXPECT_THAT(std::string(status.message()), HasSubstr("ends at offset 1000 but had 100003 bytes"));
  AlignedBuffer slot = AlignedBuffer::Allocate(Reader::SlotBytes(100)).value();
  const auto found = (*reader)->ReadPastCache(950, 100, {slot.data(), slot.size()});
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.status().code(), StatusCode::kIoError);
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("ends at offset 1000 but had 100003 bytes"));
}

TEST_F(ReaderTest, EmptyFileOpens) {
  std::filesystem::resize_file(path_, 0);
  Result<std::unique_ptr<Reader>> reader = OpenFileReader(path_);
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ((*reader)->size(), 0u);
  EXPECT_TRUE((*reader)->ReadAt(0, {}).ok());
}

TEST_F(ReaderTest, ManyThreadsReadOneFile) {
  Result<std::unique_ptr<Reader>> reader = OpenFileReader(path_);
  ASSERT_TRUE(reader.ok());
  std::vector<int> n_wrong(4, 0);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::vector<uint8_t> out(101);
      for (size_t offset = static_cast<size_t>(t); offset + out.size() <= bytes_.size(); offset += 257) {
        if (!(*reader)->ReadAt(offset, out).ok() || out[0] != bytes_[offset] || out[100] != bytes_[offset + 100])
          ++n_wrong[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(std::accumulate(n_wrong.begin(), n_wrong.end(), 0), 0);
}

TEST(FileReader, MissingFileIsNotFoundAndNamesThePath) {
  const Result<std::unique_ptr<Reader>> reader = OpenFileReader("/no/such/model.gguf");
  ASSERT_FALSE(reader.ok());
  EXPECT_EQ(reader.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(std::string(reader.status().message()), HasSubstr("cannot open '/no/such/model.gguf': No such file"));
}

TEST(FileReader, DirectoriesPipesAndDevicesAreRefusedAtOnce) {
  const std::string fifo = ::testing::TempDir() + "pantry_reader_test_fifo";
  std::filesystem::remove(fifo);
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  for (const std::string& path : {::testing::TempDir(), std::string("/dev/null"), fifo}) {
    const Result<std::unique_ptr<Reader>> reader = OpenFileReader(path);
    ASSERT_FALSE(reader.ok()) << path;
    EXPECT_EQ(reader.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(reader.status().message()),
                HasSubstr("'" + path + "' is a d"));  // a directory, a device, pipe or socket
  }
  std::filesystem::remove(fifo);
}

class FaultyReaderTest : public ReaderTest {
 protected:
  FaultyReader Make(const FaultPlan& plan) { return FaultyReader(MakeMemoryReader("model.gguf", bytes_), plan); }
};

TEST_F(FaultyReaderTest, NthCallFailsAndTheOthersDoNot) {
  const FaultyReader reader = Make({.fail_call = 2});
  std::vector<uint8_t> out(8, 0xEE);
  for (int call = 0; call < 5; ++call) {
    std::fill(out.begin(), out.end(), 0xEE);
    const Status status = reader.ReadAt(16, out);
    EXPECT_EQ(status.ok(), call != 2);
    if (call == 2) {
      EXPECT_EQ(status.code(), StatusCode::kIoError);
      EXPECT_THAT(std::string(status.message()), HasSubstr("model.gguf: injected fault reading 8 bytes at offset 16"));
      EXPECT_EQ(out, std::vector<uint8_t>(8, 0xEE)) << "a failed call must not write";
    }
  }
  EXPECT_EQ(reader.n_calls(), 5);
  EXPECT_EQ(reader.n_faults(), 1);
  EXPECT_EQ(reader.n_bytes(), 32);
}

TEST_F(FaultyReaderTest, BadByteFailsEveryReadThatCoversIt) {
  const FaultyReader reader = Make({.fail_offset = 1000});
  std::vector<uint8_t> out(100);
  EXPECT_TRUE(reader.ReadAt(900, out).ok());    // ends just before
  EXPECT_FALSE(reader.ReadAt(901, out).ok());   // its last byte
  EXPECT_FALSE(reader.ReadAt(1000, out).ok());  // its first byte
  EXPECT_TRUE(reader.ReadAt(1001, out).ok());
  EXPECT_EQ(reader.n_faults(), 2);
}

TEST_F(FaultyReaderTest, RandomFaultsAreReproducibleAndAboutAsManyAsAsked) {
  std::vector<bool> failed[2];
  for (auto& run : failed) {
    const FaultyReader reader = Make({.fail_share = 0.25, .seed = 42});
    uint8_t byte = 0;
    for (int call = 0; call < 1000; ++call) run.push_back(!reader.ReadAt(0, {&byte, 1}).ok());
    EXPECT_NEAR(static_cast<double>(reader.n_faults()), 250.0, 60.0);
  }
  EXPECT_EQ(failed[0], failed[1]);
}

TEST_F(FaultyReaderTest, DelaysAreCountedNotSlept) {
  const FaultyReader reader = Make({.delay_us = 3600 * int64_t{1000000}});
  uint8_t byte = 0;
  for (int call = 0; call < 10; ++call) ASSERT_TRUE(reader.ReadAt(0, {&byte, 1}).ok());
  EXPECT_EQ(reader.delay_us(), 36000 * int64_t{1000000});
}

}  // namespace
}  // namespace pantry
