// SPDX-License-Identifier: Apache-2.0
#include "weights/pack/pack_writer.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

#include "base/units.h"
#include "io/file_changes.h"
#include "io/read_extents.h"
#include "sys/aligned_buffer.h"
#include "weights/gguf/gguf_cursor.h"
#include "weights/pack/pack_check.h"
#include "weights/pack/pack_head.h"

namespace pantry {
namespace {

// Of tensors that are copied; as blocks' pieces, a multiple of the alignment.
constexpr uint64_t kCopyBytes = 1 << 20;
constexpr size_t kShownChars = 100;

std::string Bytes(uint64_t n_bytes) { return FormatBytes(static_cast<int64_t>(n_bytes)); }

// A run of the file that is put together in memory and written at once.
struct Window {
  static constexpr uint32_t kCopy = UINT32_MAX;
  struct Target {
    uint32_t block;  // kCopy: the bytes are copied
    int piece;
    uint64_t to;  // in the window: where the bytes go, or where their block begins
  };
  uint64_t offset = 0;
  uint64_t n_bytes = 0;
  uint32_t first_block = 0;  // of n_blocks, where it holds any
  uint32_t n_blocks = 0;
  std::vector<Extent> extents;
  std::vector<Target> targets;  // of each extent
};

// Runs one task at a time beside its owner.
class Background {
 public:
  ~Background() { (void)Wait(); }
  template <typename Task>
  void Start(Task task) {
    try {
      thread_ = std::thread([this, task] { status_ = task(); });
    } catch (const std::system_error&) {  // a limit on threads
      status_ = task();
    }
  }
  Status Wait() {
    if (thread_.joinable()) thread_.join();
    return std::exchange(status_, OkStatus());
  }

 private:
  std::thread thread_;
  Status status_;
};

class PackJob {
 public:
  PackJob(const GgufFile& source, const PackPlan& plan, OutputFile& out, const PackOptions& options, Logger& log,
          const PackProgress& progress)
      : source_(source), plan_(plan), out_(out), options_(options), log_(log), progress_(progress) {}

  Result<PackReport> Run() {
    PANTRY_RETURN_IF_ERROR(CheckPackPath(source_, out_.path()));
    const FileChanges changes(source_.Readers());
    PANTRY_ASSIGN_OR_RETURN(head_, MakePackHead(source_, plan_));
    const PackGroup& last = head_.groups.back();
    kept_.assign(last.first_block + last.n_blocks, 0);
    PANTRY_ASSIGN_OR_RETURN(checksums_, AlignedBuffer::Allocate(PackAlign(head_.n_pieces * sizeof(uint64_t))));
    PANTRY_ASSIGN_OR_RETURN(const bool resumed, Resume());
    PANTRY_RETURN_IF_ERROR(out_.Reserve(head_.file_bytes));
    if (!resumed) PANTRY_RETURN_IF_ERROR(WriteHead());
    const Status written = WriteWindows();
    if (!written.ok()) return Unfinished(written);
    PANTRY_RETURN_IF_ERROR(out_.Sync());
    if (options_.verify) PANTRY_RETURN_IF_ERROR(Verify());
    // What a reader of the file would say of it.
    Result<std::unique_ptr<GgufFile>> opened = GgufFile::Open(out_.part_path());
    if (!opened.ok()) return InternalError("what was packed does not open: {}", opened.status().message());
    PANTRY_RETURN_IF_ERROR(changes.Check());
    PANTRY_RETURN_IF_ERROR(out_.Publish());
    return PackReport{head_.file_bytes, kept_bytes_, static_cast<uint32_t>(kept_.size())};
  }

 private:
  uint64_t* checksums() { return checksums_.As<uint64_t>().data(); }
  bool Report(PackStep step, uint64_t n_done, uint64_t n_total) const {
    return !progress_ || progress_(step, n_done, n_total);
  }

  // ---- what an earlier run left ----

