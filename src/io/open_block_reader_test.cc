// SPDX-License-Identifier: Apache-2.0
// Every way of reading blocks gives the same bytes from real files, whatever the disk does, and what is refused is replaced.
#include "io/open_block_reader.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/rng.h"
#include "io/faulty_queue.h"
#include "io/faulty_reader.h"
#include "io/simulated_queue.h"
#include "sys/aligned_buffer.h"

namespace pantry {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr size_t kFileBytes = 3'000'017;
constexpr size_t kMostBytes = 200'000;
constexpr size_t kSlotBytes = Reader::SlotBytes(kMostBytes);
constexpr size_t kSlots = 24;
constexpr uint8_t kGuard = 0xA5;

struct WayToRead {
  std::string name;
  OpenDiskQueue open;
};

// Two files with bytes of their own, which go away with the test.
class BlockFilesTest : public ::testing::Test {
 protected:
  BlockFilesTest() : slots_(AlignedBuffer::Allocate(kSlots * (kSlotBytes + Reader::kBlockBytes)).value()) {
    std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::replace(name.begin(), name.end(), '/', '_');
    for (uint64_t file = 0; file < 2; ++file) {
      Rng rng(file);
      bytes_[file].resize(kFileBytes - file * 4096);
      for (uint8_t& byte : bytes_[file]) byte = static_cast<uint8_t>(rng.NextU64());
      paths_[file] = ::testing::TempDir() + "pantry_blocks_" + name + std::to_string(file);
      std::ofstream(paths_[file], std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes_[file].data()), static_cast<std::streamsize>(bytes_[file].size()));
      files_.push_back(OpenFileReader(paths_[file]).value());
      pointers_.push_back(files_.back().get());
    }
  }
  ~BlockFilesTest() override {
    for (const std::string& path : paths_) std::filesystem::remove(path);
  }

  uint8_t* Slot(size_t i) { return slots_.data() + i * (kSlotBytes + Reader::kBlockBytes); }
  bool HasRightBytes(const BlockReadDone& done, const BlockRead& read) const {
    return std::memcmp(done.bytes, bytes_[read.file].data() + read.offset, read.n_bytes) == 0;
  }
  // Some reads: large, small, neighbours, and the end of each file.
  std::vector<BlockRead> SomeReads(size_t n, Rng& rng) const {
    std::vector<BlockRead> reads;
    for (uint64_t tag = 0; tag < n; ++tag) {
      const int file = static_cast<int>(rng.NextU64() % 2);
      const size_t size = bytes_[file].size();
      size_t n_bytes = rng.NextU64() % (tag % 3 == 0 ? kMostBytes : 9000);
      uint64_t offset = rng.NextU64() % (size - n_bytes + 1);
      if (tag % 7 == 0) offset = size - n_bytes;
      if (tag % 5 != 0 && !reads.empty() && reads.back().file == file) {  // right behind the one before
        offset = reads.back().offset + reads.back().n_bytes;
        n_bytes = std::min(n_bytes, size - offset);
      }
      reads.push_back(
          {tag, file, offset, n_bytes, nullptr, rng.NextU64() % 4 == 0 ? ReadUrgency::kGuess : ReadUrgency::kDemand});
    }
    return reads;
  }
  // Reads all with as many slots as there are. How many failed; each of the others must have the right bytes and nothing behind its slot.
  int ReadAll(BlockReader& reader, std::vector<BlockRead> reads) {
    std::vector<size_t> free_slots;
    std::vector<size_t> slot_of(reads.size());
    std::vector<int> n_done(reads.size(), 0);
    for (size_t i = 0; i < kSlots; ++i) free_slots.push_back(i);
    std::vector<BlockReadDone> done(5);
    int n_failed = 0;
    for (size_t next = 0; next < reads.size() || reader.n_pending() > 0;) {
      const size_t begin = next;
      for (; next < reads.size() && !free_slots.empty(); ++next) {
        slot_of[next] = free_slots.back();
        free_slots.pop_back();
        std::memset(Slot(slot_of[next]), kGuard, kSlotBytes + Reader::kBlockBytes);
        reads[next].slot = Slot(slot_of[next]);
      }
      reader.Submit(std::span(reads).subspan(begin, next - begin));
      const size_t n = reader.Reap(done, BlockReader::kForever);
      EXPECT_GT(n, 0u);
      for (const BlockReadDone& one : std::span(done).first(n)) {
        const BlockRead& read = reads[one.tag];
        ++n_done[one.tag];
        free_slots.push_back(slot_of[one.tag]);
        const uint8_t* behind = read.slot + Reader::SlotBytes(read.n_bytes);
        EXPECT_EQ(std::count(behind, behind + 64, kGuard), 64) << "written behind the slot of " << one.tag;
        if (!one.status.ok()) ++n_failed;
        else EXPECT_TRUE(HasRightBytes(one, read)) << read.file << " " << read.offset << " " << read.n_bytes;
      }
    }
    EXPECT_EQ(std::count(n_done.begin(), n_done.end(), 1), static_cast<std::ptrdiff_t>(n_done.size()));
    return n_failed;
  }

