// SPDX-License-Identifier: Apache-2.0
#include "engine/weight_stream.h"

#include <algorithm>
#include <array>
#include <utility>

#include "policy/planner/expert_split.h"

namespace pantry {
namespace {

constexpr size_t kBlocksAtOnce = BlockStream::kBlocksAtOnce;
static_assert(kBlocksAtOnce <= kMaxMatMulTasks);
static_assert(NeuronSource::kMostAtOnce == NeuronStream::kMostAtOnce);
// Transfers under way where neurons are read one by one: a disk does 31000 of them in a second 32 deep, 53000 128 deep (README.md).
constexpr int kNeuronDepth = 128;
// Of cache, stream and reader, for each block and in all; what they report at run time is less.
constexpr int64_t kBookkeepingPerBlock = 160;
constexpr int64_t kBookkeeping = 1 << 20;

// Neurons of dense layers are all that is read; those of experts lie beside what is read as a block.
bool HasBlocks(const WeightPlacer& placer) { return placer.neurons() == nullptr || placer.has_experts(); }

OpenBlockReaderOptions ForNeurons(OpenBlockReaderOptions options) {
  options.depth = std::max(options.depth, kNeuronDepth);
  options.reads.max_reads = std::max(options.reads.max_reads, NeuronStream::kStagingSlots);
  return options;
}

// REQUIRES: HasBlocks()
int64_t LargestSlotBytes(const WeightPlacer& placer) {
  int64_t largest = 0;
  for (int32_t layer = 0; layer < placer.n_layers(); ++layer)
    largest = std::max(largest, placer.block_bytes(placer.Block(layer, 0)));
  return BlockCache::SlotBytes(largest);
}

// How experts' gates and neurons share a cache.
ExpertSplit SplitOf(const WeightPlacer& placer) {
  return {.slot_bytes = LargestSlotBytes(placer),
          .n_blocks = placer.n_blocks(),
          .n_neurons = placer.neurons()->n_neurons(),
          .neuron_bytes = placer.kept_neuron_bytes()};
}

// Of a cache, what blocks get.
int64_t BytesOfBlocks(const WeightPlacer& placer, int64_t cache_bytes) {
  if (!HasBlocks(placer)) return 0;
  if (placer.neurons() == nullptr) return cache_bytes;
  const int64_t n_bytes = std::max(SplitOf(placer).BlockBytes(cache_bytes), WeightStream::LeastCacheBytes(placer));
  return std::min(n_bytes, cache_bytes);
}

// Rows are read as blocks are, and what is refused has been told.
OpenBlockReaderOptions LikeReader(OpenBlockReaderOptions options, const BlockReader& reader) {
  const Result<DiskAccess> access = ParseDiskAccess(reader.queue_name());
  if (access.ok()) options.access = *access;
  return options;
}

}  // namespace

int64_t WeightStream::ReadingBytes(const WeightPlacer& placer) {
  int64_t n_bytes = placer.rows_in_file() ? EmbeddingRows::ReadingBytes(*placer.rows_in_file()) : 0;
  if (placer.neurons() != nullptr) n_bytes += NeuronWeights::ReadingBytes(placer);
  if (!HasBlocks(placer)) return n_bytes;
  return n_bytes + BlockStream::StagingBytes(placer.max_piece_bytes()) + placer.n_blocks() * kBookkeepingPerBlock +
         kBookkeeping;
}

int64_t WeightStream::LeastCacheBytes(const WeightPlacer& placer) {
  if (!HasBlocks(placer)) return 0;  // all neurons may pass through
  return ExpertSplit::kLeastBlocks * LargestSlotBytes(placer);
}

int64_t WeightStream::BlocksHeld(const WeightPlacer& placer, int64_t cache_bytes) {
  const int64_t slot_bytes = BlockCache::SlotBytes(placer.block_bytes(placer.Block(0, 0)));
  return std::min(BytesOfBlocks(placer, cache_bytes) / slot_bytes, placer.n_blocks());
}

int64_t WeightStream::AllBlocksBytes(const WeightPlacer& placer) {
  int64_t n_bytes = placer.neurons() != nullptr ? NeuronWeights::AllBytes(placer) : 0;
  if (!HasBlocks(placer)) return n_bytes;
  for (int32_t layer = 0; layer < placer.n_layers(); ++layer) {
    n_bytes += placer.n_blocks(layer) * BlockCache::SlotBytes(placer.block_bytes(placer.Block(layer, 0)));
  }
  return n_bytes;
}

Result<std::unique_ptr<WeightStream>> WeightStream::Open(const GgufFile& file, std::unique_ptr<WeightPlacer> placer,
                                                         const WeightStreamOptions& options, const Clock& clock,
                                                         Logger& log, std::unique_ptr<BlockReader> reader,
                                                         std::unique_ptr<BlockReader> row_reader,
                                                         std::unique_ptr<BlockReader> neuron_reader) {
  const std::vector<const Reader*> files = file.Readers();
  auto stream = std::unique_ptr<WeightStream>(new WeightStream(options.changes.value_or(FileChanges(files)), clock));
  stream->placer_ = std::move(placer);
  OpenBlockReaderOptions reader_options = options.reader;
  // The pieces of a pack's block lie side by side.
  if (file.pack() != nullptr) reader_options.reads.coalesce_bytes = reader_options.reads.split_bytes;
  reader_options.reads.max_reads = std::max(reader_options.reads.max_reads, BlockStream::kStagingSlots);
  const WeightPlacer& where = *stream->placer_;
  stream->reader_ = std::move(reader);
  if (stream->reader_ == nullptr) {
    PANTRY_ASSIGN_OR_RETURN(
        stream->reader_,
        OpenBlockReader(files, HasBlocks(where) ? reader_options : ForNeurons(reader_options), clock, log));
  }
  stream->neuron_reader_ = std::move(neuron_reader);
  if (where.neurons() != nullptr && where.has_experts() && stream->neuron_reader_ == nullptr) {
    PANTRY_ASSIGN_OR_RETURN(
        stream->neuron_reader_,
        OpenBlockReader(files, LikeReader(ForNeurons(reader_options), *stream->reader_), clock, log));
  }
  for (BlockReader* const one : {stream->reader_.get(), stream->neuron_reader_.get()}) {
    if (one != nullptr) one->CountBusyIn(stream->disk_busy_);
  }
  if (where.rows_in_file()) {
    PANTRY_ASSIGN_OR_RETURN(stream->embedding_, EmbeddingRows::Open(file, *where.rows_in_file(),
                                                                    LikeReader(options.reader, *stream->reader_), clock,
                                                                    log, std::move(row_reader)));
  }
  stream->lookahead_ = options.lookahead;
  stream->planned_bytes_ = options.cache_bytes;
  stream->most_lent_bytes_ = options.lendable_bytes;
  PANTRY_RETURN_IF_ERROR(stream->OpenCaches(file, options));
  stream->SetBudget(options.cache_bytes);
  return stream;
}

Status WeightStream::OpenCaches(const GgufFile& file, const WeightStreamOptions& options) {
  const WeightPlacer& where = *placer_;
  const int64_t block_bytes = BytesOfBlocks(where, options.cache_bytes);
  if (where.neurons() != nullptr) {
    PANTRY_ASSIGN_OR_RETURN(
        neurons_,
        NeuronWeights::Open(file, where, neuron_reader_ != nullptr ? *neuron_reader_ : *reader_,
                            options.cache_bytes - block_bytes, options.cache_bytes + options.lendable_bytes, clock_));
    held_ = &neurons_->cache();
    if (!HasBlocks(where)) return OkStatus();
  }
  PANTRY_RETURN_IF_ERROR(OpenBlocks(options, block_bytes));
  held_ = cache_.get();
  if (neurons_ == nullptr) return OkStatus();
  const auto of_blocks = [&where](int64_t budget_bytes) { return BytesOfBlocks(where, budget_bytes); };
  pair_ = std::make_unique<CachePair>(*cache_, neurons_->cache(), of_blocks);
  held_ = pair_.get();
  return OkStatus();
}

// The cache of blocks, and the pipeline that fills it.
Status WeightStream::OpenBlocks(const WeightStreamOptions& options, int64_t cache_bytes) {
  const WeightPlacer& where = *placer_;
  std::vector<BlockInfo> blocks;
  int32_t most_blocks = 0;  // of a layer
  for (int32_t layer = 0; layer < where.n_layers(); ++layer) {
    const int32_t n_blocks = where.n_blocks(layer);
    for (int32_t i = 0; i < n_blocks; ++i) blocks.push_back({layer, where.block_bytes(where.Block(layer, i))});
    most_blocks = std::max(most_blocks, n_blocks);
  }
  BlockCacheOptions cache_options;
  cache_options.budget_bytes = cache_bytes;
  cache_options.max_budget_bytes = options.cache_bytes + options.lendable_bytes;
  cache_options.floor_bytes = LeastCacheBytes(where);
  cache_options.policy =
      options.policy.value_or(PolicyOptions{.kind = where.has_experts() ? PolicyKind::kCycle : PolicyKind::kRotation});
  PANTRY_ASSIGN_OR_RETURN(cache_, BlockCache::Create(blocks, cache_options));
  PANTRY_ASSIGN_OR_RETURN(stream_, BlockStream::Create(*cache_, *reader_, where, clock_));
  wanted_.reserve(static_cast<size_t>(most_blocks));
  guesses_.reserve(static_cast<size_t>(most_blocks));
  task_of_.resize(static_cast<size_t>(most_blocks));
  if (options.lookahead && !where.has_experts()) ahead_.emplace(*cache_, *stream_);
  return OkStatus();
}

void WeightStream::SetBudget(int64_t n_bytes) {
  held().SetBudget(n_bytes);
  if (pair_ != nullptr &&
      cache_->budget_bytes() > std::max(BytesOfBlocks(*placer_, n_bytes), LeastCacheBytes(*placer_))) {
    stream_->CancelReads();  // of what comes next, for whose room neurons had to go; what is certain is read again
    held().SetBudget(n_bytes);
  }
  if (ahead_) ahead_->BudgetChanged();
}

void WeightStream::CommitMemory(ThreadPool& pool) {
  is_lent_more_ = false;
  const int64_t budget_bytes = cache_bytes();
  const auto go_on = [&] {
    FitMemory();
    return cache_bytes() >= budget_bytes && (keep_going_ == nullptr || (*keep_going_)());
  };
  commit_us_left_ -= pantry::CommitMemory(held(), pool, clock_, commit_us_left_, FunctionRef<bool()>(go_on));
}

// The budget moves by as much as is lent more or less, so that what memory pressure took from it stays taken.
void WeightStream::Lend(int64_t n_bytes) {
  const int64_t more = std::min(n_bytes, most_lent_bytes_) - lent_bytes_;
  if (more == 0) return;
  lent_bytes_ += more;
  is_lent_more_ |= more > 0;
  if (watch_ != nullptr) watch_->Lend(lent_bytes_);
  const int64_t budget_bytes = std::max<int64_t>(std::min(WantedBytes(), cache_bytes() + more), 0);
  SetBudget(budget_bytes);
  if (stream_ == nullptr || cache_bytes() <= budget_bytes) return;
  stream_->CancelReads();  // what is read ahead holds its room
  SetBudget(budget_bytes);
}

// Brings the cache to what the system can spare.
void WeightStream::FitMemory() {
  if (watch_ == nullptr) return;
  const std::optional<int64_t> budget = watch_->Check(held().budget_bytes(), held().committed_bytes());
  if (budget) SetBudget(*budget);
}

void WeightStream::BeginRun(ThreadPool& pool, int64_t n_tokens, const std::function<bool()>* keep_going) {
  pool_ = &pool;
  keep_going_ = keep_going;
  layer_ = -1;
  if (is_lent_more_) CommitMemory(pool);
  if (cache_ != nullptr) cache_->BeginStep(n_tokens);
}

Status WeightStream::BeginLayer(int32_t layer) {
  if (layer == layer_) return OkStatus();
  layer_ = layer;
  FitMemory();
  if (keep_going_ == nullptr || (*keep_going_)()) return OkStatus();
  return CancelledError("stopped in layer {}", placer_->first_layer() + layer);
}

// Has compute(blocks) called with the blocks of the event that was begun as they come, until all were in one call.
template <typename Compute>
Status WeightStream::HandOut(const Compute& compute) {
  std::array<BlockId, kBlocksAtOnce> ready;
  while (true) {
    PANTRY_ASSIGN_OR_RETURN(const size_t n, stream_->Next(*pool_, ready));
    if (n == 0) return OkStatus();
    compute(std::span<const BlockId>(ready.data(), n));
    stream_->Release({ready.data(), n});
  }
}

Status WeightStream::Provide(int32_t layer, std::span<ExpertTask> tasks, const ExpertSink& compute) {
  const int32_t at = placer_->LayerAt(layer);
  PANTRY_RETURN_IF_ERROR(BeginLayer(at));
  wanted_.clear();
  for (size_t i = 0; i < tasks.size(); ++i) {
    wanted_.push_back(placer_->Block(at, tasks[i].expert));
    task_of_[static_cast<size_t>(tasks[i].expert)] = static_cast<int32_t>(i);
  }
  stream_->Begin(at, wanted_);
  stream_->Expect(guesses_, guess_likelihood_);
  guesses_.clear();
  size_t n_done = 0;
  return HandOut([&](std::span<const BlockId> ready) {
    for (size_t i = 0; i < ready.size(); ++i) {  // their tasks come to the front of those that are left
      const auto expert = static_cast<size_t>(placer_->IndexInLayer(ready[i]));
      ExpertTask& task = tasks[static_cast<size_t>(task_of_[expert])];
      ExpertTask& front = tasks[n_done + i];
      task_of_[static_cast<size_t>(front.expert)] = task_of_[expert];
      std::swap(task, front);
      front.block = stream_->memory(ready[i]);
    }
    compute(tasks.subspan(n_done, ready.size()));
    n_done += ready.size();
  });
}

Status WeightStream::Provide(std::span<const MatMulTask> tasks, const MatrixSink& compute) {
  const int32_t layer = placer_->LayerOf(tasks.front().weights->first_block);
  PANTRY_RETURN_IF_ERROR(BeginLayer(layer));
  wanted_.clear();
  for (size_t i = 0; i < tasks.size(); ++i) {
    const WeightMatrix& matrix = *tasks[i].weights;
    const int64_t n_blocks = (matrix.rows + matrix.rows_per_block - 1) / matrix.rows_per_block;
    for (uint32_t part = 0; part < n_blocks; ++part) {
      wanted_.emplace_back(matrix.first_block.value() + part);
      task_of_[static_cast<size_t>(placer_->IndexInLayer(wanted_.back()))] = static_cast<int32_t>(i);
    }
  }
  if (ahead_) ahead_->Wanted(wanted_);
  stream_->Begin(layer, wanted_);
  if (ahead_) ahead_->Read();
  return HandOut([&](std::span<const BlockId> ready) {
    std::array<WeightMatrix, kBlocksAtOnce> parts;
    std::array<MatMulTask, kBlocksAtOnce> part_tasks;
    for (size_t i = 0; i < ready.size(); ++i) {
      const MatMulTask& task =
          tasks[static_cast<size_t>(task_of_[static_cast<size_t>(placer_->IndexInLayer(ready[i]))])];
      const WeightMatrix& whole = *task.weights;
      const int64_t first_row = (ready[i].value() - whole.first_block.value()) * whole.rows_per_block;
      parts[i] = {.kernel = whole.kernel,
                  .rows = std::min(whole.rows_per_block, whole.rows - first_row),
                  .cols = whole.cols,
                  .tiles = stream_->memory(ready[i])};
      part_tasks[i] = {&parts[i], task.y + first_row, task.y_stride};
    }
    compute({part_tasks.data(), ready.size()});
    if (ahead_) ahead_->Read();
  });
}

void WeightStream::Expect(int32_t layer, std::span<const int32_t> experts, double likelihood) {
  if (!lookahead_) return;
  const bool is_guess = likelihood < 1;
  if (is_guess) {
    guesses_.clear();
    guess_likelihood_ = likelihood;
  }
  for (const int32_t expert : experts) {
    if (expert < 0) continue;
    const BlockId block = placer_->Block(placer_->LayerAt(layer), expert);
    if (is_guess && guesses_.size() < guesses_.capacity()) guesses_.push_back(block);
    if (!is_guess) stream_->Expect({&block, 1}, likelihood);
  }
}

Status WeightStream::BeginNeurons(int32_t layer, int64_t n_tokens) {
  const int32_t at = placer_->LayerAt(layer);
  PANTRY_RETURN_IF_ERROR(BeginLayer(at));
  neurons_->stream().Begin(at, n_tokens);
  return OkStatus();
}

void WeightStream::Look(std::span<const int32_t> neurons, std::span<uint8_t> is_near) const {
  const NeuronCache& cache = neurons_->cache();
  for (size_t i = 0; i < neurons.size(); ++i) is_near[i] = cache.Find(neurons[i]) != nullptr ? 1 : 0;
}

void WeightStream::Want(int32_t network, std::span<const int32_t> neurons, std::span<const uint16_t> n_uses) {
  neurons_->stream().Want(network, neurons, n_uses);
}

void WeightStream::Peek(size_t skip, std::span<const uint8_t*> bundles) const {
  neurons_->stream().Peek(skip, bundles);
}

void WeightStream::FetchOn() { neurons_->stream().FetchOn(); }

Status WeightStream::Await(std::span<const uint8_t*> bundles) { return neurons_->stream().Await(bundles); }

void WeightStream::ReleaseNeurons() { neurons_->stream().Release(); }

void WeightStream::EndNeurons() { neurons_->stream().End(); }

void WeightStream::Look(int32_t layer, std::span<uint8_t> is_near) const {
  cache_->Look(placer_->Block(placer_->LayerAt(layer), 0), is_near);
}

void WeightStream::Forget() {
  if (neurons_ != nullptr) neurons_->cache().Forget();
  if (stream_ == nullptr) return;
  stream_->Forget();
  guesses_.clear();
  if (ahead_) ahead_->Forget();
}

BlockStreamStats WeightStream::stream_stats() const {
  BlockStreamStats stats;
  if (stream_ != nullptr) stats += stream_->stats();
  if (neurons_ != nullptr) stats += neurons_->stream().stats();
  return stats;
}

WeightStreamStats WeightStream::stats() const {
  WeightStreamStats stats;
  stats.stream = stream_stats();
  stats.reader = reader_->stats();
  stats.cache = held().TotalStats();  // a pair's are those of its blocks
  if (pair_ != nullptr) stats.neurons = neurons_->cache().TotalStats();
  if (neuron_reader_ != nullptr) {
    const int64_t busy_us = stats.reader.busy_us;  // of both
    stats.reader += neuron_reader_->stats();
    stats.reader.busy_us = busy_us;
  }
  if (embedding_ != nullptr) stats.embedding = embedding_->stats();
  return stats;
}

}  // namespace pantry