  // Whether OUT.part is this very pack; kept_ has the blocks that are there then. Else it is empty afterwards.
  Result<bool> Resume() {
    if (out_.size() == 0) return false;
    PANTRY_RETURN_IF_ERROR(out_.Sync());  // the checks are of the disk, not of what waits to be written
    PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Reader> part, OpenFileReader(out_.part_path()));
    std::vector<uint8_t> head(head_.bytes.size());
    if (part->size() != head_.file_bytes || !part->ReadAt(0, head).ok() || head != head_.bytes) {
      log_.Info("{} is of another model or another layout: starting from the beginning", out_.part_path());
      PANTRY_RETURN_IF_ERROR(out_.Clear());
      return false;
    }
    PANTRY_RETURN_IF_ERROR(
        part->ReadAt(head_.checksums_offset, {checksums_.data(), head_.n_pieces * sizeof(uint64_t)}));
    std::vector<CheckedPiece> pieces;
    std::vector<uint32_t> blocks;  // of each piece
    uint64_t n_total = 0;
    ForEachBlock([&](const PackGroup& group, uint32_t block) {
      const uint64_t* const first = checksums() + FirstPiece(group, block);
      // An XXH3 of 0 is as unlikely as any other number: a block of which one is 0 was not written, or is written once more.
      if (std::count(first, first + PiecesOf(group), 0) > 0) return;
      AddPieces(group, block, pieces);
      blocks.resize(pieces.size(), block);
      n_total += group.block_bytes;
    });
    Result<std::vector<uint8_t>> intact = CheckPieces(
        *part, pieces, options_.n_lanes, [&](uint64_t n) { return Report(PackStep::kChecking, n, n_total); });
    if (intact.status().code() == StatusCode::kIoError) {  // writing it anew may give it better sectors
      log_.Warning("{}; starting from the beginning", intact.status().message());
      PANTRY_RETURN_IF_ERROR(out_.Clear());
      return false;
    }
    if (!intact.ok()) return Unfinished(intact.status());
    for (const uint32_t block : blocks) kept_[block] = 1;
    for (size_t i = 0; i < pieces.size(); ++i) kept_[blocks[i]] &= (*intact)[i];
    ForEachBlock(
        [&](const PackGroup& group, uint32_t block) { kept_bytes_ += kept_[block] != 0 ? group.stride() : 0; });
    log_.Info("going on with {}: {} of {} are there", out_.part_path(), Bytes(kept_bytes_), Bytes(head_.file_bytes));
    return true;
  }

  // ---- geometry ----

  template <typename Visit>
  void ForEachBlock(Visit&& visit) const {
    for (const PackGroup& group : head_.groups) {
      for (uint32_t i = 0; i < group.n_blocks; ++i) visit(group, group.first_block + i);
    }
  }
  static uint64_t PiecesOf(const PackGroup& group) {
    return (group.block_bytes + kPackPieceBytes - 1) / kPackPieceBytes;
  }
  static uint64_t FirstPiece(const PackGroup& group, uint32_t block) {
    return group.first_piece + (block - group.first_block) * PiecesOf(group);
  }
  static uint64_t OffsetOf(const PackGroup& group, uint32_t block) {
    return group.offset + (block - group.first_block) * group.stride();
  }
  static uint64_t PieceBytes(const PackGroup& group, uint64_t piece) {
    return std::min<uint64_t>(kPackPieceBytes, group.block_bytes - piece * kPackPieceBytes);
  }
  void AddPieces(const PackGroup& group, uint32_t block, std::vector<CheckedPiece>& pieces) {
    for (uint64_t i = 0; i < PiecesOf(group); ++i) {
      pieces.push_back({OffsetOf(group, block) + i * kPackPieceBytes, PieceBytes(group, i),
                        checksums()[FirstPiece(group, block) + i]});
    }
  }

  // ---- writing ----

  Status WriteHead() {
    PANTRY_ASSIGN_OR_RETURN(AlignedBuffer bytes, AlignedBuffer::Allocate(head_.bytes.size()));
    std::memcpy(bytes.data(), head_.bytes.data(), head_.bytes.size());
    const Status status = out_.WriteAt(0, {bytes.data(), bytes.size()});
    return status.ok() ? status : Unfinished(status);
  }

  // Tensors as they are, then the blocks that are not there yet.
  std::vector<Window> MakeWindows() const {
    std::vector<Window> windows;
    const auto room_for = [&](uint64_t offset, uint64_t n_bytes) -> Window& {
      if (windows.empty() || windows.back().offset + windows.back().n_bytes != offset ||
          windows.back().n_bytes + n_bytes > options_.window_bytes) {  // between tensors and blocks lie the checksums
        windows.emplace_back().offset = offset;
      }
      windows.back().n_bytes += n_bytes;
      return windows.back();
    };
    for (const PackHead::PlainTensor& tensor : head_.plain_tensors) {
      const Reader* const reader = source_.shards()[static_cast<size_t>(tensor.source->shard)].get();
      for (uint64_t done = 0; done < tensor.source->n_bytes; done += kCopyBytes) {
        const uint64_t n = std::min(kCopyBytes, tensor.source->n_bytes - done);
        Window& window = room_for(tensor.offset + done, PackAlign(n));
        window.extents.push_back({reader, tensor.source->offset + done, n});
        window.targets.push_back({Window::kCopy, 0, tensor.offset + done - window.offset});
      }
    }
    ForEachBlock([&](const PackGroup& group, uint32_t block) {
      if (kept_[block] != 0) return;
      Window& window = room_for(OffsetOf(group, block), group.stride());
      if (window.n_blocks++ == 0) window.first_block = block;
      for (int piece = 0; piece < plan_.placer->n_pieces(BlockId(block)); ++piece) {
        const BlockPiece from = plan_.placer->Piece(BlockId(block), piece);
        window.extents.push_back({source_.shards()[static_cast<size_t>(from.file)].get(), from.offset, from.n_bytes});
        window.targets.push_back({block, piece, OffsetOf(group, block) - window.offset});
      }
    });
    return windows;
  }

