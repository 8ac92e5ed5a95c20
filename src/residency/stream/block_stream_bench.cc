// SPDX-License-Identifier: Apache-2.0
// What the stream's own work costs: an event of 8 blocks of 4 pieces each, all resident or all read from memory, with 0 to 2 observers.
// Bytes are not moved: what is measured is bookkeeping.
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "io/disk_queue.h"
#include "residency/stream/block_stream.h"

namespace pantry {
namespace {

constexpr uint32_t kBlocksPerLayer = 64;
constexpr uint32_t kLayers = 16;
constexpr uint32_t kChosen = 8;
constexpr int kPieces = 4;
constexpr size_t kPieceBytes = 4096;

class NothingToPlace final : public BlockPlacer {
 public:
  size_t max_piece_bytes() const override { return kPieceBytes; }
  int n_pieces(BlockId) const override { return kPieces; }
  BlockPiece Piece(BlockId block, int piece) const override {
    return {0, (block.value() * kPieces + static_cast<uint64_t>(piece)) * kPieceBytes, kPieceBytes};
  }
  Status Place(BlockId, int, const uint8_t* bytes, uint8_t*) const override {
    benchmark::DoNotOptimize(bytes);
    return OkStatus();
  }
};

// Takes a note of each thing, as the least that is of use.
class Counter final : public StreamObserver {
 public:
  void EventBegan(const StreamedEvent& event) override { n_ += event.wanted.size(); }
  void BlocksEvicted(size_t n_blocks) override { n_ += n_blocks; }
  void PieceSubmitted(uint32_t, ReadUrgency) override { ++n_; }
  void PieceCame(const StreamedPiece& piece) override { n_ += piece.n_bytes; }
  void Waited(int64_t, int64_t) override { ++n_; }
  void HandedOut(std::span<const BlockId> blocks, int64_t) override { n_ += blocks.size(); }
  void Released(std::span<const BlockId> blocks, int64_t) override { n_ += blocks.size(); }
  void EventEnded(int64_t, bool) override { benchmark::DoNotOptimize(n_); }

 private:
  size_t n_ = 0;
};

void Event(benchmark::State& state, bool is_resident) {
  const NothingToPlace placer;
  const SteadyClock clock;
  ThreadPool pool(1);
  const std::vector<uint8_t> bytes(kLayers * kBlocksPerLayer * kPieces * kPieceBytes);
  const auto file = MakeMemoryReader("bench", bytes);
  const Reader* const files[] = {file.get()};
  BlockReader reader(files, OpenReaderQueue(files, 32).value(), {}, clock);
  std::vector<BlockInfo> blocks;
  for (uint32_t i = 0; i < kLayers * kBlocksPerLayer; ++i) {
    blocks.push_back({static_cast<int32_t>(i / kBlocksPerLayer), kPieces * kPieceBytes});
  }
  BlockCacheOptions options;
  options.budget_bytes = (is_resident ? kLayers * kBlocksPerLayer : 2 * kChosen) * kPieces * int64_t{kPieceBytes};
  options.huge_pages = false;
  options.policy.kind = PolicyKind::kLru;
  const auto cache = BlockCache::Create(blocks, options).value();
  const auto stream = BlockStream::Create(*cache, reader, placer, clock).value();
  Counter counters[2];
  for (int64_t i = 0; i < state.range(0); ++i) stream->Observe(&counters[i]);
  std::vector<BlockId> wanted(kChosen), out(kChosen);
  uint32_t step = 0;
  for (auto _ : state) {
    const uint32_t layer = step % kLayers;
    const uint32_t first = is_resident ? 0 : step / kLayers % (kBlocksPerLayer / kChosen) * kChosen;
    if (layer == 0) cache->BeginStep();
    for (uint32_t i = 0; i < kChosen; ++i) wanted[i] = BlockId(layer * kBlocksPerLayer + first + i);
    stream->Begin(static_cast<int>(layer), wanted);
    while (const size_t n = stream->Next(pool, out).value()) stream->Release({out.data(), n});
    ++step;
  }
}
void Hits(benchmark::State& state) { Event(state, true); }
void Misses(benchmark::State& state) { Event(state, false); }
BENCHMARK(Hits)->Arg(0)->Arg(1)->Arg(2)->ArgName("observers");
BENCHMARK(Misses)->Arg(0)->Arg(1)->Arg(2)->ArgName("observers");

}  // namespace
}  // namespace pantry
