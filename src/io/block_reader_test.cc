// SPDX-License-Identifier: Apache-2.0
// What a BlockReader asks of its queue, in which order, and what it makes of the answers: no disk, no threads, no time.
#include "io/block_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "io/scripted_queue.h"
#include "io/simulated_queue.h"
#include "support/count_allocations.h"
#include "sys/aligned_buffer.h"

namespace pantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr size_t kBlock = Reader::kBlockBytes;
constexpr size_t kSlotBytes = 64 * kBlock;

class BlockReaderTest : public ::testing::Test {
 protected:
  BlockReaderTest() : slots_(AlignedBuffer::Allocate(32 * kSlotBytes).value()) {}

  void Make(int depth, BlockReaderOptions options = {}, size_t alignment = kBlock) {
    auto queue = std::make_unique<testing::ScriptedQueue>(depth, alignment);
    queue_ = queue.get();
    reader_ = std::make_unique<BlockReader>(files_, std::move(queue), options, clock_);
  }
  // Read number `tag` goes to slot number `tag`.
  BlockRead Read(uint64_t tag, uint64_t offset, size_t n_bytes, ReadUrgency urgency = ReadUrgency::kDemand,
                 int file = 0) {
    return {tag, file, offset, n_bytes, slots_.data() + tag * kSlotBytes, urgency};
  }
  void Submit(const BlockRead& read) { reader_->Submit({&read, 1}); }
  std::vector<BlockReadDone> Reap() {
    std::vector<BlockReadDone> done(64);
    done.resize(reader_->Reap(done, 0));
    return done;
  }
  std::vector<uint64_t> ReapTags() {
    std::vector<uint64_t> tags;
    for (const BlockReadDone& done : Reap()) {
      EXPECT_TRUE(done.status.ok()) << done.status.ToString();
      tags.push_back(done.tag);
    }
    return tags;
  }
  std::vector<uint64_t> BlocksUnderWay() const {
    std::vector<uint64_t> blocks;
    for (const auto& started : queue_->under_way) blocks.push_back(started.transfer.offset / kBlock);
    return blocks;
  }
  static bool HasRightBytes(const BlockReadDone& done, const BlockRead& read) {
    for (size_t i = 0; i < read.n_bytes; ++i) {
      if (done.bytes[i] != testing::ScriptedQueue::ByteAt(read.offset + i)) return false;
    }
    return true;
  }

  const testing::SizeOnlyReader first_{"model.gguf", 1000 * kBlock + 77};
  const testing::SizeOnlyReader second_{"model-2.gguf", 1000 * kBlock};
  const std::vector<const Reader*> files_ = {&first_, &second_};
  AlignedBuffer slots_;
  SimulatedClock clock_;
  std::unique_ptr<BlockReader> reader_;
  testing::ScriptedQueue* queue_ = nullptr;
};

