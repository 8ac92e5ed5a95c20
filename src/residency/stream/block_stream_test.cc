// SPDX-License-Identifier: Apache-2.0
#include "residency/stream/block_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "base/rng.h"
#include "io/disk_queue.h"

namespace pantry {
namespace {

constexpr int kLayers = 4;
constexpr int kBlocksPerLayer = 12;
constexpr int kBlocks = kLayers * kBlocksPerLayer;
constexpr size_t kBlockBytes = 10'000;
constexpr size_t kPieceBytes = 3'000;

// A file of blocks one after another, each byte a function of its place; in memory the bytes are inverted, so that a block which was not
// placed shows.
class TestPlacer final : public BlockPlacer {
 public:
  // `is_mixed`: blocks of every other layer are half as large.
  TestPlacer(size_t piece_bytes, bool is_mixed) : piece_bytes_(piece_bytes), is_mixed_(is_mixed) {}
  size_t BytesOf(BlockId block) const {
    return is_mixed_ && block.value() / kBlocksPerLayer % 2 == 1 ? kBlockBytes / 2 : kBlockBytes;
  }
  size_t max_piece_bytes() const override { return piece_bytes_; }
  int n_pieces(BlockId block) const override {
    return static_cast<int>((BytesOf(block) + piece_bytes_ - 1) / piece_bytes_);
  }
  BlockPiece Piece(BlockId block, int piece) const override {
    const size_t begin = static_cast<size_t>(piece) * piece_bytes_;
    return {0, block.value() * kBlockBytes + begin, std::min(piece_bytes_, BytesOf(block) - begin)};
  }
  Status Place(BlockId block, int piece, const uint8_t* bytes, uint8_t* memory) const override {
    const BlockPiece where = Piece(block, piece);
    uint8_t* to = memory + where.offset - block.value() * kBlockBytes;
    for (size_t i = 0; i < where.n_bytes; ++i) to[i] = static_cast<uint8_t>(~bytes[i]);
    return OkStatus();
  }

 private:
  size_t piece_bytes_;
  bool is_mixed_;
};

uint8_t ByteAt(size_t offset) { return static_cast<uint8_t>(offset * 2654435761u >> 13); }

struct Bench {
  explicit Bench(int64_t n_blocks_of_budget, size_t n_file_bytes = kBlocks * kBlockBytes)
      : Bench(n_blocks_of_budget * 12288, n_file_bytes, TestPlacer(kPieceBytes, false)) {}  // whole pages
  Bench(int64_t budget_bytes, size_t n_file_bytes, const TestPlacer& test_placer)
      : placer(test_placer), bytes(n_file_bytes) {
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = ByteAt(i);
    file = MakeMemoryReader("test.bin", bytes);
    const Reader* files[] = {file.get()};
    auto queue = OpenReaderQueue(files, 8);
    PANTRY_CHECK(queue.ok());
    reader = std::make_unique<BlockReader>(files, std::move(queue).value(), BlockReaderOptions(), clock);
    std::vector<BlockInfo> infos;
    for (int i = 0; i < kBlocks; ++i) {
      infos.push_back({i / kBlocksPerLayer, static_cast<int64_t>(placer.BytesOf(BlockId(static_cast<uint32_t>(i))))});
    }
    BlockCacheOptions options;
    options.budget_bytes = budget_bytes;
    auto made = BlockCache::Create(infos, options);
    PANTRY_CHECK(made.ok());
    cache = std::move(made).value();
    auto streamed = BlockStream::Create(*cache, *reader, placer, clock);
    PANTRY_CHECK(streamed.ok());
    stream = std::move(streamed).value();
  }

  // Runs an event; every block must come once, with its bytes.
  Status Event(int layer, const std::vector<BlockId>& wanted, size_t at_once = 64) {
    stream->Begin(layer, wanted);
    std::vector<BlockId> out(at_once);
    std::map<BlockId, int> seen;
    while (true) {
      PANTRY_ASSIGN_OR_RETURN(const size_t n, stream->Next(pool, out));
      if (n == 0) break;
      for (size_t i = 0; i < n; ++i) {
        ++seen[out[i]];
        const uint8_t* memory = stream->memory(out[i]);
        for (size_t k = 0; k < placer.BytesOf(out[i]); ++k) {
          const auto expected = static_cast<uint8_t>(~ByteAt(out[i].value() * kBlockBytes + k));
          if (memory[k] != expected) return CorruptionError("block {} differs at {}", out[i].value(), k);
        }
      }
      stream->Release({out.data(), n});
    }
    for (const BlockId block : wanted) EXPECT_EQ(seen[block], 1) << block.value();
    EXPECT_EQ(seen.size(), wanted.size());
    return OkStatus();
  }

