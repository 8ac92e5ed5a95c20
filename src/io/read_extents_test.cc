// SPDX-License-Identifier: Apache-2.0
#include "io/read_extents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <fstream>
#include <mutex>
#include <string>
#include <vector>

#include "io/faulty_reader.h"

namespace pantry {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

constexpr size_t kExtentBytes = 10007;  // no multiple of anything

std::vector<uint8_t> SomeBytes(size_t n) {
  std::vector<uint8_t> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 256);
  return bytes;
}

std::vector<Extent> CutUp(const Reader& reader, size_t n_bytes) {
  std::vector<Extent> extents;
  for (uint64_t at = 0; at < reader.size(); at += n_bytes) {
    extents.push_back({&reader, at, static_cast<size_t>(std::min<uint64_t>(n_bytes, reader.size() - at))});
  }
  return extents;
}

TEST(ReadExtents, EveryExtentIsConsumedOnceWithItsBytes) {
  const std::vector<uint8_t> bytes = SomeBytes(1000003);
  const auto reader = MakeMemoryReader("memory", bytes);
  const std::vector<Extent> extents = CutUp(*reader, kExtentBytes);
  for (const PageCacheUse use : {PageCacheUse::kForSlowDisks, PageCacheUse::kNever}) {
    for (const int n_lanes : {1, 2, 8, 200}) {
      std::vector<int> n_right(extents.size(), 0);
      uint64_t last = 0;
      size_t failed = SIZE_MAX;
      const Status status = ReadExtents(
          extents, {.n_lanes = n_lanes, .page_cache = use},
          [&](size_t i, const uint8_t* found) {
            n_right[i] += std::memcmp(found, bytes.data() + extents[i].offset, extents[i].n_bytes) == 0 ? 1 : -1000;
            return OkStatus();
          },
          [&](uint64_t n) {
            EXPECT_GE(n, last);
            last = n;
            return true;
          },
          &failed);
      ASSERT_TRUE(status.ok()) << status.ToString();
      EXPECT_THAT(n_right, Each(1));
      EXPECT_EQ(last, bytes.size());
      EXPECT_EQ(failed, SIZE_MAX);
    }
  }
}

TEST(ReadExtents, NothingToReadIsDoneAtOnce) {
  int n_calls = 0;
  size_t failed = 0;
  const auto progress = [&](uint64_t n) { return ++n_calls == 1 && n == 0; };
  EXPECT_TRUE(
      ReadExtents(
          {}, {}, [](size_t, const uint8_t*) { return InternalError("there is nothing to read"); }, progress, &failed)
          .ok());
  EXPECT_EQ(n_calls, 1);
}

TEST(ReadExtents, TheFirstOfSeveralErrorsIsReported) {
  const std::vector<uint8_t> bytes = SomeBytes(1000003);
  for (const PageCacheUse use : {PageCacheUse::kForSlowDisks, PageCacheUse::kNever}) {
    for (uint64_t seed = 1; seed <= 50; ++seed) {
      const FaultyReader late(MakeMemoryReader("late", bytes), {.fail_share = 0.5, .seed = seed});
      const FaultyReader early(MakeMemoryReader("early", bytes), {.fail_offset = 200000});
      std::vector<Extent> extents = CutUp(early, kExtentBytes);
      const size_t expected = 200000 / kExtentBytes;
      for (size_t i = expected + 1; i < extents.size(); ++i) extents[i].reader = &late;
      std::vector<std::atomic<int>> n_consumed(extents.size());
      size_t failed = SIZE_MAX;
      const Status status = ReadExtents(
          extents, {.page_cache = use}, [&](size_t i, const uint8_t*) { return ++n_consumed[i], OkStatus(); }, {},
          &failed);
      EXPECT_EQ(status.code(), StatusCode::kIoError);
      EXPECT_THAT(std::string(status.message()), HasSubstr("early: injected fault"));
      EXPECT_EQ(failed, expected);
      for (size_t i = 0; i < expected; ++i) EXPECT_EQ(n_consumed[i].load(), 1) << "an extent before the bad one";
      EXPECT_EQ(n_consumed[expected].load(), 0);
    }
  }
}