TEST_F(BlockReaderTest, NoMoreThanTheDepthIsUnderWayAndTheRestFollowsInOrder) {
  Make(3);
  for (uint64_t tag = 0; tag < 10; ++tag) Submit(Read(tag, tag * 10 * kBlock, 100));
  EXPECT_THAT(BlocksUnderWay(), ElementsAre(0, 10, 20));
  EXPECT_EQ(reader_->n_pending(), 10u);
  queue_->End(1);
  EXPECT_THAT(ReapTags(), ElementsAre(1));
  EXPECT_THAT(BlocksUnderWay(), ElementsAre(0, 20, 30));
  std::vector<uint64_t> tags;
  while (reader_->n_pending() > 0) {
    queue_->End(0);
    for (const uint64_t tag : ReapTags()) tags.push_back(tag);
  }
  EXPECT_THAT(tags, ElementsAre(0, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_EQ(queue_->most_under_way, 3u);
}

TEST_F(BlockReaderTest, DemandOvertakesEveryGuessThatWaits) {
  Make(2, {.guess_depth = 2});
  for (uint64_t tag = 0; tag < 5; ++tag) Submit(Read(tag, tag * 10 * kBlock, 100, ReadUrgency::kGuess));
  Submit(Read(7, 70 * kBlock, 100));
  EXPECT_THAT(BlocksUnderWay(), ElementsAre(0, 10));
  queue_->End(0);
  EXPECT_THAT(ReapTags(), ElementsAre(0));
  EXPECT_THAT(BlocksUnderWay(), ElementsAre(10, 70));
}

TEST_F(BlockReaderTest, GuessesLeaveTheRestOfTheDepthToDemands) {
  Make(8, {.guess_depth = 2});
  for (uint64_t tag = 0; tag < 5; ++tag) Submit(Read(tag, tag * 10 * kBlock, 100, ReadUrgency::kGuess));
  EXPECT_THAT(BlocksUnderWay(), ElementsAre(0, 10));
  Submit(Read(7, 70 * kBlock, 100));
  EXPECT_THAT(BlocksUnderWay(), ElementsAre(0, 10, 70));
  queue_->End(1);
  EXPECT_THAT(ReapTags(), ElementsAre(1));
  EXPECT_THAT(BlocksUnderWay(), ElementsAre(0, 70, 20));
}

TEST_F(BlockReaderTest, PromotedGuessIsTheLastOfTheDemands) {
  Make(1, {.guess_depth = 1});
  Submit(Read(0, 0, 100));
  for (const uint64_t tag : {1, 2, 3}) Submit(Read(tag, tag * 10 * kBlock, 100, ReadUrgency::kGuess));
  Submit(Read(4, 40 * kBlock, 100));
  EXPECT_TRUE(reader_->Promote(3));
  EXPECT_FALSE(reader_->Promote(3));
  EXPECT_FALSE(reader_->Promote(0)) << "it is on its way";
  std::vector<uint64_t> tags;
  while (reader_->n_pending() > 0) {
    queue_->EndAll();
    for (const uint64_t tag : ReapTags()) tags.push_back(tag);
  }
  EXPECT_THAT(tags, ElementsAre(0, 4, 3, 1, 2));
}

TEST_F(BlockReaderTest, LargeBlockIsReadInEqualPartsAndDoneWithTheLast) {
  Make(8, {.split_bytes = 8 * kBlock, .coalesce_bytes = 0});
  const BlockRead read = Read(5, 3 * kBlock + 7, 16 * kBlock);  // touches 17 blocks
  Submit(read);
  ASSERT_THAT(BlocksUnderWay(), ElementsAre(3, 9, 15));
  EXPECT_EQ(queue_->under_way[0].n_bytes, 6 * kBlock);
  EXPECT_EQ(queue_->under_way[2].n_bytes, 5 * kBlock);
  queue_->End(2);
  queue_->End(0);
  EXPECT_THAT(ReapTags(), IsEmpty());
  queue_->End(0);
  const std::vector<BlockReadDone> done = Reap();
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].bytes, read.slot + 7);
  EXPECT_TRUE(HasRightBytes(done[0], read));
  EXPECT_EQ(reader_->stats().n_transfers, 3);
  EXPECT_EQ(reader_->stats().bytes_wanted, static_cast<int64_t>(16 * kBlock));
  EXPECT_EQ(reader_->stats().bytes_read, static_cast<int64_t>(17 * kBlock));
}

TEST_F(BlockReaderTest, SmallNeighboursBecomeOneTransfer) {
  Make(8, {.coalesce_bytes = 4 * kBlock});
  const std::vector<BlockRead> reads = {
      Read(0, 10 * kBlock, kBlock),
      Read(1, 11 * kBlock, 2 * kBlock),
      Read(2, 13 * kBlock, kBlock),
      Read(3, 14 * kBlock, kBlock),                        // the limit is reached
      Read(4, 16 * kBlock, kBlock),                        // a gap
      Read(5, 17 * kBlock, 100, ReadUrgency::kDemand, 1),  // another file
      Read(6, 18 * kBlock, 100, ReadUrgency::kGuess),      // less urgent
  };
  reader_->Submit(reads);
  EXPECT_THAT(BlocksUnderWay(), ElementsAre(10, 14, 16, 17, 18));
  EXPECT_THAT(queue_->under_way[0].lengths, ElementsAre(kBlock, 2 * kBlock, kBlock));
  queue_->EndAll();
  const std::vector<BlockReadDone> done = Reap();
  ASSERT_EQ(done.size(), reads.size());
  for (const BlockReadDone& one : done) EXPECT_TRUE(HasRightBytes(one, reads[one.tag])) << one.tag;
  EXPECT_EQ(reader_->stats().n_coalesced, 2);
}

