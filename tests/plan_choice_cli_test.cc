// SPDX-License-Identifier: Apache-2.0
// What `pantry run` and `pantry plan` choose and find out by themselves: a pack beside the model, and the speeds of this machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "support/model_in_folder.h"
#include "support/run_program.h"
#include "support/temporary_files.h"
#include "support/test_paths.h"

namespace pantry::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const Args kStreamed = {"--stream", "on", "--memory", "200M", "-c", "256", "-v"};

Args With(Args args, const Args& more) {
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

class PackBesideTest : public ModelInFolder, public ::testing::Test {
 protected:
  PackBesideTest() : ModelInFolder("tiny-qwen3moe") {}
  const std::string pack_ = folder_.path() + "/tiny.pantry";
};

TEST_F(PackBesideTest, IsReadWhereTheModelStreams) {
  const std::string note = "plan: " + pack_ + ", the pack beside the model, is read";
  EXPECT_THAT(Execute(With({"plan", model_}, kStreamed)).err, Not(HasSubstr("plan:")));
  ASSERT_EQ(Execute({"pack", model_}).exit_code, 0);
  const Outcome streamed = Execute(With({"plan", model_}, kStreamed));
  EXPECT_EQ(streamed.exit_code, 0) << streamed.err;
  EXPECT_THAT(streamed.err, HasSubstr(note));
  const Outcome named = Execute(With({"plan", model_, "--no-use-pack"}, kStreamed));
  EXPECT_EQ(named.exit_code, 0) << named.err;
  EXPECT_THAT(named.err, Not(HasSubstr("plan:")));
  EXPECT_THAT(Execute({"plan", model_, "--stream", "off", "-v"}).err, Not(HasSubstr("plan:")));
  EXPECT_THAT(Execute({"plan", model_, "--memory", "2G", "-c", "256", "-v"}).err, Not(HasSubstr("plan:"))) << "it fits";
}

TEST_F(PackBesideTest, OfAnotherModelIsNotRead) {
  const TemporaryFolder elsewhere;
  const std::string other = elsewhere.path() + "/other.gguf";
  std::filesystem::copy_file(TestData("models/tiny-mixtral.gguf"), other);
  ASSERT_EQ(Execute({"pack", other, pack_}).exit_code, 0);
  const Outcome plan = Execute(With({"plan", model_}, kStreamed));
  EXPECT_EQ(plan.exit_code, 0) << plan.err;
  EXPECT_THAT(plan.err, HasSubstr("plan: " + pack_ + " is not used: it was made of another file"));
}

TEST_F(PackBesideTest, ThatIsCutOffIsNotRead) {
  ASSERT_EQ(Execute({"pack", model_}).exit_code, 0);
  std::filesystem::resize_file(pack_, std::filesystem::file_size(pack_) / 2);
  const Outcome plan = Execute(With({"plan", model_}, kStreamed));
  EXPECT_EQ(plan.exit_code, 0) << plan.err;
  EXPECT_THAT(plan.err, HasSubstr("plan: " + pack_ + " is not used: "));
}

TEST(PackBeside, WritesTheSameText) {
  const std::string shared = SharedData("data/models/tiny-thinker-Q8_0.gguf");
  if (shared.empty()) GTEST_SKIP() << "the shared models are not there";
  const TemporaryFolder folder;
  const std::string model = folder.path() + "/thinker.gguf";
  std::filesystem::copy_file(shared, model);
  ASSERT_EQ(Execute({"pack", model}).exit_code, 0);
  const Args story = With(RunArgs(model, 24), {"--stream", "on", "--memory", "90M", "-c", "256", "-v"});
  const Outcome packed = Execute(story);
  const Outcome as_it_is = Execute(With(story, {"--no-use-pack"}));
  EXPECT_EQ(packed.exit_code, 0) << packed.err;
  EXPECT_EQ(as_it_is.exit_code, 0) << as_it_is.err;
  EXPECT_THAT(packed.err, HasSubstr("the pack beside the model, is read"));
  EXPECT_THAT(as_it_is.err, Not(HasSubstr("the pack beside the model")));
  EXPECT_EQ(packed.out, as_it_is.out);
  EXPECT_FALSE(packed.out.empty());
}

TEST(Plan, MeasuresAMachineThatNobodyKnowsOnce) {
  const TemporaryFolder folder;
  Surroundings setup;
  setup.variables["XDG_CACHE_HOME"] = folder.path();
  const Args plan = {"plan", TestData("models/tiny-qwen3moe.gguf"), "--stream", "on", "--memory", "200M", "-c", "256",
                     "-v"};
  const Outcome first = Execute(plan, setup);
  EXPECT_EQ(first.exit_code, 0) << first.err;
  EXPECT_THAT(first.err, HasSubstr("measuring this machine, once"));
  EXPECT_THAT(first.out, HasSubstr("128 tokens"));
  EXPECT_THAT(first.out, Not(HasSubstr("no speed to expect")));
  EXPECT_TRUE(std::filesystem::exists(folder.path() + "/pantry/hardware.json"));
  const Outcome second = Execute(plan, setup);
  EXPECT_EQ(second.exit_code, 0) << second.err;
  EXPECT_THAT(second.err, Not(HasSubstr("measuring")));
  EXPECT_THAT(second.out, HasSubstr("128 tokens"));
}

}  // namespace
}  // namespace pantry::testing