  Status WriteWindows() {
    std::vector<Window> windows = MakeWindows();
    uint64_t most_bytes = 0;
    for (const Window& window : windows) {
      n_to_write_ += window.n_bytes;
      most_bytes = std::max(most_bytes, window.n_bytes);
    }
    AlignedBuffer buffers[2];
    for (AlignedBuffer& buffer : buffers) {
      PANTRY_ASSIGN_OR_RETURN(buffer, AlignedBuffer::Allocate(most_bytes));
    }
    Background writer;
    for (size_t i = 0; i < windows.size(); ++i) {
      uint8_t* const memory = buffers[i % 2].data();
      Status status = Fill(windows[i], memory);
      const Status before = writer.Wait();
      PANTRY_RETURN_IF_ERROR(before);
      if (i > 0) Count(windows[i - 1]);
      PANTRY_RETURN_IF_ERROR(status);
      writer.Start([this, &window = windows[i], memory] { return Write(window, memory); });
    }
    PANTRY_RETURN_IF_ERROR(writer.Wait());
    if (!windows.empty()) Count(windows.back());
    return OkStatus();
  }

  void Count(const Window& written) {
    n_written_ += written.n_bytes;
    if (written.n_blocks > 0) n_block_bytes_written_ += written.n_bytes;
  }

  Status Fill(const Window& window, uint8_t* memory) {
    std::memset(memory, 0, window.n_bytes);  // what no piece covers
    const auto place = [&](size_t i, const uint8_t* bytes) {
      const Window::Target& target = window.targets[i];
      if (target.block != Window::kCopy)
        return plan_.placer->Place(BlockId(target.block), target.piece, bytes, memory + target.to);
      std::memcpy(memory + target.to, bytes, window.extents[i].n_bytes);
      return OkStatus();
    };
    const uint64_t n_before = n_filled_;
    n_filled_ += window.n_bytes;
    const auto progress = [&](uint64_t n) {
      return Report(PackStep::kPacking, n_before + std::min(n, window.n_bytes), n_to_write_);
    };
    size_t failed = 0;
    PANTRY_RETURN_IF_ERROR(ReadExtents(
        window.extents, {.n_lanes = options_.n_lanes, .page_cache = PageCacheUse::kNever}, place, progress, &failed));
    for (size_t i = 0; i < window.targets.size(); ++i) {
      const Window::Target& target = window.targets[i];
      if (target.block == Window::kCopy || (i > 0 && window.targets[i - 1].block == target.block)) continue;
      plan_.placer->Seal(BlockId(target.block), memory + target.to);
    }
    return OkStatus();
  }

  // In the background.
  Status Write(const Window& window, const uint8_t* memory) {
    if (window.n_blocks == 0) {
      AddChecks(window.offset, {memory, window.n_bytes}, plain_checks_);
      return out_.WriteAt(window.offset, {memory, window.n_bytes});
    }
    uint64_t begin = UINT64_MAX, end = 0;  // pieces
    ForEachBlock([&](const PackGroup& group, uint32_t block) {
      if (block < window.first_block || block >= window.first_block + window.n_blocks) return;
      const uint64_t first = FirstPiece(group, block);
      const uint8_t* const bytes = memory + (OffsetOf(group, block) - window.offset);
      for (uint64_t i = 0; i < PiecesOf(group); ++i) {
        checksums()[first + i] = PackChecksum({bytes + i * kPackPieceBytes, PieceBytes(group, i)});
      }
      begin = std::min(begin, first);
      end = first + PiecesOf(group);
    });
    PANTRY_RETURN_IF_ERROR(out_.WriteAt(window.offset, {memory, window.n_bytes}));
    begin = begin * sizeof(uint64_t) / kPackAlignment * kPackAlignment;
    end = PackAlign(end * sizeof(uint64_t));
    return out_.WriteAt(head_.checksums_offset + begin, {checksums_.data() + begin, end - begin});
  }

  static void AddChecks(uint64_t offset, std::span<const uint8_t> bytes, std::vector<CheckedPiece>& checks) {
    for (; !bytes.empty(); bytes = bytes.subspan(checks.back().n_bytes)) {
      const auto piece = bytes.first(std::min<size_t>(bytes.size(), kPackPieceBytes));
      checks.push_back({offset, piece.size(), PackChecksum(piece)});
      offset += piece.size();
    }
  }

