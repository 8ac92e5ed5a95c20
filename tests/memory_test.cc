// SPDX-License-Identifier: Apache-2.0
// The promise of --memory: a process that streams stays within its budget, under a limit of the system's where one can be set, and answers
// as one that has everything in memory.
#include <gtest/gtest.h>

#include <string>

#include "support/limited_group.h"
#include "support/run_program.h"
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

TEST(Memory, AStreamedRunStaysWithinItsBudgetAndSaysTheSame) {
  const std::string model = testing::SharedData("data/models/tiny-thinker-Q8_0.gguf");
  if (model.empty()) GTEST_SKIP() << "no model with experts to be had";
  const Args args = {"run",    "-m", model, "-p",  "Once upon a time", "-n", "60", "--temp",      "1",
                     "--seed", "3",  "-c",  "256", "--no-cnv",         "-t", "2",  "--ignore-eos"};
  const Outcome resident = Execute(args);
  EXPECT_EQ(resident.exit_code, 0) << resident.err;
  EXPECT_GT(resident.out.size(), 60u);
  for (const int64_t budget_mib : {53, 57, 61, 65}) {  // the floor is 51, and everything takes 71
    SCOPED_TRACE(budget_mib);
    const LimitedGroup group(static_cast<int64_t>(kSlack * static_cast<double>(budget_mib * kMiB)));
    Surroundings setup;
    setup.group_procs = group.procs();
    for (const char* access : {"auto", "pread"}) {
      Args limited = args;
      limited.insert(limited.end(), {"--memory", std::to_string(budget_mib) + "M", "--io", access});
      const Outcome streamed = Execute(limited, setup);
      EXPECT_EQ(streamed.exit_code, 0) << streamed.err;
      EXPECT_EQ(streamed.out, resident.out);
      EXPECT_LE(streamed.peak_bytes, static_cast<int64_t>(kSlack * static_cast<double>(budget_mib * kMiB)));
    }
  }
}

}  // namespace
}  // namespace pantry