  SteadyClock clock;
  ThreadPool pool{2};
  TestPlacer placer;
  std::vector<uint8_t> bytes;
  std::unique_ptr<Reader> file;
  std::unique_ptr<BlockReader> reader;
  std::unique_ptr<BlockCache> cache;
  std::unique_ptr<BlockStream> stream;
};

std::vector<BlockId> RandomBlocks(Rng& rng, int layer, size_t n) {
  std::vector<BlockId> all;
  for (int i = 0; i < kBlocksPerLayer; ++i) all.emplace_back(static_cast<uint32_t>(layer * kBlocksPerLayer + i));
  for (size_t i = 0; i < n; ++i) std::swap(all[i], all[i + rng.NextU64() % (all.size() - i)]);
  all.resize(n);
  return all;
}

TEST(BlockStream, EveryWantedBlockComesOnceWithItsBytesAtAnyBudget) {
  for (const int64_t budget : {1, 2, 5, 12, 30, kBlocks}) {
    SCOPED_TRACE(budget);
    Bench bench(budget);
    Rng rng(static_cast<uint64_t>(budget));
    for (int event = 0; event < 200; ++event) {
      const int layer = event % kLayers;
      if (layer == 0) bench.cache->BeginStep();
      const std::vector<BlockId> wanted = RandomBlocks(rng, layer, 1 + rng.NextU64() % kBlocksPerLayer);
      const Status status = bench.Event(layer, wanted, 1 + rng.NextU64() % 5);
      ASSERT_TRUE(status.ok()) << status.ToString();
      if (event % 3 == 0) bench.stream->Expect(RandomBlocks(rng, (layer + 1) % kLayers, 6), event % 2 == 0 ? 0.9 : 1.0);
      ASSERT_LE(bench.cache->committed_bytes(), budget * 12288);
    }
  }
}

// Blocks of many pieces and two sizes, in a cache of little more than two: guesses that were wrong must not hold the room for ever.
TEST(BlockStream, WrongGuessesNeverKeepOutWhatIsWanted) {
  for (const int64_t budget : {24576, 32768, 45056, 49152}) {  // slots take 12288 or 8192
    SCOPED_TRACE(budget);
    Bench bench(budget, kBlocks * kBlockBytes, TestPlacer(100, true));
    Rng rng(static_cast<uint64_t>(budget));
    std::vector<BlockId> out(2);
    for (int event = 0; event < 400; ++event) {
      const int layer = event % kLayers;
      if (layer == 0) bench.cache->BeginStep();
      const std::vector<BlockId> wanted = RandomBlocks(rng, layer, 1 + rng.NextU64() % 4);
      bench.stream->Begin(layer, wanted);
      bench.stream->Expect(RandomBlocks(rng, (layer + 1) % kLayers, 3), 0.9);
      for (size_t n_done = 0; n_done < wanted.size();) {
        const Result<size_t> n = bench.stream->Next(bench.pool, out);
        ASSERT_TRUE(n.ok()) << n.status().ToString();
        ASSERT_GT(*n, 0u);
        bench.stream->Release({out.data(), *n});
        n_done += *n;
      }
      ASSERT_EQ(*bench.stream->Next(bench.pool, out), 0u);
    }
  }
}

TEST(BlockStream, WhatIsInMemoryIsHandedOutBeforeWhatIsNot) {
  Bench bench(kBlocks);
  const std::vector<BlockId> first = {BlockId(3), BlockId(7)};
  ASSERT_TRUE(bench.Event(0, first).ok());
  const std::vector<BlockId> all = {BlockId(1), BlockId(3), BlockId(5), BlockId(7)};
  bench.stream->Begin(0, all);
  std::vector<BlockId> out(4);
  // The reader queue reads in Wait() only, so nothing has come yet.
  const Result<size_t> n = bench.stream->Next(bench.pool, out);
  ASSERT_TRUE(n.ok());
  ASSERT_GE(*n, 2u);
  EXPECT_EQ(out[0], BlockId(3));
  EXPECT_EQ(out[1], BlockId(7));
  bench.stream->Release({out.data(), *n});
  for (size_t left = 4 - *n; left > 0;) {
    const Result<size_t> more = bench.stream->Next(bench.pool, out);
    ASSERT_TRUE(more.ok());
    bench.stream->Release({out.data(), *more});
    left -= *more;
  }
  EXPECT_EQ(*bench.stream->Next(bench.pool, out), 0u);
}

TEST(BlockStream, AGuessThatComesTrueIsReadOnce) {
  Bench bench(kBlocks);
  const std::vector<BlockId> blocks = RandomBlocks(*std::make_unique<Rng>(7), 1, 8);
  bench.stream->Expect(blocks, 0.9);
  ASSERT_TRUE(bench.Event(1, blocks).ok());
  EXPECT_EQ(bench.reader->stats().bytes_wanted, static_cast<int64_t>(8 * kBlockBytes));
  EXPECT_EQ(bench.cache->TotalStats().n_guesses_used, 8);
}

// The file ends within the last block: an error that names it, and the stream works on afterwards.
TEST(BlockStream, AfterAnErrorNothingIsPinnedAndTheNextEventWorks) {
  Bench bench(6, kBlocks * kBlockBytes - 1);
  const std::vector<BlockId> with_the_last = {BlockId(kBlocks - 3), BlockId(kBlocks - 1), BlockId(kBlocks - 2)};
  for (int round = 0; round < 3; ++round) {
    const Status status = bench.Event(kLayers - 1, with_the_last);
    ASSERT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("test.bin"));
    EXPECT_EQ(bench.reader->n_pending(), 0u);
    for (uint32_t i = 0; i < kBlocks; ++i) {
      EXPECT_FALSE(bench.cache->pinned(BlockId(i)));
      EXPECT_NE(bench.cache->state(BlockId(i)), BlockState::kReading);
    }
    const Status fine = bench.Event(0, {BlockId(0), BlockId(1), BlockId(2), BlockId(3), BlockId(4), BlockId(5)});
    ASSERT_TRUE(fine.ok()) << fine.ToString();
  }
}

// A guess, or what is expected for certain, may turn out to be unreadable: who does not want it goes on, who wants it gets the error.
TEST(BlockStream, WhatNobodyWantsYetMayBeUnreadable) {
  for (const double likelihood : {0.9, 1.0}) {
    Bench bench(kBlocks, kBlocks * kBlockBytes - 1);
    for (int round = 0; round < 3; ++round) {
      const BlockId last[] = {BlockId(kBlocks - 1)};
      bench.stream->Expect(last, likelihood);
      const Status fine = bench.Event(0, {BlockId(0), BlockId(1), BlockId(2), BlockId(3)});
      ASSERT_TRUE(fine.ok()) << fine.ToString();
      while (bench.reader->n_pending() > 0) {  // all of the expected one comes to its end in some event
        ASSERT_TRUE(bench.Event(1, {BlockId(kBlocksPerLayer)}).ok());
      }
      EXPECT_EQ(bench.cache->state(last[0]), BlockState::kAbsent);
    }
    const Status status = bench.Event(kLayers - 1, {BlockId(kBlocks - 1), BlockId(kBlocks - 2)});
    EXPECT_FALSE(status.ok());
    ASSERT_TRUE(bench.Event(kLayers - 1, {BlockId(kBlocks - 2)}).ok());
  }
}

TEST(BlockStream, MayEndWithGuessesUnderWay) {
  Bench bench(kBlocks);
  Rng rng(1);
  bench.stream->Expect(RandomBlocks(rng, 0, kBlocksPerLayer), 0.5);
  bench.stream.reset();
  for (uint32_t i = 0; i < kBlocks; ++i) EXPECT_NE(bench.cache->state(BlockId(i)), BlockState::kReading);
}

// Adds up what it is told, and checks that it comes in order.
class Recorder final : public StreamObserver {
 public:
  void EventBegan(const StreamedEvent& event) override {
    EXPECT_FALSE(in_event);
    in_event = true;
    Advance(event.at_us);
    ASSERT_EQ(event.wanted.size(), event.before.size());
    for (const BlockState before : event.before) ++n_before[static_cast<size_t>(before)];
    left = {event.wanted.begin(), event.wanted.end()};
    layers.push_back(event.layer);
  }
  void BlocksEvicted(size_t n_blocks) override { n_evicted += static_cast<int64_t>(n_blocks); }
  void PieceSubmitted(uint32_t slot, ReadUrgency urgency) override {
    EXPECT_TRUE(pending.emplace(slot, urgency).second);
  }
  void PieceCame(const StreamedPiece& piece) override {
    ASSERT_EQ(pending.count(piece.slot), 1u);
    EXPECT_EQ(pending[piece.slot], piece.urgency);
    pending.erase(piece.slot);
    n_bytes += static_cast<int64_t>(piece.n_bytes);
    EXPECT_LE(piece.submitted_us, piece.started_us);
    EXPECT_LE(piece.started_us, piece.done_us);
    if (piece.place_thread < 0) return;
    EXPECT_LT(piece.place_thread, 2);
    EXPECT_LE(piece.done_us, piece.place_begin_us);
    EXPECT_LE(piece.place_begin_us, piece.place_end_us);
    ++n_placed[{piece.block, piece.piece}];
  }
  void Waited(int64_t begin_us, int64_t end_us) override {
    Advance(begin_us);
    Advance(end_us);
    ++n_waits;
    wait_us += end_us - begin_us;
  }
  void HandedOut(std::span<const BlockId> blocks, int64_t at_us) override {
    Advance(at_us);
    for (const BlockId block : blocks) {
      EXPECT_EQ(std::erase(left, block), 1u);
      out.push_back(block);
    }
  }
  void Released(std::span<const BlockId> blocks, int64_t at_us) override {
    Advance(at_us);
    for (const BlockId block : blocks) EXPECT_EQ(std::erase(out, block), 1u);
  }
  void EventEnded(int64_t at_us, bool is_complete) override {
    EXPECT_TRUE(in_event);
    in_event = false;
    Advance(at_us);
    if (is_complete) {
      EXPECT_TRUE(left.empty() && out.empty());
      return;
    }
    ++n_failed;
    pending.clear();
    out.clear();
  }

