// SPDX-License-Identifier: Apache-2.0
// The promise of --memory: a process that streams stays within its budget, under a limit of the system's where one can be set, and answers
// as one that has everything in memory.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "support/limited_group.h"
#include "support/run_program.h"
#include "support/temporary_files.h"
#include "support/test_paths.h"

namespace pantry {
namespace {

using testing::Args;
using testing::Execute;
using testing::LimitedGroup;
using testing::Outcome;
using testing::Surroundings;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr double kSlack = 1.03;

Args RunArgs(const std::string& model, int n_tokens) {
  Args args = testing::RunArgs(model, n_tokens);
  args.insert(args.end(), {"-c", "256"});
  return args;
}

// Each of `files` holds the same model.
void ExpectStaysWithin(std::initializer_list<int64_t> budgets_mib, int n_tokens,
                       const std::vector<std::string>& files) {
  const Outcome resident = Execute(RunArgs(files.front(), n_tokens));
  EXPECT_EQ(resident.exit_code, 0) << resident.err;
  EXPECT_GT(resident.out.size(), static_cast<size_t>(n_tokens));
  for (const int64_t budget_mib : budgets_mib) {
    const auto limit = static_cast<int64_t>(kSlack * static_cast<double>(budget_mib * kMiB));
    const LimitedGroup group(limit);
    Surroundings setup;
    setup.group_procs = group.procs();
    for (const std::string& file : files) {
      for (const char* access : {"auto", "pread"}) {
        SCOPED_TRACE(fmt::format("{} of {} MiB, {}", file, budget_mib, access));
        Args limited = RunArgs(file, n_tokens);
        limited.insert(limited.end(), {"--memory", std::to_string(budget_mib) + "M", "--io", access, "--stream", "on"});
        const Outcome streamed = Execute(limited, setup);
        EXPECT_EQ(streamed.exit_code, 0) << streamed.err;
        EXPECT_THAT(streamed.err, ::testing::HasSubstr("mode: streaming"));
        EXPECT_EQ(streamed.out, resident.out);
        EXPECT_LE(streamed.peak_bytes, limit);
      }
    }
  }
}

// `model` packed into `folder`.
std::string PackOf(const std::string& model, const testing::TemporaryFolder& folder) {
  const std::string pack = folder.path() + "/model.pantry";
  const Outcome packed = Execute({"pack", model, pack});
  EXPECT_EQ(packed.exit_code, 0) << packed.err;
  return pack;
}

TEST(Memory, AStreamedRunStaysWithinItsBudgetAndSaysTheSame) {
  const std::string model = testing::SharedData("data/models/tiny-thinker-Q8_0.gguf");
  if (model.empty()) GTEST_SKIP() << "no model with experts to be had";
  const testing::TemporaryFolder folder;
  ExpectStaysWithin({40, 45, 48, 51, 54}, 60, {model, PackOf(model, folder)});  // the floor is 39, all takes 54
}

TEST(Memory, ADenseModelInRotationDoesSo) {
  const std::string model = testing::DemoModel();
  if (model.empty()) GTEST_SKIP() << "the demo model is not here; `./dev demo` gets it";
  const testing::TemporaryFolder folder;
  ExpectStaysWithin({104, 113, 122, 132}, 8,
                    {model, PackOf(model, folder)});  // the floor is 103, and everything takes 140
}

// Each sequence has logits and a sampler of its own; contexts are full, so that nothing else is left over.
TEST(Memory, SeveralSequencesStayWithinIt) {
  const std::string model = testing::SharedData("data/models/tiny-thinker-Q8_0.gguf");
  if (model.empty()) GTEST_SKIP() << "no model with experts to be had";
  for (const int n : {1, 8, 400}) {
    SCOPED_TRACE(n);
    const auto bench = [&](int64_t budget_mib) {
      return Execute({"bench", "-m", model, "-pg", "250,3", "-np", std::to_string(n), "-t", "2", "-r", "1", "--stream",
                      "on", "--memory", std::to_string(budget_mib) + "M"});
    };
    const Outcome refused = bench(1);
    const size_t at = refused.err.find("--memory ");
    ASSERT_NE(at, std::string::npos) << refused.err;
    const int64_t least_mib = std::stoll(refused.err.substr(at + 9));
    const Outcome done = bench(least_mib + 2);
    EXPECT_EQ(done.exit_code, 0) << done.err;
    EXPECT_LE(done.peak_bytes, (least_mib + 2) * kMiB);
  }
}

}  // namespace
}  // namespace pantry