// A disk of the test's making: nothing is in the page cache, a read takes so long by the test's clock, and it says what it was asked.
class FakeDisk final : public Reader, public Clock {
 public:
  explicit FakeDisk(int64_t us_per_read, bool cached = false) : us_per_read_(us_per_read), cached_(cached) {}
  const std::string& path() const override { return path_; }
  uint64_t size() const override { return uint64_t{1} << 40; }
  Status ReadAt(uint64_t, std::span<uint8_t>) const override {
    ++n_into_cache;
    now_us_ += us_per_read_;
    return OkStatus();
  }
  Result<const uint8_t*> ReadPastCache(uint64_t, size_t, std::span<uint8_t> slot) const override {
    now_us_ += ++n_past_cache > first_fast_read ? 1 : us_per_read_;
    return static_cast<const uint8_t*>(slot.data());
  }
  bool InPageCache(uint64_t, uint64_t) const override { return cached_; }
  void WillRead(uint64_t, uint64_t) const override { ++n_announced; }
  void DoneWith(uint64_t, uint64_t) const override { ++n_done_with; }
  int64_t NowUs() const override { return now_us_; }

  Status Read(int n_extents, size_t extent_bytes, PageCacheUse use) {
    std::vector<Extent> extents;
    for (int i = 0; i < n_extents; ++i) extents.push_back({this, i * extent_bytes, extent_bytes});
    size_t failed = 0;
    return ReadExtents(
        extents, {.n_lanes = 1, .page_cache = use, .clock = this}, [](size_t, const uint8_t*) { return OkStatus(); },
        {}, &failed);
  }

  int first_fast_read = INT32_MAX;
  mutable int n_into_cache = 0, n_past_cache = 0, n_announced = 0, n_done_with = 0;

 private:
  const std::string path_ = "disk";
  const int64_t us_per_read_;
  const bool cached_;
  mutable std::atomic<int64_t> now_us_ = 0;
};

constexpr size_t kMegabyte = 1 << 20;
constexpr int kJudgedReads = static_cast<int>(kJudgedBytes / kMegabyte);
constexpr auto kFastReadUs = static_cast<int64_t>(1e6 * kMegabyte / kSlowDiskBytesPerS) - 1;

TEST(ReadExtents, FastDiskIsReadPastThePageCache) {
  FakeDisk disk(kFastReadUs);
  ASSERT_TRUE(disk.Read(2 * kJudgedReads, kMegabyte, PageCacheUse::kForSlowDisks).ok());
  EXPECT_EQ(disk.n_past_cache, 2 * kJudgedReads);
  EXPECT_EQ(disk.n_into_cache, 0);
  EXPECT_EQ(disk.n_done_with, 0);
}

TEST(ReadExtents, WhatComesFromASlowDiskStaysInThePageCache) {
  FakeDisk disk(kFastReadUs + 2);
  ASSERT_TRUE(disk.Read(2 * kJudgedReads, kMegabyte, PageCacheUse::kForSlowDisks).ok());
  EXPECT_EQ(disk.n_past_cache, kJudgedReads);  // until it was known
  EXPECT_EQ(disk.n_into_cache, kJudgedReads);
  EXPECT_EQ(disk.n_announced, kJudgedReads);
  EXPECT_EQ(disk.n_done_with, 0);
}

TEST(ReadExtents, DiskThatWasFastOnceIsFast) {
  FakeDisk disk(100 * kFastReadUs);  // a crowded machine
  disk.first_fast_read = kJudgedReads * 3 / 4;
  ASSERT_TRUE(disk.Read(2 * kJudgedReads, kMegabyte, PageCacheUse::kForSlowDisks).ok());
  EXPECT_EQ(disk.n_past_cache, 2 * kJudgedReads);
  EXPECT_EQ(disk.n_into_cache, 0);
}

TEST(ReadExtents, WhatIsInThePageCacheIsCopiedFromThere) {
  FakeDisk disk(1, /*cached=*/true);
  ASSERT_TRUE(disk.Read(10, kMegabyte, PageCacheUse::kForSlowDisks).ok());
  EXPECT_EQ(disk.n_into_cache, 10);
  EXPECT_EQ(disk.n_past_cache + disk.n_announced + disk.n_done_with, 0);
}

