// SPDX-License-Identifier: Apache-2.0
// A control group with a memory limit that counts the page cache too; none where the system does not let us make one.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace pantry::testing {

class LimitedGroup {
 public:
  explicit LimitedGroup(int64_t limit_bytes) {
    const bool is_v2 = std::filesystem::exists("/sys/fs/cgroup/cgroup.controllers");
    path_ = std::filesystem::path(is_v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory") /
            ("pantry-test-" + std::to_string(getpid()));
    limit_ = path_ / (is_v2 ? "memory.max" : "memory.limit_in_bytes");
    used_ = path_ / (is_v2 ? "memory.current" : "memory.usage_in_bytes");
    std::error_code error;
    if (std::filesystem::create_directory(path_, error)) is_there_ = SetLimit(limit_bytes);
  }
  ~LimitedGroup() {
    for (int i = 0; i < 50; ++i) {  // its last process may be on its way out
      std::error_code error;
      if (std::filesystem::remove(path_, error) || error == std::errc::no_such_file_or_directory) return;
      usleep(20'000);
    }
  }
  LimitedGroup(const LimitedGroup&) = delete;
  LimitedGroup& operator=(const LimitedGroup&) = delete;

  bool is_there() const { return is_there_; }
  std::string procs() const { return is_there_ ? (path_ / "cgroup.procs").string() : ""; }
  // Page cache and page tables too; -1: unknown.
  int64_t UsedBytes() const {
    int64_t n_bytes = -1;
    std::ifstream(used_) >> n_bytes;
    return n_bytes;
  }
  // false: refused, as version 1 does where more than that is in use and cannot be taken back.
  bool SetLimit(int64_t limit_bytes) {
    std::ofstream limit(limit_);
    limit << limit_bytes << std::flush;
    return limit.good();
  }

 private:
  std::filesystem::path path_;
  std::filesystem::path limit_;
  std::filesystem::path used_;
  bool is_there_ = false;
};

}  // namespace pantry::testing
