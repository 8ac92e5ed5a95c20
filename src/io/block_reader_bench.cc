// SPDX-License-Identifier: Apache-2.0
// What reading blocks costs: bytes per second, and CPU time per gigabyte, by the way of reading, block size and blocks under way.
//
// Random places of the file that PANTRY_BENCH_FILE names; of a gigabyte and more, or the host's cache answers. It only reads. Each way begins
// with nothing of the file in the page cache.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/units.h"
#include "io/open_block_reader.h"
#include "sys/aligned_buffer.h"

namespace pantry {
namespace {

constexpr size_t kBufferBytes = 256 << 20;
constexpr size_t kBytesPerIteration = 64 << 20;
constexpr size_t kMostReads = 4096;

double CpuSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Scene {
  DiskAccess access = DiskAccess::kUring;
  size_t block_bytes = kMiB;
  int depth = 16;    // transfers
  size_t n_pending;  // blocks
  size_t n_run = 1;  // so many blocks lie side by side
  BlockReaderOptions reads = {};
  AlignedBuffer::HugePages pages = AlignedBuffer::HugePages::kWanted;
};

// Reads blocks until so many bytes have come, with n_pending of them under way.
Status ReadSome(BlockReader& reader, const Scene& scene, uint64_t n_blocks, Rng& rng, AlignedBuffer& slots,
                std::vector<BlockReadDone>& done) {
  size_t left = std::clamp(kBytesPerIteration / scene.block_bytes, size_t{1}, kMostReads) / scene.n_run * scene.n_run;
  uint64_t place = 0;
  uint64_t n_submitted = 0;
  std::vector<uint64_t> free_slots;
  for (uint64_t slot = 0; slot < scene.n_pending; ++slot) free_slots.push_back(slot);
  std::vector<BlockRead> batch;
  while (left > 0 || reader.n_pending() > 0) {
    batch.clear();
    while (left > 0 && (!batch.empty() || free_slots.size() >= scene.n_run) && !free_slots.empty()) {
      place = n_submitted++ % scene.n_run == 0 ? rng.NextU64() % (n_blocks - scene.n_run) : place + 1;
      batch.push_back({free_slots.back(), 0, place * scene.block_bytes, scene.block_bytes,
                       slots.data() + free_slots.back() * scene.block_bytes});
      free_slots.pop_back();
      --left;
    }
    reader.Submit(batch);
    const size_t n = reader.Reap(done, BlockReader::kForever);
    for (const BlockReadDone& one : std::span(done).first(n)) {
      PANTRY_RETURN_IF_ERROR(one.status);
      free_slots.push_back(one.tag);
    }
  }
  return OkStatus();
}

void Run(benchmark::State& state, const Scene& scene) {
  const char* const path = std::getenv("PANTRY_BENCH_FILE");
  if (path == nullptr) return state.SkipWithError("PANTRY_BENCH_FILE names no file to read");
  const Result<std::unique_ptr<Reader>> file = OpenFileReader(path);
  if (!file.ok()) return state.SkipWithError(file.status().ToString().c_str());
  const std::vector<const Reader*> files = {file->get()};
  const SteadyClock clock;
  NullLogger log;
  const auto reader = OpenBlockReader(
      files, {.access = scene.access, .depth = scene.depth, .most_threads = scene.depth, .reads = scene.reads}, clock,
      log);
  if (!reader.ok()) return state.SkipWithError(reader.status().ToString().c_str());
  AlignedBuffer slots = AlignedBuffer::Allocate(scene.n_pending * scene.block_bytes, scene.pages).value();
  std::fill(slots.data(), slots.data() + slots.size(), uint8_t{1});
  std::vector<BlockReadDone> done(scene.n_pending);
  Rng rng(static_cast<uint64_t>(clock.NowUs()));
  double cpu_seconds = 0;
  int64_t n_bytes = 0;
  for (auto _ : state) {
    state.PauseTiming();
    (*file)->DoneWith(0, (*file)->size());
    state.ResumeTiming();
    const double begin = CpuSeconds();
    const int64_t before = (*reader)->stats().bytes_wanted;
    const Status status = ReadSome(**reader, scene, (*file)->size() / scene.block_bytes, rng, slots, done);
    cpu_seconds += CpuSeconds() - begin;
    n_bytes += (*reader)->stats().bytes_wanted - before;
    if (!status.ok()) return state.SkipWithError(status.ToString().c_str());
  }
  state.SetBytesProcessed(n_bytes);
  state.counters["cpu_ms_per_GB"] = 1e3 * cpu_seconds / (1e-9 * static_cast<double>(n_bytes));
}

// One block is one transfer, so that the depth is that of the disk.
void Ways(benchmark::State& state) {
  const auto depth = static_cast<int>(state.range(2));
  const auto block_bytes = static_cast<size_t>(state.range(1) * kKiB);
  if (block_bytes * static_cast<size_t>(depth) > kBufferBytes) return state.SkipWithError("too large");
  Run(state, {.access = static_cast<DiskAccess>(state.range(0)),
              .block_bytes = block_bytes,
              .depth = depth,
              .n_pending = static_cast<size_t>(depth),
              .reads = {.split_bytes = 4 * kMiB, .coalesce_bytes = 0}});
}
BENCHMARK(Ways)
    ->ArgNames({"way", "KiB", "depth"})
    ->ArgsProduct({{1, 2, 3}, {4, 16, 64, 256, 1024, 4096}, {1, 4, 16, 64}})
    ->UseRealTime();

// Slots in pages of 4 KiB make many small pieces of memory of each transfer.
void SmallPages(benchmark::State& state) {
  Run(state, {.block_bytes = static_cast<size_t>(state.range(0) * kKiB),
              .n_pending = 16,
              .pages = state.range(1) != 0 ? AlignedBuffer::HugePages::kWanted : AlignedBuffer::HugePages::kNever});
}
BENCHMARK(SmallPages)->ArgNames({"KiB", "huge"})->ArgsProduct({{64, 256, 1024}, {0, 1}})->UseRealTime();

// Few blocks are wanted: parts of each under way at the same time.
void Split(benchmark::State& state) {
  Run(state, {.block_bytes = static_cast<size_t>(state.range(0) * kKiB),
              .n_pending = static_cast<size_t>(state.range(1)),
              .reads = {.split_bytes = static_cast<size_t>(state.range(2) * kKiB), .coalesce_bytes = 0}});
}
BENCHMARK(Split)
    ->ArgNames({"KiB", "blocks", "split_KiB"})
    ->ArgsProduct({{1024, 4096}, {1, 2, 8}, {128, 256, 512, 1024, 4096}})
    ->UseRealTime();

// Runs of 16 small neighbours.
void Coalesce(benchmark::State& state) {
  Run(state, {.block_bytes = static_cast<size_t>(state.range(0) * kKiB),
              .n_pending = 256,
              .n_run = 16,
              .reads = {.coalesce_bytes = static_cast<size_t>(state.range(1) * kKiB)}});
}
BENCHMARK(Coalesce)->ArgNames({"KiB", "coalesce_KiB"})->ArgsProduct({{4, 16, 64}, {0, 64, 256, 1024}})->UseRealTime();

}  // namespace
}  // namespace pantry
