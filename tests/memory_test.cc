// SPDX-License-Identifier: Apache-2.0
// The promise of --memory: a process that streams stays within its budget, under a limit of the system's where one can be set, and answers
// as one that has everything in memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "support/test_paths.h"

namespace {

namespace fs = std::filesystem;
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr double kSlack = 1.03;

struct Outcome {
  int exit_code = 0;
  std::string out;
  int64_t peak_bytes = 0;  // resident
};

std::string ReadAll(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// A control group with a limit that counts the page cache too; none where the system does not let us make one.
class LimitedGroup {
 public:
  explicit LimitedGroup(int64_t limit_bytes) {
    const bool v2 = fs::exists("/sys/fs/cgroup/cgroup.controllers");
    path_ = fs::path(v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory") / ("pantry-test-" + std::to_string(getpid()));
    std::error_code error;
    if (!fs::create_directory(path_, error)) return;
    std::ofstream limit(path_ / (v2 ? "memory.max" : "memory.limit_in_bytes"));
    limit << limit_bytes << std::flush;
    is_there_ = limit.good();
  }
  ~LimitedGroup() {
    for (int i = 0; i < 50; ++i) {
      std::error_code error;
      if (fs::remove(path_, error) || error == std::errc::no_such_file_or_directory) return;
      usleep(20'000);
    }
  }
  bool is_there() const { return is_there_; }
  std::string procs() const { return (path_ / "cgroup.procs").string(); }

 private:
  fs::path path_;
  bool is_there_ = false;
};

Outcome RunPantry(const std::vector<std::string>& args, const LimitedGroup* group) {
  const fs::path out_path = fs::temp_directory_path() / ("pantry-memory-test-" + std::to_string(getpid()));
  std::string command = group != nullptr && group->is_there() ? "echo $$ > " + group->procs() + "; " : "";
  command += "exec \"$0\" \"$@\" > " + out_path.string() + " 2>" + out_path.string() + ".err";
  std::vector<std::string> words = {"sh", "-c", command, std::string(PANTRY_BINARY_DIR) + "/bin/pantry"};
  words.insert(words.end(), args.begin(), args.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  char home[] = "HOME=/nonexistent", path[] = "PATH=/usr/bin:/bin";
  char* envp[] = {home, path, nullptr};
  Outcome outcome;
  pid_t child = 0;
  EXPECT_EQ(posix_spawn(&child, "/bin/sh", nullptr, nullptr, argv.data(), envp), 0);
  int status = 0;
  rusage usage = {};
  EXPECT_EQ(wait4(child, &status, 0, &usage), child);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  outcome.peak_bytes = int64_t{usage.ru_maxrss} * 1024;
  outcome.out = ReadAll(out_path);
  EXPECT_EQ(outcome.exit_code, 0) << ReadAll(out_path.string() + ".err");
  fs::remove(out_path);
  fs::remove(out_path.string() + ".err");
  return outcome;
}

TEST(Memory, AStreamedRunStaysWithinItsBudgetAndSaysTheSame) {
  const std::string model = pantry::testing::SharedData("data/models/tiny-thinker-Q8_0.gguf");
  if (model.empty()) GTEST_SKIP() << "no model with experts to be had";
  const std::vector<std::string> args = {
      "run",    "-m", model, "-p",  "Once upon a time", "-n", "60", "--temp",      "1",
      "--seed", "3",  "-c",  "256", "--no-cnv",         "-t", "2",  "--ignore-eos"};
  const Outcome resident = RunPantry(args, nullptr);
  EXPECT_GT(resident.out.size(), 60u);
  for (const int64_t budget_mib : {53, 57, 61, 65}) {  // the floor is 51, and everything takes 71
    SCOPED_TRACE(budget_mib);
    const LimitedGroup group(static_cast<int64_t>(kSlack * static_cast<double>(budget_mib * kMiB)));
    for (const char* access : {"auto", "pread"}) {
      std::vector<std::string> limited = args;
      limited.insert(limited.end(), {"--memory", std::to_string(budget_mib) + "M", "--io", access});
      const Outcome streamed = RunPantry(limited, &group);
      EXPECT_EQ(streamed.out, resident.out);
      EXPECT_LE(streamed.peak_bytes, static_cast<int64_t>(kSlack * static_cast<double>(budget_mib * kMiB)));
    }
  }
}

}  // namespace
