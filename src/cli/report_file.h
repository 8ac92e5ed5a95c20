// SPDX-License-Identifier: Apache-2.0
// A ReportFile is a file of results: opened before the work, so that a path that cannot be written is told at once, and left as it was until
// there is something to write.
//
// A file that it made itself and wrote nothing to is gone afterwards. Pipes and devices will do.
// Threads: one at a time.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace pantry {

class ReportFile {
 public:
  static Result<ReportFile> Open(const std::string& path);  // kIoError, kNotFound
  ~ReportFile();
  ReportFile(ReportFile&&) = default;
  ReportFile& operator=(ReportFile&&) = default;

  // At the end of what was written; the first time, in place of what the file held before. kIoError
  Status Write(std::string_view text);
  // What was written is with the system. kIoError
  Status Flush();
  // kIoError when anything could not be written.
  Status Close();

 private:
  struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  explicit ReportFile(std::string path) : path_(std::move(path)) {}
  Status Failed(int error) const;

  std::string path_;
  std::unique_ptr<std::FILE, CloseFile> file_;
  bool is_new_ = false;
  bool has_begun_ = false;
};

}  // namespace pantry
