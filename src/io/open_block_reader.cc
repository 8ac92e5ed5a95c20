// SPDX-License-Identifier: Apache-2.0
#include "io/open_block_reader.h"

#include <algorithm>
#include <string>
#include <utility>

namespace pantry {
namespace {

constexpr int kMostDepth = 1024;

struct Way {
  DiskAccess access;
  std::string_view name;
  OpenDiskQueue open;
  bool has_threads;
};
constexpr Way kWays[] = {
    {DiskAccess::kUring, "io_uring", OpenUringQueue, false},
    {DiskAccess::kPread, "pread", OpenPreadQueue, true},
    {DiskAccess::kPageCache, "page-cache", OpenPageCacheQueue, true},
};

Result<std::unique_ptr<DiskQueue>> OpenFirst(std::span<const Reader* const> files,
                                             const OpenBlockReaderOptions& options, Logger& log) {
  const bool all_on_disk =
      std::all_of(files.begin(), files.end(), [](const Reader* file) { return file->file_descriptor() >= 0; });
  if (options.access == DiskAccess::kAuto && !all_on_disk) return OpenReaderQueue(files, options.depth);
  std::string refusals;
  std::string last_reason;
  for (const Way& way : kWays) {
    if (options.access != DiskAccess::kAuto && options.access != way.access) continue;
    Result<std::unique_ptr<DiskQueue>> queue =
        way.open(files, way.has_threads ? std::min(options.depth, options.most_threads) : options.depth);
    if (options.access != DiskAccess::kAuto && !queue.ok()) return queue.status().WithContext(way.name);
    if (queue.ok()) {
      if (!refusals.empty()) log.Warning("{}; reading with {} instead", refusals, way.name);
      return queue;
    }
    // A file system that does not do it does not do it for pread either: that is said once.
    const std::string reason(queue.status().message());
    if (!refusals.empty() && reason != last_reason) refusals += "; ";
    if (reason != last_reason) refusals += fmt::format("{}: {}", way.name, reason);
    last_reason = reason;
  }
  return IoError("no way to read the model's files: {}", refusals);
}

}  // namespace

std::string_view DiskAccessName(DiskAccess access) {
  for (const Way& way : kWays) {
    if (way.access == access) return way.name;
  }
  return "auto";
}

Result<DiskAccess> ParseDiskAccess(std::string_view text) {
  for (const Way& way : kWays) {
    if (way.name == text) return way.access;
  }
  if (text == "auto") return DiskAccess::kAuto;
  return InvalidArgumentError("'{}' is no way to read a disk; there are auto, io_uring, pread, page-cache", text);
}

Status OpenBlockReaderOptions::Validate() const {
  if (depth < 1 || depth > kMostDepth) {
    return InvalidArgumentError("the depth of reading is {}, but must lie between 1 and {}", depth, kMostDepth);
  }
  if (most_threads < 1) return InvalidArgumentError("most_threads is {}, but must be 1 or more", most_threads);
  return reads.Validate();
}

Result<std::unique_ptr<BlockReader>> OpenBlockReader(std::span<const Reader* const> files,
                                                     const OpenBlockReaderOptions& options, const Clock& clock,
                                                     Logger& log) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  PANTRY_ASSIGN_OR_RETURN(std::unique_ptr<DiskQueue> queue, OpenFirst(files, options, log));
  return std::make_unique<BlockReader>(files, std::move(queue), options.reads, clock);
}

}  // namespace pantry
