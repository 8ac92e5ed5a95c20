// SPDX-License-Identifier: Apache-2.0
// A FakeSystem is a directory that looks like / to code that reads /proc and /sys. For tests; gone when it dies.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace pantry::testing {

class FakeSystem {
 public:
  FakeSystem() {
    std::string pattern = (std::filesystem::temp_directory_path() / "pantry-fake-system-XXXXXX").string();
    const char* made = mkdtemp(pattern.data());
    root_ = made ? made : "";
  }
  ~FakeSystem() {
    std::error_code ignored;
    if (!root_.empty()) std::filesystem::remove_all(root_, ignored);
  }
  FakeSystem(const FakeSystem&) = delete;
  FakeSystem& operator=(const FakeSystem&) = delete;

  const std::string& root() const { return root_; }
  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }

 private:
  std::string root_;
};

}  // namespace pantry::testing