  // Says what is there, what is missing, and what to do about it.
  Status Unfinished(const Status& status) const {
    const uint64_t n_there = kept_bytes_ + n_block_bytes_written_;  // what the next run will keep
    if (status.code() == StatusCode::kCancelled) {
      return CancelledError("interrupted: {} holds {} of {}; the same command goes on from there", out_.part_path(),
                            Bytes(n_there), Bytes(head_.file_bytes));
    }
    const int64_t n_free = out_.FreeBytes();
    const uint64_t missing = n_to_write_ - n_written_;
    std::string advice;
    if (n_free >= 0 && static_cast<uint64_t>(n_free) < missing) {
      advice = fmt::format("; {} are still to be written, {} are free there: make room", Bytes(missing),
                           FormatBytes(n_free));
    }
    return Status(status.code(), fmt::format("{}{}; {} of {} are written, and the same command goes on from there",
                                             status.message(), advice, Bytes(n_there), Bytes(head_.file_bytes)));
  }

  // ---- verifying ----

  // Everything but the blocks that Resume() has read already.
  Status Verify() {
    std::vector<CheckedPiece> pieces;
    AddChecks(0, head_.bytes, pieces);
    pieces.insert(pieces.end(), plain_checks_.begin(), plain_checks_.end());
    AddChecks(head_.checksums_offset, {checksums_.data(), checksums_.size()}, pieces);
    ForEachBlock([&](const PackGroup& group, uint32_t block) {
      if (kept_[block] == 0) AddPieces(group, block, pieces);
    });
    uint64_t n_total = 0;
    for (const CheckedPiece& piece : pieces) n_total += piece.n_bytes;
    PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Reader> part, OpenFileReader(out_.part_path()));
    const Result<std::vector<uint8_t>> intact = CheckPieces(
        *part, pieces, options_.n_lanes, [&](uint64_t n) { return Report(PackStep::kVerifying, n, n_total); });
    if (!intact.ok()) return Unfinished(intact.status());
    const auto bad = std::find(intact->begin(), intact->end(), 0);
    if (bad == intact->end()) return OkStatus();
    const CheckedPiece& piece = pieces[static_cast<size_t>(bad - intact->begin())];
    return IoError(
        "{}: {}: the {} bytes at offset {} are not what was written: the disk, or memory, is failing. The same command "
        "writes them again",
        out_.part_path(), NameAt(piece.offset), piece.n_bytes, piece.offset);
  }

  std::string NameAt(uint64_t offset) const {
    if (offset < head_.bytes.size()) return "the head";
    if (offset >= head_.blocks_offset) {
      for (const PackGroup& group : head_.groups) {
        const uint64_t index = (offset - group.offset) / group.stride();
        if (index < group.n_blocks) return PackBlockName(group, static_cast<uint32_t>(index));
      }
    }
    if (offset >= head_.checksums_offset) return "the checksums";
    const TensorInfo* tensor = nullptr;
    for (const PackHead::PlainTensor& plain : head_.plain_tensors) {
      if (plain.offset <= offset) tensor = plain.source;
    }
    return tensor == nullptr ? "the head" : Printable(tensor->name, kShownChars);
  }

  const GgufFile& source_;
  const PackPlan& plan_;
  OutputFile& out_;
  const PackOptions& options_;
  Logger& log_;
  const PackProgress& progress_;
  PackHead head_;
  AlignedBuffer checksums_;    // of all pieces, as they will lie in the file
  std::vector<uint8_t> kept_;  // by block
  std::vector<CheckedPiece> plain_checks_;
  uint64_t kept_bytes_ = 0;
  uint64_t n_to_write_ = 0;
  uint64_t n_filled_ = 0;
  uint64_t n_written_ = 0;
  uint64_t n_block_bytes_written_ = 0;
};

}  // namespace

Status CheckPackPath(const GgufFile& source, const std::string& out_path) {
  for (const std::unique_ptr<Reader>& shard : source.shards()) {
    for (const std::string& path : {out_path, out_path + ".part"}) {
      std::error_code error;
      if (!std::filesystem::equivalent(shard->path(), path, error) || error) continue;
      return InvalidArgumentError("'{}' is the model itself; name another file to write", path);
    }
  }
  return OkStatus();
}

Result<PackReport> WritePack(const GgufFile& source, const PackPlan& plan, OutputFile& out, const PackOptions& options,
                             Logger& log, const PackProgress& progress) {
  return PackJob(source, plan, out, options, log, progress).Run();
}

}  // namespace pantry