TEST_F(BlockReaderTest, NeighboursThatShareABlockOfTheFileEachGetIt) {
  Make(8, {.coalesce_bytes = 8 * kBlock});
  const std::vector<BlockRead> reads = {Read(0, 100, kBlock), Read(1, kBlock + 100, 50), Read(2, kBlock + 150, kBlock),
                                        Read(3, 2 * kBlock + 150, kBlock)};
  reader_->Submit(reads);
  ASSERT_EQ(queue_->under_way.size(), 1u);
  EXPECT_EQ(queue_->under_way[0].n_bytes, 4 * kBlock) << "each block is read once";
  queue_->End(0, kBlock + 120);  // short, in the middle of the second
  EXPECT_THAT(ReapTags(), IsEmpty());
  ASSERT_EQ(queue_->under_way.size(), 1u);
  EXPECT_EQ(queue_->under_way[0].transfer.offset, kBlock);
  queue_->End(0);
  const std::vector<BlockReadDone> done = Reap();
  ASSERT_EQ(done.size(), 4u);
  for (const BlockReadDone& one : done) EXPECT_TRUE(HasRightBytes(one, reads[one.tag])) << one.tag;
  EXPECT_EQ(reader_->stats().n_short, 1);
}

TEST_F(BlockReaderTest, WithoutAlignmentOnlyTheVeryBytesAreRead) {
  Make(8, {.coalesce_bytes = 8 * kBlock}, 1);
  const std::vector<BlockRead> reads = {Read(0, 100, 1000), Read(1, 1100, 50), Read(2, 1149, 60)};
  reader_->Submit(reads);
  ASSERT_EQ(queue_->under_way.size(), 2u);
  EXPECT_THAT(queue_->under_way[0].lengths, ElementsAre(1000, 50));
  queue_->EndAll();
  for (const BlockReadDone& one : Reap()) {
    EXPECT_EQ(one.bytes, reads[one.tag].slot + reads[one.tag].offset) << "where it would be past the page cache";
    EXPECT_TRUE(HasRightBytes(one, reads[one.tag])) << one.tag;
  }
  EXPECT_EQ(reader_->stats().bytes_read, 1110);
}

TEST_F(BlockReaderTest, CancelledBeforeTheDiskHasItIsGone) {
  Make(1);
  for (const uint64_t tag : {0, 1, 2}) Submit(Read(tag, tag * 10 * kBlock, 100));
  EXPECT_TRUE(reader_->Cancel(1));
  EXPECT_FALSE(reader_->Cancel(1));
  EXPECT_FALSE(reader_->Cancel(0)) << "under way: it comes";
  EXPECT_EQ(reader_->n_pending(), 2u);
  queue_->EndAll();
  EXPECT_THAT(ReapTags(), ElementsAre(0));
  queue_->EndAll();
  EXPECT_THAT(ReapTags(), ElementsAre(2));
  EXPECT_EQ(queue_->n_started, 2);
  EXPECT_EQ(reader_->stats().n_cancelled, 1);
}

TEST_F(BlockReaderTest, CancelledHalfwayIsDoneOnceItsTransfersHaveEnded) {
  Make(2, {.split_bytes = 2 * kBlock, .coalesce_bytes = 0});
  Submit(Read(0, 0, 10 * kBlock));
  EXPECT_FALSE(reader_->Cancel(0));
  queue_->End(0);
  EXPECT_THAT(Reap(), IsEmpty()) << "its slot is still being written to";
  queue_->End(0);
  const std::vector<BlockReadDone> done = Reap();
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].status.code(), StatusCode::kCancelled);
  EXPECT_THAT(std::string(done[0].status.message()), HasSubstr("model.gguf: reading 40960 bytes at offset 0"));
  EXPECT_EQ(queue_->n_started, 2);
  EXPECT_EQ(reader_->n_pending(), 0u);
}

