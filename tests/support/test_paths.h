// SPDX-License-Identifier: Apache-2.0
// Where tests find their data: our own fixtures, third-party data that may be absent, and the demo model that may be downloaded.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace pantry::testing {

// A fixture of ours: testdata/<name>. Always there.
inline std::string TestData(const std::string& name) { return std::string(PANTRY_SOURCE_DIR) + "/testdata/" + name; }

// Third-party data: $PANTRY_SHARED_DIR/<name>, or ../shared/<name> beside the checkout. "" where absent: GTEST_SKIP() then.
inline std::string SharedData(const std::string& name) {
  const char* dir = std::getenv("PANTRY_SHARED_DIR");
  const std::string path = (dir ? std::string(dir) : std::string(PANTRY_SOURCE_DIR) + "/../shared") + "/" + name;
  return std::filesystem::exists(path) ? path : "";
}

// The demo model (SmolLM2-135M-Instruct Q4_1) as `./dev demo` keeps it. "" where it was not downloaded: GTEST_SKIP() then.
inline std::string DemoModel() {
  std::string dir;
  if (const char* models = std::getenv("PANTRY_MODELS")) dir = models;
  else if (const char* data = std::getenv("XDG_DATA_HOME")) dir = std::string(data) + "/pantry/models";
  else if (const char* home = std::getenv("HOME")) dir = std::string(home) + "/.local/share/pantry/models";
  const std::string path = dir + "/SmolLM2-135M-Instruct.Q4_1.gguf";
  return std::filesystem::exists(path) ? path : "";
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace pantry::testing