  std::vector<uint8_t> bytes_[2];
  std::string paths_[2];
  std::vector<std::unique_ptr<Reader>> files_;
  std::vector<const Reader*> pointers_;
  AlignedBuffer slots_;
  SteadyClock clock_;
};

class EveryQueueTest : public BlockFilesTest, public ::testing::WithParamInterface<WayToRead> {
 protected:
  // Null where the system refuses it.
  std::unique_ptr<BlockReader> Open(int depth, const BlockReaderOptions& options = {},
                                    const std::optional<DiskFaults>& faults = std::nullopt) {
    Result<std::unique_ptr<DiskQueue>> queue = GetParam().open(pointers_, depth);
    if (!queue.ok()) return nullptr;
    if (faults) *queue = std::make_unique<FaultyQueue>(std::move(*queue), *faults);
    return std::make_unique<BlockReader>(pointers_, std::move(*queue), options, clock_);
  }
};

TEST_P(EveryQueueTest, GivesTheSameBytesInAnyOrderAndSize) {
  Rng rng(7);
  for (const int depth : {1, 3, 16}) {
    for (const size_t split_bytes : {size_t{4096}, size_t{65536}, size_t{1} << 20}) {
      const auto reader =
          Open(depth, {.split_bytes = split_bytes, .coalesce_bytes = std::min(split_bytes, size_t{32768})});
      if (reader == nullptr) GTEST_SKIP() << "refused here";
      EXPECT_EQ(ReadAll(*reader, SomeReads(60, rng)), 0);
      EXPECT_EQ(reader->stats().n_reads, 60);
      EXPECT_GE(reader->stats().bytes_read, 0);
    }
  }
}

TEST_P(EveryQueueTest, FaultsGiveTheRightBytesOrAnError) {
  Rng rng(11);
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    const DiskFaults faults = {.error_share = 0.3, .short_share = 0.3, .hold_share = 0.5, .seed = seed};
    const auto reader = Open(5, {.split_bytes = 32768, .coalesce_bytes = 16384, .max_retries = 2}, faults);
    if (reader == nullptr) GTEST_SKIP() << "refused here";
    const int n_failed = ReadAll(*reader, SomeReads(80, rng));
    const BlockReaderStats stats = reader->stats();
    EXPECT_EQ(stats.n_errors, n_failed);
    EXPECT_GT(stats.n_retries, 0);
    EXPECT_GT(stats.n_short, 0);
  }
}

TEST_P(EveryQueueTest, RetriesMakeUpForADiskThatOftenFails) {
  Rng rng(12);
  const auto reader =
      Open(5, {.max_retries = 40}, DiskFaults{.error_share = 0.3, .short_share = 0.2, .hold_share = 0.5});
  if (reader == nullptr) GTEST_SKIP() << "refused here";
  EXPECT_EQ(ReadAll(*reader, SomeReads(80, rng)), 0);
}