TEST_F(BlockReaderTest, ShortTransferGoesOnWithTheBlockInWhichItEnded) {
  Make(1);
  const BlockRead read = Read(0, 1000, 3 * kBlock);
  Submit(read);
  queue_->End(0, kBlock + 512);
  EXPECT_THAT(Reap(), IsEmpty());
  ASSERT_THAT(BlocksUnderWay(), ElementsAre(1));
  EXPECT_EQ(queue_->under_way[0].n_bytes, 3 * kBlock);
  queue_->End(0);
  const std::vector<BlockReadDone> done = Reap();
  ASSERT_EQ(done.size(), 1u);
  EXPECT_TRUE(HasRightBytes(done[0], read));
}

TEST_F(BlockReaderTest, LastBlockOfAFileIsAskedForAsAWholeAndMayBeShort) {
  Make(1);
  Submit(Read(0, 999 * kBlock + 1, kBlock + 76));
  ASSERT_EQ(queue_->under_way[0].n_bytes, 2 * kBlock);
  queue_->End(0, kBlock + 77);
  EXPECT_THAT(ReapTags(), ElementsAre(0));
}

TEST_F(BlockReaderTest, FileThatWasCutIsAnIoError) {
  Make(1, {.max_retries = 2});
  Submit(Read(0, 1000, 3 * kBlock));
  queue_->End(0, kBlock + 512);
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(Reap(), IsEmpty());
    queue_->End(0, 512);
  }
  std::vector<BlockReadDone> done = Reap();
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].status.code(), StatusCode::kIoError);
  EXPECT_THAT(std::string(done[0].status.message()),
              HasSubstr("model.gguf: the file ends at offset 4608 but had 4096077 bytes when it was opened"));
  Submit(Read(0, 10 * kBlock, 100));
  queue_->End(0, 0);
  done = Reap();
  ASSERT_EQ(done.size(), 1u) << "nothing at all is no reason to try again";
  EXPECT_EQ(done[0].status.code(), StatusCode::kIoError);
}

TEST_F(BlockReaderTest, BlockThatWasThereAndFailedToBeReadAgainCountsAsLost) {
  Make(1, {.coalesce_bytes = 8 * kBlock, .max_retries = 0});
  const std::vector<BlockRead> reads = {Read(0, 100, kBlock), Read(1, kBlock + 100, kBlock)};
  reader_->Submit(reads);
  queue_->End(0, kBlock + 200);  // all of the first read
  EXPECT_THAT(Reap(), IsEmpty());
  queue_->End(0, -EIO);  // may have left anything in the block that both share
  const std::vector<BlockReadDone> done = Reap();
  ASSERT_EQ(done.size(), 2u);
  for (const BlockReadDone& one : done) EXPECT_EQ(one.status.code(), StatusCode::kIoError) << one.tag;
}

TEST_F(BlockReaderTest, FailuresThatMayPassAreTriedAgainAFewTimes) {
  Make(1, {.max_retries = 2});
  const BlockRead read = Read(0, 5, 10);
  for (const int error_number : {EIO, EAGAIN, EINTR, ETIMEDOUT}) {
    Submit(read);
    queue_->End(0, -error_number);
    EXPECT_THAT(Reap(), IsEmpty());
    queue_->End(0, -error_number);
    EXPECT_THAT(Reap(), IsEmpty());
    queue_->End(0);
    EXPECT_THAT(ReapTags(), ElementsAre(0));
  }
  EXPECT_EQ(reader_->stats().n_retries, 8);
  Submit(read);
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(Reap(), IsEmpty());
    queue_->End(0, -EIO);
  }
  const std::vector<BlockReadDone> done = Reap();
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].status.code(), StatusCode::kIoError);
  EXPECT_THAT(std::string(done[0].status.message()), HasSubstr("model.gguf: reading 10 bytes at offset 5 (3 tries): "));
  EXPECT_EQ(reader_->stats().n_errors, 1);
}

