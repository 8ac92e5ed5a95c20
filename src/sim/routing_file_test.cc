// SPDX-License-Identifier: Apache-2.0
#include "sim/routing_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "base/rng.h"
#include "sim/replay.h"
#include "support/test_paths.h"

namespace pantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ids = std::vector<int32_t>;

class RoutingFile : public ::testing::Test {
 protected:
  RoutingFile()
      : path_(std::filesystem::temp_directory_path() /
              (std::string("routing_file_test.") + ::testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  ~RoutingFile() override { std::filesystem::remove(path_); }

  std::unique_ptr<RoutingFileWriter> Create(const RoutingHeader& header) {
    auto writer = RoutingFileWriter::Create(path_.string(), log_);
    EXPECT_TRUE(writer.ok()) << writer.status().ToString();
    (*writer)->Begin(header);
    return std::move(writer).value();
  }
  std::string Text() const { return testing::ReadFile(path_.string()); }

  RecordingLogger log_;
  const std::filesystem::path path_;
};

RoutingHeader Header() {
  return {.model = "a \"model\"",
          .first_layer = 1,
          .n_layers = 2,
          .n_experts = 8,
          .n_used = 2,
          .is_ranked = true,
          .block_bytes = {5000, 6000}};
}

std::vector<uint32_t> BlocksOf(const RoutingTrace& trace, size_t event) {
  std::vector<uint32_t> out;
  for (const BlockId block : trace.blocks_of(event)) out.push_back(block.value());
  return out;
}

TEST_F(RoutingFile, IsWrittenAsItsDescriptionSays) {
  const auto writer = Create(Header());
  writer->Routed(1, 3, {}, Ids{7, 0, 0, 2, 2, 0});
  writer->Routed(2, 3, {}, Ids{1, 4, 4, 1, 1, 4});
  writer->EndRun(3);
  writer->Routed(1, 1, {}, Ids{5, 3});
  writer->Wanted(2, Ids{0, 6});
  writer->EndRun(1);
  EXPECT_EQ(Text(),
            R"({"pantry_routing":1,"model":"a \"model\"","first_layer":1,"n_layers":2,"n_experts":8,"n_used":2,)"
            R"("ranked":true,"block_bytes":[5000,6000]})"
            "\n"
            R"({"t":0,"n":3,"layer":1,"experts":[0,2,7],"counts":[3,2,1]})"
            "\n"
            R"({"t":0,"n":3,"layer":2,"experts":[1,4],"counts":[3,3]})"
            "\n"
            R"({"t":3,"n":1,"layer":1,"experts":[5,3]})"
            "\n"
            R"({"t":3,"n":1,"layer":2,"experts":[0,6]})"
            "\n");
}

TEST_F(RoutingFile, KeepsASingleTokensLogitsToTheLastBit) {
  const auto writer = Create(Header());
  Rng rng(5);
  std::vector<float> logits(16);
  for (float& value : logits) value = static_cast<float>(rng.NextDouble() * 100 - 50);
  logits[3] = -std::numeric_limits<float>::infinity();
  const std::span<const float> all(logits);
  writer->Routed(1, 2, all, Ids{7, 0, 0, 2});
  writer->EndRun(2);
  writer->Routed(1, 1, all.first(8), Ids{5, 3});
  writer->Routed(2, 1, all.last(8), Ids{4, -1});
  writer->EndRun(1);
  writer->Wanted(1, Ids{0, 6});
  writer->EndRun(1);

  const auto recorded = ReadRoutingTrace(path_.string());
  ASSERT_TRUE(recorded.ok()) << recorded.status().ToString();
  ASSERT_EQ(recorded->trace.events.size(), 4u);
  EXPECT_TRUE(recorded->trace.logits_of(0).empty());
  EXPECT_TRUE(std::ranges::equal(recorded->trace.logits_of(1), all.first(8)));
  EXPECT_TRUE(std::ranges::equal(recorded->trace.logits_of(2), all.last(8)));
  EXPECT_THAT(BlocksOf(recorded->trace, 2), ElementsAre(12));
  EXPECT_TRUE(recorded->trace.logits_of(3).empty());
}

TEST_F(RoutingFile, LogitsOfAnotherLengthAreRefused) {
  const std::string header =
      R"({"pantry_routing":1,"first_layer":0,"n_layers":1,"n_experts":2,"n_used":1,"ranked":true})"
      "\n";
  const auto parse = [&](const std::string& logits) {
    return ParseRoutingTrace(header + R"({"t":0,"n":1,"layer":0,"experts":[1],"logits":)" + logits + "}\n", "file")
        .status();
  };
  EXPECT_TRUE(parse(R"("AAAAAAAAgD8")").ok());
  for (const char* const bad : {R"("AAAAAAAAgD8A")", R"("AAAAAA")", R"("AAAA*AAAgD8")", "[0,1]"}) {
    EXPECT_THAT(parse(bad).message(), HasSubstr("file:2: 'logits': expected 2 numbers")) << bad;
  }
}

TEST_F(RoutingFile, WhatWasWrittenIsReadAsATrace) {
  const auto writer = Create(Header());
  writer->Routed(1, 2, {}, Ids{7, 0, 0, 2});
  writer->Routed(2, 2, {}, Ids{1, 4, 4, 1});
  writer->EndRun(2);
  writer->Routed(1, 1, {}, Ids{5, 3});
  writer->EndRun(1);
  const Result<RecordedRouting> read = ReadRoutingTrace(path_.string());
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(read->header.model, Header().model);
  EXPECT_TRUE(read->header.is_ranked);
  ASSERT_EQ(read->blocks.size(), 16u);
  EXPECT_EQ(read->blocks[7].n_bytes, 5000);
  EXPECT_EQ(read->blocks[8].layer, 1);
  EXPECT_EQ(read->blocks[8].n_bytes, 6000);
  ASSERT_EQ(read->trace.events.size(), 3u);
  EXPECT_EQ(read->trace.n_steps(), 2u);
  EXPECT_EQ(read->trace.events[0].n_tokens, 2);
  EXPECT_FALSE(read->trace.events[1].begins_step);
  EXPECT_EQ(read->trace.events[2].n_tokens, 1);
  EXPECT_THAT(BlocksOf(read->trace, 0), ElementsAre(0, 2, 7));
  EXPECT_THAT(BlocksOf(read->trace, 1), ElementsAre(9, 12));
  EXPECT_THAT(BlocksOf(read->trace, 2), ElementsAre(3, 5));
}

TEST_F(RoutingFile, ReplaysLikeTheTraceItWasMadeFrom) {
  const TraceShape shape{"made", 4, 16, 3};
  RoutingTrace trace = MakeTrace(shape, {.n_tokens = 120});
  // The file's blocks ascend within an event.
  for (size_t i = 0; i < trace.events.size(); ++i) {
    const auto begin = trace.wanted.begin() + trace.events[i].begin;
    std::sort(begin, begin + shape.n_chosen);
  }
  RoutingHeader header;
  header.n_layers = 4;
  header.n_experts = 16;
  header.n_used = 3;
  const auto writer = Create(header);
  for (size_t i = 0; i < trace.events.size(); ++i) {
    Ids experts;
    for (const BlockId block : trace.blocks_of(i)) experts.push_back(static_cast<int32_t>(block.value() % 16));
    writer->Routed(trace.events[i].layer, 1, {}, experts);
    if (trace.events[i].layer == 3) writer->EndRun(1);
  }
  const Result<RecordedRouting> read = ReadRoutingTrace(path_.string());
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  BlockCacheOptions options;
  options.budget_bytes = 20 * 4096;
  options.huge_pages = false;
  const auto misses = [&](const RoutingTrace& of, const std::vector<BlockInfo>& blocks, bool belady) {
    auto cache = BlockCache::Create(blocks, options, belady ? MakeBelady(of, blocks.size()) : nullptr);
    EXPECT_TRUE(cache.ok());
    return Replay(of, **cache)->n_misses;
  };
  for (const bool belady : {false, true}) {
    EXPECT_EQ(misses(read->trace, read->blocks, belady), misses(trace, MakeBlocks(shape, 4096), belady));
  }
  EXPECT_LT(misses(read->trace, read->blocks, true), misses(read->trace, read->blocks, false));
}

TEST_F(RoutingFile, LayersOfARunThatFailedAreNotRecorded) {
  const auto writer = Create(Header());
  writer->Routed(1, 1, {}, Ids{6, 7});  // and no more of it
  writer->Routed(1, 1, {}, Ids{5, 3});
  writer->Routed(2, 1, {}, Ids{0, 1});
  writer->EndRun(1);
  const Result<RecordedRouting> read = ReadRoutingTrace(path_.string());
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  ASSERT_EQ(read->trace.events.size(), 2u);
  EXPECT_THAT(BlocksOf(read->trace, 0), ElementsAre(3, 5));
}

TEST_F(RoutingFile, IsReadUpToTheLastWholeLineWhereItsEndIsMissing) {
  const auto writer = Create(Header());
  writer->Routed(1, 1, {}, Ids{5, 3});
  writer->Routed(2, 1, {}, Ids{0, 1});
  writer->EndRun(1);
  const std::string text = Text();
  for (size_t n = 0; n <= text.size(); ++n) {
    const auto read = ParseRoutingTrace(std::string_view(text).substr(0, n), "cut");
    const auto n_lines = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(n), '\n');
    ASSERT_EQ(read.ok(), n_lines > 0) << n;
    ASSERT_EQ(read.ok() ? static_cast<int64_t>(read->trace.events.size()) : 0, std::max<int64_t>(n_lines - 1, 0));
  }
}