TEST_P(EveryQueueTest, BadSpotFailsWithPathAndOffset) {
  const auto reader = Open(4, {}, DiskFaults{.bad_offset = 70'000});
  if (reader == nullptr) GTEST_SKIP() << "refused here";
  const BlockRead read = {1, 0, 69'990, 100, Slot(0)};
  reader->Submit({&read, 1});
  BlockReadDone done;
  ASSERT_EQ(reader->Reap({&done, 1}, BlockReader::kForever), 1u);
  EXPECT_EQ(done.status.code(), StatusCode::kIoError);
  EXPECT_THAT(std::string(done.status.message()),
              HasSubstr(paths_[0] + ": reading 100 bytes at offset 69990 (4 tries)"));
}

TEST_P(EveryQueueTest, OneWrongBitIsAllThatCorruptionMakes) {
  const auto reader = Open(4, {}, DiskFaults{.corrupt_share = 1});
  if (reader == nullptr) GTEST_SKIP() << "refused here";
  const BlockRead read = {1, 0, 8192, 4096, Slot(0)};
  reader->Submit({&read, 1});
  BlockReadDone done;
  ASSERT_EQ(reader->Reap({&done, 1}, BlockReader::kForever), 1u);
  ASSERT_TRUE(done.status.ok());
  int n_wrong = 0;
  for (size_t i = 0; i < 4096; ++i) n_wrong += __builtin_popcount(done.bytes[i] ^ bytes_[0][8192 + i]);
  EXPECT_EQ(n_wrong, 1);
}

TEST_P(EveryQueueTest, FileCutWhileInUseIsAnIoErrorAndWhatIsLeftCanBeRead) {
  if (GetParam().name == "simulated") GTEST_SKIP() << "it asks the reader for whole blocks, and knows nothing else";
  const auto reader = Open(4);
  if (reader == nullptr) GTEST_SKIP() << "refused here";
  std::filesystem::resize_file(paths_[0], 10'000);
  const BlockRead reads[] = {
      {1, 0, 9'900, 100, Slot(0)}, {2, 0, 9'900, 101, Slot(1)}, {3, 0, 100'000, 50'000, Slot(2)}};
  for (const BlockRead& read : reads) {
    reader->Submit({&read, 1});
    BlockReadDone done;
    ASSERT_EQ(reader->Reap({&done, 1}, BlockReader::kForever), 1u);
    if (read.tag == 1) {
      ASSERT_TRUE(done.status.ok()) << done.status.ToString();
      EXPECT_TRUE(HasRightBytes(done, read));
      continue;
    }
    EXPECT_EQ(done.status.code(), StatusCode::kIoError);
    EXPECT_THAT(std::string(done.status.message()), HasSubstr(paths_[0]));
  }
}

TEST_P(EveryQueueTest, NothingIsWrittenAfterItDied) {
  for (int round = 0; round < 5; ++round) {
    auto reader = Open(16, {.split_bytes = 16384, .coalesce_bytes = 0});
    if (reader == nullptr) GTEST_SKIP() << "refused here";
    std::vector<BlockRead> reads;
    for (size_t i = 0; i < kSlots; ++i) reads.push_back({i, 0, i * 4096, kMostBytes, Slot(i)});
    reader->Submit(reads);
    reader = nullptr;
    std::memset(slots_.data(), kGuard, slots_.size());
    std::vector<uint8_t> other(1'000'000);
    ASSERT_TRUE(files_[0]->ReadAt(0, other).ok());  // gives late writes the time to come
    EXPECT_EQ(std::count(slots_.data(), slots_.data() + slots_.size(), kGuard),
              static_cast<std::ptrdiff_t>(slots_.size()));
  }
}

SimulatedClock g_simulated_clock;
Result<std::unique_ptr<DiskQueue>> OpenSimulatedQueue(std::span<const Reader* const> files, int depth) {
  return std::unique_ptr<DiskQueue>(
      std::make_unique<SimulatedQueue>(files, SimulatedDisk{.depth = depth}, g_simulated_clock));
}

INSTANTIATE_TEST_SUITE_P(BlockReader, EveryQueueTest,
                         ::testing::Values(WayToRead{"io_uring", OpenUringQueue}, WayToRead{"pread", OpenPreadQueue},
                                           WayToRead{"page_cache", OpenPageCacheQueue},
                                           WayToRead{"reader", OpenReaderQueue},
                                           WayToRead{"simulated", OpenSimulatedQueue}),
                         [](const auto& param) { return param.param.name; });

// ---- the choice -----------------------------------------------------------------------------------------------------------------

// Runs `body` in a thread to which the system refuses io_uring, and reading past the page cache where `no_direct`. false: that cannot be
// arranged here.
bool InSandbox(int uring_error, bool no_direct, const std::function<void()>& body) {
  bool is_arranged = false;
  std::thread([&] {
    const uint32_t flag = no_direct ? O_DIRECT : 0;
    const auto refuse = [](int error_number) {
      return sock_filter(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error_number)));
    };
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        refuse(uring_error),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_openat, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, flag, 0, 1),
        refuse(EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter = {std::size(program), program};
    is_arranged =
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
    if (is_arranged) body();
  }).join();
  return is_arranged;
}

class OpenBlockReaderTest : public BlockFilesTest {
 protected:
  bool IoUringWorks() { return OpenUringQueue(pointers_, 1).ok(); }
  void ExpectReplaced(const std::string& queue_name, const std::string& line) {
    RecordingLogger log;
    const auto reader = OpenBlockReader(pointers_, {}, clock_, log);
    ASSERT_TRUE(reader.ok()) << reader.status().ToString();
    EXPECT_EQ((*reader)->queue_name(), queue_name);
    ASSERT_EQ(log.lines.size(), 1u);
    EXPECT_THAT(log.lines[0].second, HasSubstr(line));
    Rng rng(3);
    EXPECT_EQ(ReadAll(**reader, SomeReads(40, rng)), 0);
  }
};

TEST_F(OpenBlockReaderTest, ForbiddenIoUringIsReplacedByThreadsWithOneLine) {
  if (!IoUringWorks()) GTEST_SKIP() << "there is none to refuse";
  if (!InSandbox(EPERM, false, [&] { ExpectReplaced("pread", "io_uring: it is forbidden here"); })) {
    GTEST_SKIP() << "no seccomp here";
  }
}

TEST_F(OpenBlockReaderTest, AbsentIoUringIsReplacedByThreadsWithOneLine) {
  if (!IoUringWorks()) GTEST_SKIP() << "there is none to refuse";
  if (!InSandbox(ENOSYS, false, [&] {
        ExpectReplaced("pread", "io_uring: this kernel does not have it; reading with pread instead");
      })) {
    GTEST_SKIP() << "no seccomp here";
  }
}

TEST_F(OpenBlockReaderTest, FileSystemWithoutDirectReadingIsReadThroughThePageCacheWithOneLine) {
  if (!InSandbox(EPERM, true, [&] {
        ExpectReplaced("page-cache", paths_[0] +
                                         ": its file system cannot be read past the page cache (O_DIRECT); "
                                         "reading with page-cache instead");
      })) {
    GTEST_SKIP() << "no seccomp here";
  }
}

TEST_F(OpenBlockReaderTest, ForcedWayThatIsRefusedIsAnError) {
  if (!IoUringWorks()) GTEST_SKIP() << "there is none to refuse";
  const auto body = [&] {
    RecordingLogger log;
    const auto reader = OpenBlockReader(pointers_, {.access = DiskAccess::kUring}, clock_, log);
    ASSERT_FALSE(reader.ok());
    EXPECT_EQ(reader.status().code(), StatusCode::kUnsupported);
    EXPECT_THAT(std::string(reader.status().message()), HasSubstr("io_uring: it is forbidden here"));
    EXPECT_THAT(log.lines, IsEmpty());
    EXPECT_TRUE(OpenBlockReader(pointers_, {.access = DiskAccess::kPread}, clock_, log).ok());
  };
  if (!InSandbox(EPERM, false, body)) GTEST_SKIP() << "no seccomp here";
}

TEST_F(OpenBlockReaderTest, ForcedWayIsTaken) {
  NullLogger log;
  for (const DiskAccess access : {DiskAccess::kUring, DiskAccess::kPread, DiskAccess::kPageCache}) {
    const auto reader = OpenBlockReader(pointers_, {.access = access}, clock_, log);
    if (reader.ok()) {
      EXPECT_EQ((*reader)->queue_name(), DiskAccessName(access));
    }
    EXPECT_EQ(ParseDiskAccess(DiskAccessName(access)).value(), access);
  }
  EXPECT_EQ(ParseDiskAccess("auto").value(), DiskAccess::kAuto);
  EXPECT_THAT(std::string(ParseDiskAccess("mmap").status().message()), HasSubstr("there are auto, io_uring, pread"));
}

TEST_F(OpenBlockReaderTest, BytesInMemoryAreReadByTheirOwnMeansInSilence) {
  const auto first = MakeMemoryReader("first", bytes_[0]);
  const FaultyReader second(MakeMemoryReader("second", bytes_[1]), {.fail_call = 3});
  const std::vector<const Reader*> files = {first.get(), &second};
  RecordingLogger log;
  const auto reader = OpenBlockReader(files, {}, clock_, log);
  ASSERT_TRUE(reader.ok());
  Rng rng(5);
  EXPECT_EQ(ReadAll(**reader, SomeReads(60, rng)), 0);
  EXPECT_EQ((*reader)->stats().n_retries, 1);
  EXPECT_THAT(log.lines, IsEmpty());
}

TEST_F(OpenBlockReaderTest, FileReplacedUnderItsNameIsStillTheOldOne) {
  std::filesystem::remove(paths_[0]);
  std::ofstream(paths_[0]) << "another file";
  NullLogger log;
  const auto reader = OpenBlockReader(pointers_, {}, clock_, log);
  ASSERT_TRUE(reader.ok()) << reader.status().ToString();
  Rng rng(6);
  EXPECT_EQ(ReadAll(**reader, SomeReads(40, rng)), 0);
}

TEST_F(OpenBlockReaderTest, NonsenseIsAnInvalidArgument) {
  NullLogger log;
  for (const int depth : {0, -1, 5000}) {
    const auto reader = OpenBlockReader(pointers_, {.depth = depth}, clock_, log);
    ASSERT_FALSE(reader.ok());
    EXPECT_EQ(reader.status().code(), StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace pantry