TEST_F(BlockReaderTest, OtherFailuresAreNotTriedAgainAndStopTheRestOfTheBlock) {
  Make(2, {.split_bytes = 2 * kBlock, .coalesce_bytes = 0});
  Submit(Read(0, 0, 10 * kBlock));
  queue_->End(1, -EBADF);
  EXPECT_THAT(Reap(), IsEmpty()) << "its slot is still being written to";
  EXPECT_EQ(queue_->under_way.size(), 1u);
  queue_->End(0);
  const std::vector<BlockReadDone> done = Reap();
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].status.code(), StatusCode::kIoError);
  EXPECT_EQ(queue_->n_started, 2);
}

TEST_F(BlockReaderTest, ReadBehindTheEndIsCorruptionAndAsksTheDiskNothing) {
  Make(1);
  for (const uint64_t offset : {1000 * kBlock + 70, 2000 * kBlock, uint64_t{UINT64_MAX - 3}}) {
    Submit(Read(0, offset, 8));
    const std::vector<BlockReadDone> done = Reap();
    ASSERT_EQ(done.size(), 1u);
    EXPECT_EQ(done[0].status.code(), StatusCode::kCorruption);
    EXPECT_THAT(std::string(done[0].status.message()), HasSubstr("model.gguf: cannot read 8 bytes at offset"));
  }
  Submit(Read(3, 7, 0));
  EXPECT_THAT(ReapTags(), ElementsAre(3)) << "nothing is there at once";
  EXPECT_EQ(queue_->n_started, 0);
}

TEST_F(BlockReaderTest, RoomShrinksWithWhatIsPendingAndComesBack) {
  Make(2, {.max_reads = 3});
  EXPECT_EQ(reader_->room(), 3u);
  Submit(Read(0, 0, 100));
  Submit(Read(1, 10 * kBlock, 100));
  EXPECT_EQ(reader_->room(), 1u);
  queue_->EndAll();
  BlockReadDone done;
  EXPECT_EQ(reader_->Reap({&done, 1}, 0), 1u);
  EXPECT_EQ(reader_->room(), 2u);
  EXPECT_EQ(reader_->Reap({&done, 1}, BlockReader::kForever), 1u);
  EXPECT_EQ(reader_->room(), 3u);
  EXPECT_EQ(reader_->Reap({&done, 1}, BlockReader::kForever), 0u) << "nothing to wait for";
}

TEST_F(BlockReaderTest, ReadingAllocatesNothing) {
  const SimulatedDisk disk;
  BlockReader reader(files_, std::make_unique<SimulatedQueue>(std::span<const Reader* const>{}, disk, clock_),
                     {.split_bytes = 4 * kBlock, .coalesce_bytes = 2 * kBlock}, clock_);
  std::vector<BlockRead> reads;
  for (uint64_t tag = 0; tag < 32; ++tag) reads.push_back(Read(tag, tag * kBlock, tag % 3 == 0 ? 16 * kBlock : 100));
  std::vector<BlockReadDone> done(4);
  const int64_t before = testing::n_allocations;
  if (before == 0) GTEST_SKIP() << "allocations are not counted in this build";
  size_t n = 0;
  for (int i = 0; i < 10; ++i) {
    reader.Submit(reads);
    while (reader.n_pending() > 0) n += reader.Reap(done, BlockReader::kForever);
  }
  EXPECT_EQ(testing::n_allocations - before, 0);
  EXPECT_EQ(n, 320u);
}

TEST(BlockReaderOptions, NonsenseIsNamed) {
  const auto message = [](const BlockReaderOptions& options) { return std::string(options.Validate().message()); };
  EXPECT_EQ(message({}), "");
  EXPECT_THAT(message({.max_reads = 0}), HasSubstr("max_reads is 0"));
  EXPECT_THAT(message({.guess_depth = 0}), HasSubstr("guess_depth is 0"));
  EXPECT_THAT(message({.split_bytes = 100}), HasSubstr("split_bytes is 100"));
  EXPECT_THAT(message({.split_bytes = 8192, .coalesce_bytes = 8193}), HasSubstr("coalesce_bytes is 8193"));
  EXPECT_THAT(message({.max_retries = -1}), HasSubstr("max_retries is -1"));
}

}  // namespace
}  // namespace pantry