TEST_F(RoutingFile, AFullDiskIsToldOnceAndEndsTheRecording) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  auto writer = RoutingFileWriter::Create("/dev/full", log_);
  ASSERT_TRUE(writer.ok());
  (*writer)->Begin(Header());
  for (int run = 0; run < 3; ++run) {
    (*writer)->Routed(1, 1, {}, Ids{5, 3});
    (*writer)->EndRun(1);
  }
  ASSERT_EQ(log_.lines.size(), 1u);
  EXPECT_THAT(log_.lines[0].second, HasSubstr("/dev/full"));
}

TEST(ParseRoutingTrace, SaysInWhichLineWhatIsWrong) {
  const std::string header =
      R"({"pantry_routing":1,"first_layer":0,"n_layers":2,"n_experts":4,"n_used":2,"block_bytes":[]})"
      "\n";
  const std::pair<std::string, const char*> cases[] = {
      {"", "x: not a routing file"},
      {"hello\n", "x:1: not a routing file"},
      {"{\"pantry_routing\":2}\n", "x:1: version 2, expected 1"},
      {"{\"pantry_routing\":1,\"n_layers\":1}\n", "x:1: 'n_experts' is missing"},
      {"{\"pantry_routing\":1,\"n_layers\":4000,\"n_experts\":60000}\n", "x:1: 'n_experts': expected"},
      {header + "{]\n", "x:2: not a JSON object"},
      {header + "{\"t\":0,\"n\":1,\"layer\":2,\"experts\":[1]}\n", "x:2: 'layer': expected a number from 0 to 1"},
      {header + "{\"t\":0,\"n\":1,\"layer\":1,\"experts\":[4]}\n", "x:2: expert 4: the model has experts 0 to 3"},
      {header + "{\"t\":0,\"n\":1,\"layer\":1,\"experts\":[-1]}\n", "x:2: expert -1"},
      {header + "{\"t\":0,\"n\":1,\"layer\":1,\"experts\":[2,2]}\n", "x:2: an expert occurs twice"},
      {header + "{\"t\":0,\"n\":0,\"layer\":1,\"experts\":[2]}\n", "x:2: 'n': expected"},
      {header + "{\"t\":0,\"n\":1,\"layer\":1}\n", "x:2: 'experts' is not a list"},
      {header + "{\"t\":5,\"n\":1,\"layer\":0,\"experts\":[]}\n{\"t\":4,\"n\":1,\"layer\":0,\"experts\":[]}\n",
       "x:3: 't': expected a number from 5"},
      {header + "{\"t\":0,\"n\":1,\"layer\":0,\"experts\":[]}\n{\"t\":0,\"n\":2,\"layer\":1,\"experts\":[]}\n",
       "x:3: 'n' is 2, in the line before of the same run 1"},
  };
  for (const auto& [text, message] : cases) {
    const auto read = ParseRoutingTrace(text, "x");
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_THAT(std::string(read.status().message()), HasSubstr(message));
  }
  EXPECT_TRUE(ParseRoutingTrace(header + "{\"t\":0,\"n\":1,\"layer\":1,\"experts\":[],\"new\":{}}\n", "x").ok());
}

// A message must not print or copy what is nested deeper than the stack.
TEST(ParseRoutingTrace, DeepNestingIsRefusedByItsType) {
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  const std::string header =
      R"({"pantry_routing":1,"first_layer":0,"n_layers":1,"n_experts":4,"n_used":2,"block_bytes":[)";
  const std::string cases[] = {
      "{\"pantry_routing\":" + deep + "}\n",
      header + deep + "]}\n",
      header + "]}\n{\"t\":" + deep + ",\"n\":1,\"layer\":0,\"experts\":[1]}\n",
      header + "]}\n{\"t\":0,\"n\":1,\"layer\":0,\"experts\":[" + deep + "]}\n",
  };
  for (const std::string& text : cases) {
    const auto read = ParseRoutingTrace(text, "x");
    ASSERT_EQ(read.status().code(), StatusCode::kCorruption);
    EXPECT_THAT(std::string(read.status().message()), HasSubstr("array"));
  }
}

TEST(ReadRoutingTrace, AMissingFileIsNotFound) {
  EXPECT_EQ(ReadRoutingTrace("/no/such/file").status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace pantry
