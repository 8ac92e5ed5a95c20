// SPDX-License-Identifier: Apache-2.0
#include "engine/expert_stream.h"

#include <algorithm>
#include <array>
#include <utility>

namespace pantry {
namespace {

// Blocks that are computed together at most; between two such calls the disk gets new work.
constexpr size_t kBlocksAtOnce = 8;
// Of cache, stream and reader, for each block and in all; what they report at run time is less.
constexpr int64_t kBookkeepingPerBlock = 160;
constexpr int64_t kBookkeeping = 1 << 20;

}  // namespace

int64_t ExpertStream::ReadingBytes(const ExpertPlacer& placer) {
  return BlockStream::StagingBytes(placer.max_piece_bytes()) + placer.n_blocks() * kBookkeepingPerBlock + kBookkeeping;
}

int64_t ExpertStream::LeastCacheBytes(const ExpertPlacer& placer) {
  int64_t largest = 0;
  for (int32_t layer = 0; layer < placer.n_layers(); ++layer) largest = std::max(largest, placer.block_bytes(layer));
  return 2 * BlockCache::SlotBytes(largest);  // one is computed while another is read
}

int64_t ExpertStream::AllBlocksBytes(const ExpertPlacer& placer) {
  int64_t n_bytes = 0;
  for (int32_t layer = 0; layer < placer.n_layers(); ++layer) {
    n_bytes += placer.n_experts(layer) * BlockCache::SlotBytes(placer.block_bytes(layer));
  }
  return n_bytes;
}

Result<std::unique_ptr<ExpertStream>> ExpertStream::Open(const GgufFile& file, std::unique_ptr<ExpertPlacer> placer,
                                                         const ExpertStreamOptions& options, const Clock& clock,
                                                         Logger& log, std::unique_ptr<BlockReader> reader) {
  auto stream = std::unique_ptr<ExpertStream>(new ExpertStream());
  stream->placer_ = std::move(placer);
  stream->first_layer_ = options.first_layer;
  std::vector<const Reader*> files;
  for (const auto& shard : file.shards()) files.push_back(shard.get());
  OpenBlockReaderOptions reader_options = options.reader;
  reader_options.reads.max_reads = std::max(reader_options.reads.max_reads, BlockStream::kStagingSlots);
  stream->reader_ = std::move(reader);
  if (stream->reader_ == nullptr) {
    PANTRY_ASSIGN_OR_RETURN(stream->reader_, OpenBlockReader(files, reader_options, clock, log));
  }

  std::vector<BlockInfo> blocks;
  int32_t most_experts = 0;
  for (int32_t layer = 0; layer < stream->placer_->n_layers(); ++layer) {
    const int32_t n_experts = stream->placer_->n_experts(layer);
    blocks.insert(blocks.end(), static_cast<size_t>(n_experts), {layer, stream->placer_->block_bytes(layer)});
    most_experts = std::max(most_experts, n_experts);
  }
  BlockCacheOptions cache_options;
  cache_options.budget_bytes = options.cache_bytes;
  cache_options.policy = options.policy;
  PANTRY_ASSIGN_OR_RETURN(stream->cache_, BlockCache::Create(blocks, cache_options));
  PANTRY_ASSIGN_OR_RETURN(stream->stream_,
                          BlockStream::Create(*stream->cache_, *stream->reader_, *stream->placer_, clock));
  stream->wanted_.reserve(static_cast<size_t>(most_experts));
  stream->guesses_.reserve(static_cast<size_t>(most_experts));
  stream->task_of_.resize(static_cast<size_t>(most_experts));
  return stream;
}

void ExpertStream::BeginRun(ThreadPool& pool, int64_t n_tokens, const std::function<bool()>* keep_going) {
  pool_ = &pool;
  keep_going_ = keep_going;
  cache_->BeginStep(n_tokens);
}

Status ExpertStream::Provide(int32_t layer, std::span<ExpertTask> tasks, const ExpertSink& compute) {
  if (keep_going_ != nullptr && !(*keep_going_)()) return CancelledError("stopped in layer {}", layer);
  const int32_t expert_layer = layer - first_layer_;
  wanted_.clear();
  for (size_t i = 0; i < tasks.size(); ++i) {
    wanted_.push_back(placer_->Block(expert_layer, tasks[i].expert));
    task_of_[static_cast<size_t>(tasks[i].expert)] = static_cast<int32_t>(i);
  }
  stream_->Begin(expert_layer, wanted_);
  stream_->Expect(guesses_, guess_likelihood_);
  guesses_.clear();
  std::array<BlockId, kBlocksAtOnce> ready;
  size_t n_done = 0;
  while (true) {
    PANTRY_ASSIGN_OR_RETURN(const size_t n, stream_->Next(*pool_, ready));
    if (n == 0) return OkStatus();
    for (size_t i = 0; i < n; ++i) {  // their tasks come to the front of those that are left
      const auto expert = static_cast<size_t>(placer_->ExpertOf(ready[i]));
      ExpertTask& task = tasks[static_cast<size_t>(task_of_[expert])];
      ExpertTask& front = tasks[n_done + i];
      task_of_[static_cast<size_t>(front.expert)] = task_of_[expert];
      std::swap(task, front);
      front.block = stream_->memory(ready[i]);
    }
    compute(tasks.subspan(n_done, n));
    stream_->Release({ready.data(), n});
    n_done += n;
  }
}

void ExpertStream::Expect(int32_t layer, std::span<const int32_t> experts, double likelihood) {
  const bool is_guess = likelihood < 1;
  if (is_guess) {
    guesses_.clear();
    guess_likelihood_ = likelihood;
  }
  for (const int32_t expert : experts) {
    const BlockId block = placer_->Block(layer - first_layer_, expert);
    if (is_guess && guesses_.size() < guesses_.capacity()) guesses_.push_back(block);
    if (!is_guess) stream_->Expect({&block, 1}, likelihood);
  }
}

ExpertStreamStats ExpertStream::stats() const {
  return {cache_->TotalStats(), stream_->stats(), stream_->reader_stats()};
}

}  // namespace pantry
