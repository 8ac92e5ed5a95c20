// SPDX-License-Identifier: Apache-2.0
#include "io/disk_probe.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <mutex>
#include <system_error>
#include <thread>

#include "base/rng.h"
#include "sys/aligned_buffer.h"
#include "sys/memory_info.h"
#include "sys/posix_error.h"

namespace pantry {
namespace {

using Time = std::chrono::steady_clock::time_point;

constexpr int64_t kLeastBlock = 4 * kKiB;   // what O_DIRECT asks of offsets and lengths, everywhere
constexpr int64_t kSequentialBlock = kMiB;  // as a loader reads: large pieces, some under way
constexpr int32_t kSequentialDepth = 8;
constexpr int64_t kMostBuffer = 256 * kMiB;

Time Now() { return std::chrono::steady_clock::now(); }
double Seconds(Time begin, Time end) { return std::chrono::duration<double>(end - begin).count(); }

// An open file that remembers whether it is read past the page cache.
class ProbedFile {
 public:
  ProbedFile() = default;
  ~ProbedFile() {
    if (fd_ >= 0) close(fd_);
  }
  ProbedFile(const ProbedFile&) = delete;
  ProbedFile& operator=(const ProbedFile&) = delete;

  // `block`: kLeastBlock bytes to try a read into. Some systems refuse O_DIRECT when opening, some only when reading.
  Status Open(const std::string& path, bool direct, uint8_t* block) {
    path_ = path;
#if defined(O_DIRECT)
    if (direct) {
      fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
      if (fd_ >= 0 && pread(fd_, block, static_cast<size_t>(kLeastBlock), 0) >= 0) direct_ = true;
      if (fd_ >= 0 && !direct_) close(fd_);
    }
#else
    (void)direct;
    (void)block;
#endif
    if (!direct_) fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ < 0) return PosixError(fmt::format("cannot read '{}'", path), errno);
    n_bytes_ = lseek(fd_, 0, SEEK_END);
    return n_bytes_ >= 0 ? OkStatus() : PosixError(fmt::format("cannot read '{}'", path), errno);
  }

  // All of [offset, offset + n_bytes), and none of it stays in the page cache.
  Status Read(int64_t offset, uint8_t* to, int64_t n_bytes) const {
    for (int64_t done = 0; done < n_bytes;) {
      const ssize_t n = pread(fd_, to + done, static_cast<size_t>(n_bytes - done), offset + done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return PosixError(fmt::format("cannot read '{}' at offset {}", path_, offset + done), errno);
      if (n == 0) return IoError("cannot read '{}' at offset {}: the file has become shorter", path_, offset + done);
      done += n;
    }
    if (!direct_) Forget(offset, n_bytes);
    return OkStatus();
  }

  // Pages leave the page cache; n_bytes 0: all.
  void Forget(int64_t offset, int64_t n_bytes) const {
#if defined(POSIX_FADV_DONTNEED)
    (void)posix_fadvise(fd_, offset, n_bytes, POSIX_FADV_DONTNEED);
#endif
  }

  bool direct() const { return direct_; }
  int64_t n_bytes() const { return n_bytes_; }

 private:
  std::string path_;
  int fd_ = -1;
  bool direct_ = false;
  int64_t n_bytes_ = 0;
};

// Some threads that read blocks until time or blocks are over.
class Readers {
 public:
  Readers(const ProbedFile& file, AlignedBuffer& buffer, int64_t block_bytes, int32_t depth, double seconds)
      : file_(file), buffer_(buffer), block_bytes_(block_bytes), depth_(depth), seconds_(seconds) {}

  // `next(thread)` is the number of the block to read; -1: no more. Called by all threads at once.
  template <typename Next>
  Result<DiskRate> Run(Next next) {
    const Time begin = Now();
    std::vector<std::thread> threads;
    try {
      for (int32_t thread = 1; thread < depth_; ++thread)
        threads.emplace_back([&, thread] { Loop(begin, thread, next); });
    } catch (const std::system_error&) {  // a limit on threads: a smaller depth
    }
    Loop(begin, 0, next);
    for (std::thread& thread : threads) thread.join();
    const double seconds = Seconds(begin, Now());
    if (!status_.ok()) return status_;
    if (n_reads_ == 0) return InternalError("no block of {} bytes to read", block_bytes_);
    const double n_reads = static_cast<double>(n_reads_);
    return DiskRate{block_bytes_, static_cast<int32_t>(threads.size()) + 1,
                    n_reads * static_cast<double>(block_bytes_) / seconds, waited_seconds_ / n_reads * 1e6};
  }

 private:
  template <typename Next>
  void Loop(Time begin, int32_t thread, Next& next) {
    uint8_t* to = buffer_.data() + thread * block_bytes_;
    int64_t n_reads = 0;
    double waited_seconds = 0;
    Status status;
    // One read at least: on a busy machine a thread may first run when the time is over.
    for (Time start = Now(); status.ok() && !failed_.load() && (n_reads == 0 || Seconds(begin, start) < seconds_);
         start = Now()) {
      const int64_t block = next(thread);
      if (block < 0) break;
      status = file_.Read(block * block_bytes_, to, block_bytes_);
      waited_seconds += Seconds(start, Now());
      ++n_reads;
    }
    const std::lock_guard lock(mutex_);
    n_reads_ += n_reads;
    waited_seconds_ += waited_seconds;
    if (status.ok() || !status_.ok()) return;
    status_ = std::move(status);
    failed_.store(true);
  }