TEST(ReadExtents, NothingStaysInThePageCacheWhereItMustNot) {
  FakeDisk slow(10 * kFastReadUs), cached(1, /*cached=*/true);
  ASSERT_TRUE(slow.Read(2 * kJudgedReads, kMegabyte, PageCacheUse::kNever).ok());
  EXPECT_EQ(slow.n_past_cache, 2 * kJudgedReads);
  ASSERT_TRUE(cached.Read(10, kMegabyte, PageCacheUse::kNever).ok());
  EXPECT_EQ(cached.n_into_cache, 10);
  EXPECT_EQ(cached.n_done_with, 10);
}

// Its first reads end when the test says so; those that begin later are slow.
class StuckReader final : public Reader {
 public:
  const std::string& path() const override { return path_; }
  uint64_t size() const override { return 1 << 20; }
  Status ReadAt(uint64_t, std::span<uint8_t>) const override {
    std::unique_lock lock(mutex_);
    if (is_released_) never_.wait_for(lock, std::chrono::milliseconds(10));
    released_.wait(lock, [this] { return is_released_; });
    return OkStatus();
  }
  void Release() {
    const std::lock_guard lock(mutex_);
    is_released_ = true;
    released_.notify_all();
  }

 private:
  const std::string path_ = "stuck";
  mutable std::mutex mutex_;
  mutable std::condition_variable released_, never_;
  bool is_released_ = false;
};

TEST(ReadExtents, CancellingEndsItWhileTheDiskIsStuck) {
  StuckReader reader;
  const std::vector<Extent> extents(300000,
                                    Extent{&reader, 0, 1});  // more than lanes can read before they are told to stop
  std::atomic<int> n_consumed = 0;
  int n_calls = 0;
  size_t failed = SIZE_MAX;
  const Status status = ReadExtents(
      extents, {.n_lanes = 4}, [&](size_t, const uint8_t*) { return ++n_consumed, OkStatus(); },
      [&](uint64_t n) {
        EXPECT_EQ(n, 0u);
        if (++n_calls < 3) return true;
        reader.Release();
        return false;
      },
      &failed);
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_EQ(n_calls, 3);
  EXPECT_LT(n_consumed.load(), static_cast<int>(extents.size()));
  EXPECT_EQ(failed, SIZE_MAX);
}

TEST(ReadExtents, AConsumerMayRefuseWhatItGets) {
  const std::vector<uint8_t> bytes = SomeBytes(1 << 16);
  const auto reader = MakeMemoryReader("memory", bytes);
  const std::vector<Extent> extents = CutUp(*reader, 1024);
  size_t failed = SIZE_MAX;
  const Status status = ReadExtents(
      extents, {.n_lanes = 4},
      [](size_t i, const uint8_t*) { return i == 7 || i == 9 ? CorruptionError("extent {}", i) : OkStatus(); }, {},
      &failed);
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_EQ(status.message(), "extent 7");
  EXPECT_EQ(failed, 7u);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PANTRY_HAS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PANTRY_HAS_SANITIZER
#endif
#endif
#if !defined(PANTRY_HAS_SANITIZER)  // sanitizers need an unlimited address space
TEST(ReadExtents, WorksWithTheThreadsThatTheSystemAllows) {
  const auto read_with_little_memory = [] {
    const std::vector<uint8_t> bytes = SomeBytes(1 << 20);
    const auto reader = MakeMemoryReader("memory", bytes);
    std::atomic<int> n_consumed = 0;
    size_t failed = 0;
    size_t n_pages = 0;  // what is mapped already: other tests leave arenas and stacks behind
    std::ifstream("/proc/self/statm") >> n_pages;
    const rlim_t most = n_pages * static_cast<size_t>(sysconf(_SC_PAGESIZE)) + (size_t{256} << 20);
    const rlimit limit = {most, most};  // room for some of 1000 stacks of 8 MB
    setrlimit(RLIMIT_AS, &limit);
    const Status status = ReadExtents(
        CutUp(*reader, 1024), {.n_lanes = 1000}, [&](size_t, const uint8_t*) { return ++n_consumed, OkStatus(); }, {},
        &failed);
    std::_Exit(status.ok() && n_consumed.load() == 1024 ? 0 : 1);
  };
  EXPECT_EXIT(read_with_little_memory(), ::testing::ExitedWithCode(0), "");
}
#endif

}  // namespace
}  // namespace pantry
