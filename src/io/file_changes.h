// SPDX-License-Identifier: Apache-2.0
// A FileChanges notices when files that are open were written to or cut by somebody else.
//
// Who reads a file bit by bit over hours must know that it is still the one whose table of contents was read. The open file is asked, not
// the path: a new file that takes the name leaves ours as it was. Renaming, unlinking and chmod are no change of content, so the time of the
// last change of the inode (ctime) does not count. What it does not see: a write within the same tick of the file system's clock (some
// milliseconds) as the opening, one that sets the time back, and one through a mapping until the system writes it back.
// Threads: any, once made. Cost: about 0.6 us a file.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "io/reader.h"

namespace pantry {

class FileChanges {
 public:
  // Remembers the files as they are now; readers without a file behind them never change. They must outlive this.
  explicit FileChanges(std::span<const Reader* const> files);
  // kCorruption names the first file that has changed, again at each call. A check after reading tells that nothing was read of a change:
  // the system sets the time before it writes the bytes.
  Status Check() const;

 private:
  struct Mark {
    const Reader* file;
    uint64_t device;
    uint64_t inode;
    int64_t size;
    int64_t written_s;  // mtime
    int64_t written_ns;
  };
  std::vector<Mark> marks_;
};

}  // namespace pantry