  const ProbedFile& file_;
  AlignedBuffer& buffer_;
  const int64_t block_bytes_;
  const int32_t depth_;
  const double seconds_;
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  Status status_;
  int64_t n_reads_ = 0;
  double waited_seconds_ = 0;  // of all reads
};

Result<DiskRate> ReadAtRandom(const ProbedFile& file, AlignedBuffer& buffer, int64_t block_bytes, int32_t depth,
                              double seconds, uint64_t seed) {
  std::vector<Rng> rngs;
  for (int32_t thread = 0; thread < depth; ++thread) rngs.emplace_back(seed + static_cast<uint64_t>(thread));
  const uint64_t n_blocks = static_cast<uint64_t>(file.n_bytes() / block_bytes);
  file.Forget(0, 0);
  Readers readers(file, buffer, block_bytes, depth, seconds);
  return readers.Run(
      [&](int32_t thread) { return static_cast<int64_t>(rngs[static_cast<size_t>(thread)].NextU64() % n_blocks); });
}

// The best pass from front to back; a pass ends with the file or with the time.
Result<double> ReadInOrder(const ProbedFile& file, AlignedBuffer& buffer, double seconds) {
  const int64_t buffer_bytes = static_cast<int64_t>(buffer.size());
  const int64_t most_bytes = std::min(file.n_bytes(), buffer_bytes) / kLeastBlock * kLeastBlock;
  const int64_t block_bytes = std::min(kSequentialBlock, most_bytes);
  const int64_t most_blocks = buffer_bytes / block_bytes;
  const int32_t depth = static_cast<int32_t>(std::min<int64_t>(kSequentialDepth, most_blocks));
  const int64_t n_blocks = file.n_bytes() / block_bytes;
  const Time begin = Now();
  double best = 0;
  do {
    std::atomic<int64_t> next_block{0};
    file.Forget(0, 0);
    Readers readers(file, buffer, block_bytes, depth, seconds);
    PANTRY_ASSIGN_OR_RETURN(const DiskRate rate, readers.Run([&](int32_t) {
      const int64_t block = next_block.fetch_add(1, std::memory_order_relaxed);
      return block < n_blocks ? block : -1;
    }));
    best = std::max(best, rate.bytes_per_s);
  } while (Seconds(begin, Now()) < seconds / 2);
  return best;
}

// Room for the largest cell that is wanted and affordable; at least the smallest.
int64_t BufferBytes(const DiskProbeOptions& options) {
  int64_t limit = options.max_buffer_bytes;
  if (limit <= 0) {
    const int64_t available = AvailableMemoryBytes();
    limit = available < 0 ? kMostBuffer : std::min(kMostBuffer, available / 8);
  }
  int64_t n_bytes = kLeastBlock;
  for (const int64_t block : options.block_bytes) {
    for (const int32_t depth : options.queue_depths) {
      if (block * depth <= limit) n_bytes = std::max(n_bytes, block * depth);
    }
  }
  return std::max(n_bytes, std::min(limit, kSequentialBlock * kSequentialDepth));
}

std::string CellName(int64_t block_bytes, int32_t depth) {
  const bool mib = block_bytes >= kMiB;
  return fmt::format("disk, {} {} x {}", block_bytes / (mib ? kMiB : kKiB), mib ? "MiB" : "KiB", depth);
}

}  // namespace

Result<DiskProfile> ProbeDisk(const std::string& path, const DiskProbeOptions& options,
                              const DiskProbeProgress& progress) {
  const Time begin = Now();
  PANTRY_ASSIGN_OR_RETURN(AlignedBuffer buffer, AlignedBuffer::Allocate(static_cast<size_t>(BufferBytes(options))));
  ProbedFile file;
  PANTRY_RETURN_IF_ERROR(file.Open(path, options.direct, buffer.data()));
  if (file.n_bytes() < kLeastBlock) {
    return InvalidArgumentError("cannot measure a disk with '{}': {} bytes are too few. Take a file of 1 GB or more",
                                path, file.n_bytes());
  }
  const MountedOn mount = FindMount(path);
  DiskProfile profile;
  profile.path = path;
  profile.file_bytes = file.n_bytes();
  profile.filesystem = mount.filesystem;
  profile.device = mount.device;
  profile.direct = file.direct();

  if (progress && !progress("disk, from front to back")) return CancelledError("interrupted");
  PANTRY_ASSIGN_OR_RETURN(profile.sequential_bytes_per_s, ReadInOrder(file, buffer, options.sequential_seconds));
  uint64_t seed = options.seed << 32;
  for (const int64_t block_bytes : options.block_bytes) {
    for (const int32_t depth : options.queue_depths) {
      const int64_t n_bytes = block_bytes * depth;
      const bool fits = n_bytes <= static_cast<int64_t>(buffer.size()) && block_bytes <= file.n_bytes();
      const bool ends = static_cast<double>(n_bytes) / profile.sequential_bytes_per_s < 3 * options.cell_seconds;
      if (!fits || !ends || Seconds(begin, Now()) > options.max_seconds) continue;
      if (progress && !progress(CellName(block_bytes, depth))) return CancelledError("interrupted");
      PANTRY_ASSIGN_OR_RETURN(const DiskRate rate,
                              ReadAtRandom(file, buffer, block_bytes, depth, options.cell_seconds, seed));
      seed += static_cast<uint64_t>(depth);
      if (rate.queue_depth == depth) profile.random.push_back(rate);
    }
  }
  return profile;
}

}  // namespace pantry
