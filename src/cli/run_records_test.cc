// SPDX-License-Identifier: Apache-2.0
#include "cli/run_records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/test_trace_rows.h"
#include "support/test_paths.h"
#include "support/tiny_pack.h"

namespace pantry {
namespace {

using Json = nlohmann::json;

// A mixture of experts, read from its file or in memory, which reads a prompt and writes some tokens, recorded to a folder of its own.
class RunRecordsTest : public ::testing::Test {
 protected:
  RunRecordsTest()
      : folder_(std::filesystem::temp_directory_path() /
                (std::string("run_records_test.") + ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::create_directories(folder_);
    options_.stats = (folder_ / "stats").string();
    options_.trace = (folder_ / "trace").string();
    options_.routing_trace = (folder_ / "routing").string();
  }
  ~RunRecordsTest() override { std::filesystem::remove_all(folder_); }

  void Run(const std::string& model, StreamMode mode, const std::function<void(Engine&)>& before = {}) {
    auto records = RunRecords::Open(options_, log_);
    ASSERT_TRUE(records.ok()) << records.status().ToString();
    EngineOptions options;
    options.stream = mode;
    if (mode == StreamMode::kOn) options.memory_bytes = 200'000'000;
    auto engine = Engine::Open(model, options, log_, {});
    ASSERT_TRUE(engine.ok()) << engine.status().ToString();
    if (before) before(**engine);
    RunRecords::Attach(std::move(records).value(), **engine);
    auto session = (*engine)->NewSession({.n_ctx = 64});
    ASSERT_TRUE(session.ok()) << session.status().ToString();
    const TokenId prompt[] = {5, 6, 7};
    ASSERT_TRUE((*session)->Feed(prompt, {}).ok());
    for (TokenId token = 10; token < 14; ++token) ASSERT_TRUE((*session)->Feed({&token, 1}, {}).ok());
  }
  std::string Text(const std::string& path) const { return testing::ReadFile(path); }

  const std::filesystem::path folder_;
  CliOptions options_;
  RecordingLogger log_;
};

const std::string kDense = testing::TestData("models/tiny-llama.gguf");
std::string Moe() { return testing::SharedData("data/models/tiny-thinker-Q8_0.gguf"); }

TEST_F(RunRecordsTest, AStreamedRunIsDrawnAndItsChoicesAreRecorded) {
  if (Moe().empty()) GTEST_SKIP() << "the shared models are not there";
  Run(Moe(), StreamMode::kOn);
  int64_t n_stats = 0, n_wanted = 0;
  std::istringstream stats(Text(options_.stats));
  for (std::string line; std::getline(stats, line); ++n_stats) {
    const Json json = Json::parse(line);
    for (const char* const what : {"hits", "late", "misses"}) n_wanted += json[what].get<int64_t>();
  }
  EXPECT_EQ(n_stats, 5);

  const auto routing = ReadRoutingTrace(options_.routing_trace);
  ASSERT_TRUE(routing.ok()) << routing.status().ToString();
  EXPECT_EQ(routing->trace.n_steps(), 5u);
  EXPECT_EQ(routing->trace.events.size(), 5u * static_cast<size_t>(routing->header.n_layers));
  EXPECT_EQ(static_cast<int64_t>(routing->trace.wanted.size()), n_wanted);
  EXPECT_EQ(routing->trace.events[0].n_tokens, 3);
  const size_t last = routing->trace.events.size() - 1;
  EXPECT_EQ(routing->trace.blocks_of(last).size(), static_cast<size_t>(routing->header.n_used));
  ASSERT_EQ(routing->header.block_bytes.size(), static_cast<size_t>(routing->header.n_layers));

  auto rows = RowsOf(Json::parse(Text(options_.trace)));
  EXPECT_EQ(rows["tokens"].size(), 5u);
  EXPECT_EQ(static_cast<int32_t>(rows["layers"].size()), 5 * routing->header.n_layers);
  EXPECT_GE(rows["compute"].size(), 2 * rows["layers"].size());  // blocks and what lies between
  EXPECT_FALSE(rows["disk 0"].empty());
  EXPECT_FALSE(rows["placing 0"].empty());
}

// What was read before is of no run, as a warm start's is not.
TEST_F(RunRecordsTest, ExpertsNeuronsAreCountedApartFromTheirGates) {
  const testing::TinyPack pack("tiny-turbosparse-quantized", NeuronPacking::kAlways);
  ModelShape shape;
  Run(pack.path(), StreamMode::kOn, [&](Engine& engine) {
    shape = engine.shape();
    const auto session = engine.NewSession({.n_ctx = 64});
    ASSERT_TRUE(session.ok());
    ASSERT_TRUE((*session)->Feed(std::vector<TokenId>(40, 7)).ok());
  });
  std::istringstream stats(Text(options_.stats));
  for (std::string line; std::getline(stats, line);) {
    const Json json = Json::parse(line);
    const auto sum = [&](std::initializer_list<const char*> keys) {
      int64_t n = 0;
      for (const char* const key : keys) n += json.at(key).get<int64_t>();
      return n;
    };
    const int64_t n_used = sum({"hits", "late", "misses"}), n_firing = sum({"neuron_hits", "neuron_misses"});
    const int64_t n_each = int64_t{shape.n_layers} * shape.n_experts_used;
    EXPECT_TRUE(json["n_tokens"] != 1 || n_used == n_each) << n_used;
    EXPECT_LE(n_used, 3 * n_each);
    EXPECT_GT(n_firing, n_used);
    EXPECT_LE(n_firing, n_used * shape.n_ff_expert);
  }
}

TEST_F(RunRecordsTest, ADenseModelHasNoChoicesAndSaysSo) {
  Run(kDense, StreamMode::kOff);
  EXPECT_THAT(Json::parse(Text(options_.trace)),
              ::testing::Contains(::testing::ResultOf([](const Json& e) { return e["name"] == "token 6"; }, true)));
  EXPECT_THAT(log_.lines, ::testing::Contains(
                              ::testing::Pair(LogLevel::kWarning, ::testing::HasSubstr("--routing-trace: no effect"))));
}

TEST_F(RunRecordsTest, NothingIsOpenedWhereNothingIsAskedFor) {
  const auto records = RunRecords::Open(CliOptions(), log_);
  ASSERT_TRUE(records.ok());
  EXPECT_EQ(*records, nullptr);
}

TEST_F(RunRecordsTest, AFileThatCannotBeIsAnErrorBeforeAnythingIsLoaded) {
  for (std::string CliOptions::* const path : {&CliOptions::stats, &CliOptions::trace, &CliOptions::routing_trace}) {
    CliOptions options;
    options.*path = "/dev/null/file";
    const auto records = RunRecords::Open(options, log_);
    ASSERT_FALSE(records.ok());
    EXPECT_EQ(records.status().code(), StatusCode::kIoError);
    EXPECT_THAT(std::string(records.status().message()), ::testing::HasSubstr("/dev/null/file"));
  }
}

}  // namespace
}  // namespace pantry
