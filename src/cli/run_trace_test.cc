// SPDX-License-Identifier: Apache-2.0
#include "cli/run_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/test_trace_rows.h"
#include "support/test_paths.h"

namespace pantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

constexpr int64_t kOrigin = 1'000'000;
using Blocks = std::vector<BlockId>;

Blocks Ids(std::initializer_list<uint32_t> ids) {
  Blocks blocks;
  for (const uint32_t id : ids) blocks.emplace_back(id);
  return blocks;
}

class TraceTest : public ::testing::Test {
 protected:
  TraceTest()
      : path_(std::filesystem::temp_directory_path() /
              (std::string("run_trace_test.") + ::testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  ~TraceTest() override { std::filesystem::remove(path_); }

  std::unique_ptr<TraceFile> OpenFile() {
    auto file = TraceFile::Open(path_.string(), kOrigin, log_);
    EXPECT_TRUE(file.ok()) << file.status().ToString();
    return std::move(file).value();
  }
  // Two layers of the model, 3 and 5, of 10 blocks each.
  std::unique_ptr<RunTrace> OpenTrace() {
    return std::make_unique<RunTrace>(OpenFile(), "a \"model\"",
                                      std::vector<StreamedLayer>{{3, BlockId(0)}, {5, BlockId(10)}});
  }
  std::string Text() const { return testing::ReadFile(path_.string()); }
  Json Read() const { return Json::parse(Text()); }

  RecordingLogger log_;
  const std::filesystem::path path_;
};

// As the viewers do where the end of the file is missing.
Json ParseLeniently(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ',')) text.pop_back();
  if (text.empty() || text.back() != ']') text += ']';
  return Json::parse(text, nullptr, false);
}

std::vector<std::string> NamesOf(const std::vector<SliceSeen>& slices) {
  std::vector<std::string> names;
  for (const SliceSeen& slice : slices) names.push_back(slice.name);
  return names;
}

// A layer of which block 1 is there and block 2 comes in two pieces; from `at` to `at` + 100.
void TellEvent(RunTrace& trace, int layer, int64_t at) {
  const auto first = static_cast<uint32_t>(layer * 10);
  const Blocks wanted = Ids({first + 1, first + 2});
  const BlockState before[] = {BlockState::kResident, BlockState::kAbsent};
  trace.EventBegan({layer, at, wanted, before});
  trace.BlocksEvicted(1);
  trace.PieceSubmitted(7, ReadUrgency::kDemand);
  trace.PieceSubmitted(9, ReadUrgency::kDemand);
  trace.HandedOut(std::span(wanted).first(1), at + 10);
  trace.Released(std::span(wanted).first(1), at + 30);
  trace.Waited(at + 31, at + 60);
  for (const uint32_t slot : {9u, 7u}) {
    trace.PieceCame({.block = wanted[1],
                     .piece = static_cast<int>(slot == 9),
                     .n_bytes = 4096,
                     .slot = slot,
                     .urgency = ReadUrgency::kDemand,
                     .submitted_us = at + 2,
                     .started_us = at + 3,
                     .done_us = at + 60,
                     .place_thread = slot == 9 ? 1 : 0,
                     .place_begin_us = at + 61,
                     .place_end_us = at + 70});
  }
  trace.HandedOut(std::span(wanted).last(1), at + 75);
  trace.Released(std::span(wanted).last(1), at + 100);
  trace.EventEnded(at + 100, true);
}

TEST_F(TraceTest, AStreamedTokenIsDrawnOnItsRows) {
  auto trace = OpenTrace();
  TellEvent(*trace, 0, kOrigin + 1000);
  TellEvent(*trace, 1, kOrigin + 1200);
  trace->Run({.first_position = 4, .n_tokens = 1, .us = 500}, kOrigin + 1400);
  trace.reset();
  const Json json = Read();
  auto rows = RowsOf(json);
  EXPECT_THAT(NamesOf(rows["tokens"]), ElementsAre("token 4"));
  EXPECT_EQ(rows["tokens"][0].begin, 900);
  EXPECT_EQ(rows["tokens"][0].end, 1400);
  EXPECT_THAT(NamesOf(rows["layers"]), ElementsAre("layer 3", "layer 5"));
  EXPECT_THAT(NamesOf(rows["compute"]), ElementsAre("between", "1 block of layer 3", "1 block of layer 3", "between",
                                                    "1 block of layer 5", "1 block of layer 5", "between"));
  EXPECT_EQ(rows["compute"][3].begin, 1100);
  EXPECT_EQ(rows["compute"][3].end, 1200);
  EXPECT_THAT(NamesOf(rows["waits"]), ElementsAre("wait, layer 3", "wait, layer 5"));
  EXPECT_EQ(rows["waits"][0].begin, 1031);
  EXPECT_THAT(NamesOf(rows["disk 0"]), ElementsAre("read L3 #2.0", "read L5 #2.0"));
  EXPECT_THAT(NamesOf(rows["disk 1"]), ElementsAre("read L3 #2.1", "read L5 #2.1"));
  EXPECT_THAT(NamesOf(rows["placing 1"]), ElementsAre("L3 #2.1", "L5 #2.1"));
  const auto layer = std::find_if(json.begin(), json.end(), [](const Json& e) { return e["name"] == "layer 3"; });
  EXPECT_EQ((*layer)["args"], Json::parse(R"({"hits":1,"late":0,"misses":1,"evictions":1,"failed":false})"));
  std::vector<double> pending, hits;
  for (const Json& event : json) {
    if (event["name"] == "reads pending") pending.push_back(event["args"]["reads pending"]);
    if (event["name"] == "hits %") hits.push_back(event["args"]["hits %"]);
  }
  EXPECT_THAT(pending, ElementsAre(2, 0, 2, 0));
  EXPECT_THAT(hits, ElementsAre(50));
}

