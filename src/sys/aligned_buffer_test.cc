// SPDX-License-Identifier: Apache-2.0
#include "sys/aligned_buffer.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <utility>

#include "base/units.h"
#include "support/limited_group.h"
#include "sys/memory_info.h"

namespace pantry {
namespace {

constexpr size_t kHuge = size_t{2} << 20;

uintptr_t Address(const AlignedBuffer& buffer) { return reinterpret_cast<uintptr_t>(buffer.data()); }

TEST(AlignedBuffer, IsZeroedAndPageAligned) {
  for (const size_t n : {size_t{1}, size_t{4095}, size_t{4096}, size_t{4097}, size_t{100000}, kHuge - 1, kHuge,
                         kHuge + 1, 2 * kHuge + 12345}) {
    auto buffer = AlignedBuffer::Allocate(n);
    ASSERT_TRUE(buffer.ok()) << n;
    EXPECT_EQ(buffer->size(), n);
    EXPECT_EQ(Address(*buffer) % 4096, 0u) << n;
    EXPECT_TRUE(std::all_of(buffer->data(), buffer->data() + n, [](uint8_t byte) { return byte == 0; })) << n;
    std::fill(buffer->data(), buffer->data() + n, uint8_t{0xA5});  // all of it is ours to write
  }
}

TEST(AlignedBuffer, LargeBuffersBeginAtAHugePage) {
  for (const size_t n : {kHuge, kHuge + 1, 5 * kHuge + 4096}) {
    auto buffer = AlignedBuffer::Allocate(n);
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(Address(*buffer) % kHuge, 0u) << n;
  }
}

TEST(AlignedBuffer, WithoutHugePagesATouchCommitsASmallPage) {
  const int64_t before = ResidentSetBytes();
  if (before < 0) GTEST_SKIP() << "the system does not say how much memory is in use";
  AlignedBuffer buffer = AlignedBuffer::Allocate(64 * kHuge, AlignedBuffer::HugePages::kNever).value();
  for (size_t i = 0; i < 64; ++i) buffer.data()[i * kHuge] = 1;
  EXPECT_LT(ResidentSetBytes() - before,
            static_cast<int64_t>(8 * kHuge));  // 64 small pages; with huge ones it would be all 128 MiB
}

TEST(AlignedBuffer, ZeroBytesAreAnEmptyBuffer) {
  auto buffer = AlignedBuffer::Allocate(0);
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ(buffer->size(), 0u);
  EXPECT_TRUE(buffer->As<float>().empty());
}

TEST(AlignedBuffer, ImpossibleSizesAreOutOfBudget) {
  for (const size_t n : {size_t{1} << 62, SIZE_MAX, SIZE_MAX - 4096, size_t{1} << 55}) {
    auto buffer = AlignedBuffer::Allocate(n);
    ASSERT_FALSE(buffer.ok()) << n;
    EXPECT_EQ(buffer.status().code(), StatusCode::kOutOfBudget);
  }
}

TEST(AlignedBuffer, MovingHandsTheMemoryOn) {
  AlignedBuffer a = AlignedBuffer::Allocate(4096).value();
  a.data()[0] = 42;
  const uint8_t* const memory = a.data();
  AlignedBuffer b(std::move(a));
  EXPECT_EQ(b.data(), memory);
  EXPECT_EQ(b.data()[0], 42);
  EXPECT_EQ(a.size(), 0u);  // NOLINT(bugprone-use-after-move): the moved-from state is promised
  AlignedBuffer c = AlignedBuffer::Allocate(8192).value();
  c = std::move(b);
  EXPECT_EQ(c.data(), memory);
  EXPECT_EQ(c.size(), 4096u);
  EXPECT_EQ(b.data(), nullptr);  // NOLINT(bugprone-use-after-move)
}

TEST(AlignedBuffer, AsCountsWholeElements) {
  AlignedBuffer buffer = AlignedBuffer::Allocate(30).value();
  EXPECT_EQ(buffer.As<float>().size(), 7u);
}

TEST(AlignedBuffer, MemoryIsTakenWhenWrittenAndGivenBackAtTheEnd) {
  constexpr size_t kBytes = size_t{64} << 20;
  const int64_t before = ResidentSetBytes();
  if (before < 0) GTEST_SKIP() << "this system does not tell a process its size";
  {
    AlignedBuffer buffer = AlignedBuffer::Allocate(kBytes).value();
    EXPECT_LT(ResidentSetBytes() - before, static_cast<int64_t>(kBytes) / 2);
    std::fill(buffer.data(), buffer.data() + kBytes, uint8_t{1});
    EXPECT_GT(ResidentSetBytes() - before, static_cast<int64_t>(kBytes) / 2);
    buffer = AlignedBuffer();  // what it held goes now
    EXPECT_LT(ResidentSetBytes() - before, static_cast<int64_t>(kBytes) / 2);
  }
}

TEST(AlignedBuffer, MoreCanBeReservedThanThereIs) {
  AlignedBuffer buffer = AlignedBuffer::Reserve(size_t{1} << 40).value();
  buffer.data()[size_t{1} << 39] = 7;
  EXPECT_EQ(buffer.data()[size_t{1} << 39], 7);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // sanitizers keep books in memory
TEST(AlignedBuffer, GivenBackMemoryIsNoLongerOursAndReadsAsZeros) {
  constexpr size_t kBytes = size_t{64} << 20;
  const size_t page = AlignedBuffer::PageBytes();
  const int64_t before = ResidentSetBytes();
  for (const auto huge : {AlignedBuffer::HugePages::kWanted, AlignedBuffer::HugePages::kNever}) {
    AlignedBuffer buffer = AlignedBuffer::Reserve(kBytes, huge).value();
    std::fill(buffer.data(), buffer.data() + kBytes, uint8_t{1});
    buffer.RefuseHugePages();
    buffer.GiveBack(page, kBytes - 2 * page);
    EXPECT_EQ(buffer.data()[page - 1], 1);
    EXPECT_EQ(buffer.data()[page], 0);
    EXPECT_EQ(buffer.data()[kBytes - page - 1], 0);
    EXPECT_EQ(buffer.data()[kBytes - page], 1);
    if (before >= 0) {
      EXPECT_LT(ResidentSetBytes() - before, static_cast<int64_t>(kBytes) / 2);
    }
  }
}

// A group is charged for a huge page until all of it is free, whatever part of it is mapped, unless the page is broken up.
TEST(AlignedBuffer, APartOfAHugePageThatIsGivenBackIsChargedToNobody) {
  const testing::LimitedGroup group(256 * kMiB);
  if (!group.is_there()) GTEST_SKIP() << "no control group can be made here";
  int filled[2], emptied[2], done[2];
  ASSERT_EQ(pipe(filled) | pipe(emptied) | pipe(done), 0);
  const auto say = [](int fd) { return write(fd, "x", 1) == 1; };
  const auto hear = [](int fd) {
    char c = 0;
    return read(fd, &c, 1) == 1;
  };
  const pid_t child = fork();
  if (child == 0) {
    close(done[1]);
    std::ofstream(group.procs()) << getpid() << std::flush;
    AlignedBuffer buffer = AlignedBuffer::Allocate(32 * kHuge).value();
    std::fill(buffer.data(), buffer.data() + buffer.size(), uint8_t{1});
    bool ok = say(filled[1]) && hear(done[0]);
    for (size_t i = 0; i < 32; ++i) buffer.GiveBack(i * kHuge + kHuge / 4, kHuge / 2);
    for (size_t i = 0; i < 32; ++i) {
      ok = ok && buffer.data()[i * kHuge] == 1 && buffer.data()[i * kHuge + kHuge / 2] == 0 &&
           buffer.data()[(i + 1) * kHuge - 1] == 1;
    }
    ok = ok && say(emptied[1]) && hear(done[0]);
    _exit(ok ? 0 : 1);
  }
  close(filled[1]);
  close(emptied[1]);
  ASSERT_TRUE(hear(filled[0]));
  EXPECT_GE(group.UsedBytes(), static_cast<int64_t>(32 * kHuge));
  ASSERT_TRUE(say(done[1]) && hear(emptied[0]));
  EXPECT_LE(group.UsedBytes(), static_cast<int64_t>(16 * kHuge) + 4 * kMiB);
  ASSERT_TRUE(say(done[1]));
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  for (const int fd : {filled[0], emptied[0], done[0], done[1]}) close(fd);
}
#endif

}  // namespace
}  // namespace pantry