  void Advance(int64_t at_us) {
    EXPECT_LE(now_us, at_us);
    now_us = at_us;
  }
  bool in_event = false;
  int64_t now_us = 0, n_evicted = 0, n_bytes = 0, n_waits = 0, wait_us = 0, n_failed = 0;
  int64_t n_before[3] = {};
  std::vector<int> layers;
  std::vector<BlockId> left, out;
  std::map<uint32_t, ReadUrgency> pending;
  std::map<std::pair<BlockId, int>, int64_t> n_placed;
};

TEST(StreamObserver, IsToldOfAllThatTheCountersCount) {
  for (const int64_t budget : {2, 5, 20, kBlocks}) {
    SCOPED_TRACE(budget);
    Bench bench(budget);
    Recorder recorder, second;
    bench.stream->Observe(&recorder);
    bench.stream->Observe(&second);
    Rng rng(static_cast<uint64_t>(budget));
    for (int event = 0; event < 100; ++event) {
      const int layer = event % kLayers;
      if (layer == 0) bench.cache->BeginStep();
      const Status status = bench.Event(layer, RandomBlocks(rng, layer, 1 + rng.NextU64() % kBlocksPerLayer), 3);
      ASSERT_TRUE(status.ok()) << status.ToString();
      if (event % 3 == 0) bench.stream->Expect(RandomBlocks(rng, (layer + 1) % kLayers, 6), event % 2 == 0 ? 0.9 : 1.0);
      ASSERT_FALSE(recorder.in_event);
      ASSERT_EQ(recorder.layers.back(), layer);
    }
    for (int more = 0; more < 50 && !recorder.pending.empty(); ++more) {  // guesses
      ASSERT_TRUE(bench.Event(0, {BlockId(0)}).ok());
    }
    const CacheStats cache = bench.cache->TotalStats();
    EXPECT_EQ(recorder.n_before[static_cast<size_t>(BlockState::kResident)], cache.n_hits);
    EXPECT_EQ(recorder.n_before[static_cast<size_t>(BlockState::kReading)], cache.n_late);
    EXPECT_EQ(recorder.n_before[static_cast<size_t>(BlockState::kAbsent)], cache.n_misses);
    EXPECT_EQ(recorder.n_evicted, cache.n_evicted);
    EXPECT_EQ(recorder.n_bytes, bench.reader->stats().bytes_wanted);
    EXPECT_EQ(recorder.n_waits, bench.stream->stats().n_waits);
    EXPECT_EQ(recorder.wait_us, bench.stream->stats().wait_us);
    EXPECT_EQ(static_cast<int64_t>(recorder.layers.size()), bench.stream->stats().n_events);
    EXPECT_EQ(second.n_bytes, recorder.n_bytes);
    for (const auto& [piece, n] : recorder.n_placed) {  // a block comes whole
      EXPECT_EQ(n, recorder.n_placed[std::pair(piece.first, 0)]);
    }
  }
}

TEST(StreamObserver, IsToldOnceThatAnEventFailed) {
  Bench bench(6, kBlocks * kBlockBytes - 1);
  Recorder recorder;
  bench.stream->Observe(&recorder);
  for (int64_t round = 1; round <= 3; ++round) {
    EXPECT_FALSE(bench.Event(kLayers - 1, {BlockId(kBlocks - 1), BlockId(kBlocks - 2)}).ok());
    EXPECT_EQ(recorder.n_failed, round);
    EXPECT_TRUE(bench.Event(0, {BlockId(1), BlockId(2)}).ok());
    EXPECT_EQ(recorder.n_failed, round);
    EXPECT_FALSE(recorder.in_event);
  }
}

TEST(StreamObserver, AnEventThatWantsNothingEndsAsItBegins) {
  Bench bench(6);
  Recorder recorder;
  bench.stream->Observe(&recorder);
  ASSERT_TRUE(bench.Event(2, {}).ok());
  EXPECT_EQ(recorder.layers, std::vector<int>{2});
  EXPECT_FALSE(recorder.in_event);
}

TEST(StreamObserver, MayDieBeforeTheStreamAndIsNotToldAfterwards) {
  Bench bench(kBlocks);
  Rng rng(1);
  auto recorder = std::make_unique<Recorder>();
  bench.stream->Observe(recorder.get());
  bench.stream->Observe(nullptr);
  ASSERT_TRUE(bench.Event(0, RandomBlocks(rng, 0, 3)).ok());
  EXPECT_TRUE(recorder->layers.empty());
  bench.stream->Observe(recorder.get());
  bench.stream->Expect(RandomBlocks(rng, 1, kBlocksPerLayer), 0.5);  // under way when the stream ends
  EXPECT_FALSE(recorder->pending.empty());
  recorder.reset();
  bench.stream.reset();
}

TEST(BlockStream, FillTakesFreeRoomOnlyTheFirstBlocksFirst) {
  Bench bench(5);
  std::vector<BlockId> warm;
  for (uint32_t i = 0; i < 8; ++i) warm.emplace_back(2 * i);
  bench.stream->Fill(bench.pool, warm);
  for (size_t i = 0; i < warm.size(); ++i) {
    EXPECT_EQ(bench.cache->state(warm[i]), i < 5 ? BlockState::kResident : BlockState::kAbsent) << i;
  }
  const int64_t n_reads = bench.reader->stats().n_reads;
  bench.stream->Fill(bench.pool, warm);  // nothing is free, and nothing goes
  EXPECT_EQ(bench.reader->stats().n_reads, n_reads);
  EXPECT_EQ(bench.cache->TotalStats().n_evicted, 0);
  EXPECT_EQ(bench.cache->TotalStats().n_demanded, 0);
  std::vector<BlockId> of_first_layer;
  for (size_t i = 0; i < 5 && warm[i].value() < kBlocksPerLayer; ++i) of_first_layer.push_back(warm[i]);
  ASSERT_TRUE(bench.Event(0, of_first_layer).ok());  // with the right bytes
  EXPECT_EQ(bench.cache->TotalStats().n_hits, std::ssize(of_first_layer));
}

TEST(BlockStream, FillLeavesAnUnreadableBlockToWhoWantsIt) {
  Bench bench(kBlocks, kBlockBytes + 100);  // the file ends in block 1
  const std::vector<BlockId> blocks = {BlockId(0), BlockId(1)};
  bench.stream->Fill(bench.pool, blocks);
  EXPECT_EQ(bench.cache->state(blocks[0]), BlockState::kResident);
  EXPECT_EQ(bench.cache->state(blocks[1]), BlockState::kAbsent);
  EXPECT_FALSE(bench.Event(0, blocks).ok());
}

}  // namespace
}  // namespace pantry