TEST_F(TraceTest, LoadsWhereverItsEndIsMissing) {
  auto trace = OpenTrace();
  TellEvent(*trace, 0, kOrigin);
  trace->Run({.first_position = 0, .n_tokens = 3, .us = 150}, kOrigin + 150);
  const std::string flushed = Text();  // as a killed program leaves it
  trace.reset();
  const std::string whole = Text();
  const size_t n_events = Json::parse(whole).size();
  EXPECT_EQ(ParseLeniently(flushed).size(), n_events);
  for (size_t end = 0; (end = whole.find('\n', end)) != std::string::npos; ++end) {
    EXPECT_FALSE(ParseLeniently(whole.substr(0, end)).is_discarded()) << end;
  }
}

TEST_F(TraceTest, AResidentRunHasItsTokens) {
  auto trace = std::make_unique<RunTrace>(OpenFile(), "m", std::vector<StreamedLayer>());
  trace->Run({.first_position = 0, .n_tokens = 7, .us = 100}, kOrigin + 100);
  trace->Run({.first_position = 7, .n_tokens = 1, .us = 20}, kOrigin + 130);
  trace.reset();
  auto rows = RowsOf(Read());
  EXPECT_EQ(rows.size(), 1u);
  EXPECT_THAT(NamesOf(rows["tokens"]), ElementsAre("tokens 0 to 6", "token 7"));
}

TEST_F(TraceTest, AFailedEventFreesTheRowsOfItsReads) {
  auto trace = OpenTrace();
  const Blocks wanted = Ids({1});
  const BlockState before[] = {BlockState::kAbsent};
  for (int64_t at = kOrigin; at < kOrigin + 500; at += 100) {
    trace->EventBegan({0, at, wanted, before});
    trace->PieceSubmitted(static_cast<uint32_t>(at % 7), ReadUrgency::kDemand);
    trace->EventEnded(at + 50, false);
  }
  TellEvent(*trace, 0, kOrigin + 1000);
  trace.reset();
  const Json json = Read();
  auto rows = RowsOf(json);
  EXPECT_EQ(rows["layers"].size(), 6u);
  EXPECT_EQ(rows.count("disk 2"), 0u);
  EXPECT_THAT(NamesOf(rows["compute"]), ElementsAre("1 block of layer 3", "1 block of layer 3"));
}

TEST_F(TraceTest, AnEmptyFileIsAnEmptyArray) {
  OpenFile().reset();
  EXPECT_EQ(Read(), Json::array());
}

TEST_F(TraceTest, NamesFromAModelCannotBreakTheFile) {
  auto trace = std::make_unique<RunTrace>(OpenFile(), "\"}]\n\\ \xff", std::vector<StreamedLayer>());
  trace.reset();
  EXPECT_EQ(Read()[0]["args"]["name"], "pantry: \"}]\n\\ \xEF\xBF\xBD");
}

TEST_F(TraceTest, AFullDiskIsToldOnceAndEndsTheTracing) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  auto file = TraceFile::Open("/dev/full", kOrigin, log_);
  ASSERT_TRUE(file.ok());
  RunTrace trace(std::move(file).value(), "m", {{3, BlockId(0)}});
  for (int64_t token = 0; token < 5; ++token) {
    TellEvent(trace, 0, kOrigin + 200 * token);
    trace.Run({.first_position = token, .n_tokens = 1, .us = 100}, kOrigin + 200 * token + 100);
  }
  ASSERT_EQ(log_.lines.size(), 1u);
  EXPECT_THAT(log_.lines[0].second, HasSubstr("--trace /dev/full"));
}

TEST_F(TraceTest, IsWrittenBeforeTheBufferGrows) {
  auto file = OpenFile();
  for (int i = 0; i < 5000; ++i) file->Slice(1, kOrigin + i, kOrigin + i + 1, R"("slice {}")", i);
  EXPECT_GT(std::filesystem::file_size(path_), 200'000u);  // of 5000 * 60; at most the buffer is missing
  file.reset();
  EXPECT_EQ(Read().size(), 5000u);
}

}  // namespace
}  // namespace pantry
