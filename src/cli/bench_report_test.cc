// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

namespace pantry {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

// A generation of 100 tokens in a second, the median of three.
SpeedResult MakeResult() {
  SpeedResult result;
  result.test = {0, 100, 8000, 2, 512};
  result.sample_us = {1'000'000, 800'000, 1'250'000};
  result.work = {10'000'000'000, 20'000'000'000, 5'000'000'000};
  result.kv_bytes = 123;
  for (int64_t ms = 100; ms > 0; --ms) result.tokens.push_back({.us = 1000 * ms});
  return result;
}

BenchSetup MakeSetup() {
  BenchSetup setup;
  setup.version = "1.2.3";
  setup.model.name = "A \"model\", small";
  setup.model.file = "a.gguf";
  setup.model.type = "Q4_1";
  setup.model.n_params = 134'515'008;
  setup.model.n_bytes = 96'576'768;
  setup.machine.cpu_name = "A CPU";
  setup.machine.n_usable_cores = 2;
  setup.machine.dram_read_bytes_per_s = {{1, 10e9}, {2, 20e9}};
  setup.machine.int8_ops_per_s = {{1, 100e9}, {2, 200e9}};
  setup.machine.f32_flops = {{1, 25e9}, {2, 50e9}};
  setup.isa = "avx2";
  setup.k_type = setup.v_type = "f16";
  setup.tokens = "sampled";
  return setup;
}

TEST(RatesOf, AreSharesOfTheMachineAtSoManyThreads) {
  const BenchRates rates = RatesOf(MakeResult(), MakeSetup().machine);
  EXPECT_DOUBLE_EQ(rates.gb_per_s, 10);
  EXPECT_DOUBLE_EQ(rates.gops, 25);
  EXPECT_DOUBLE_EQ(rates.dram_share, 0.5);
  EXPECT_DOUBLE_EQ(rates.int8_share, 0.1);
  EXPECT_DOUBLE_EQ(rates.f32_share, 0.1);
  EXPECT_DOUBLE_EQ(rates.compute_share, 0.2);
}

TEST(RatesOf, GuessNothingAboutAMachineThatWasNotMeasured) {
  const BenchRates rates = RatesOf(MakeResult(), HardwareProfile{});
  EXPECT_DOUBLE_EQ(rates.gb_per_s, 10);
  EXPECT_LT(rates.dram_share, 0);
  EXPECT_LT(rates.compute_share, 0);
}

TEST(BenchReport, TableHasModelMachineAndARowForEachResult) {
  BenchReport report(BenchFormat::kTable, MakeSetup());
  const std::string begin = report.Begin();
  EXPECT_THAT(begin, HasSubstr("A \"model\", small · Q4_1 · 134.52 M parameters, 96.6 MB · avx2 · KV f16\n"));
  EXPECT_THAT(begin,
              HasSubstr("A CPU · 2 cores · reads DRAM at 20.0 GB/s · int8 peak 200 GOPS · F32 peak 50 GFLOPS\n"));
  const std::string row = report.Row(MakeResult(), 1);
  EXPECT_EQ(row,
            "tg100 @ d8000                   2    512     100.0      80.00 - 125.0     10.0     50 %     25.0     20 %"
            "        50.0 90.0 99.0\n");
  EXPECT_EQ(begin.size() - begin.rfind("\ntest") - 1, row.size());
  EXPECT_EQ(report.End(), "");
}

TEST(BenchReport, JsonHasTheKeysThatScriptsReadAndNullForWhatIsUnknown) {
  BenchSetup setup = MakeSetup();
  setup.machine.int8_ops_per_s.clear();
  setup.model.name = "\xff";
  BenchReport report(BenchFormat::kJson, setup);
  EXPECT_EQ(report.Begin() + report.Row(MakeResult(), 77), "");
  const Json json = Json::parse(report.End());
  EXPECT_EQ(json.at("machine").at("cpu"), "A CPU");
  EXPECT_EQ(json.at("model").at("n_params"), 134'515'008);
  ASSERT_EQ(json.at("tests").size(), 1u);
  const Json& test = json.at("tests")[0];
  EXPECT_EQ(test.at("n_prompt"), 0);
  EXPECT_EQ(test.at("n_gen"), 100);
  EXPECT_EQ(test.at("n_depth"), 8000);
  EXPECT_EQ(test.at("n_threads"), 2);
  EXPECT_EQ(test.at("n_batch"), 512);
  EXPECT_EQ(test.at("tok_per_s"), 100.0);
  EXPECT_EQ(test.at("samples").size(), 3u);
  EXPECT_EQ(test.at("dram_share"), 0.5);
  EXPECT_TRUE(test.at("int8_share").is_null());
  EXPECT_EQ(test.at("peak_rss_bytes"), 77);
  EXPECT_EQ(test.at("latency_ms"), (Json{{"p50", 50.0}, {"p90", 90.0}, {"p99", 99.0}, {"max", 100.0}}));
  EXPECT_FALSE(test.contains("hit_rate")) << "a resident run";
}

TEST(BenchReport, StreamedTokensHaveHitsAndMissesAndPromptsNoLatencies) {
  BenchReport report(BenchFormat::kJson, MakeSetup());
  SpeedResult streamed = MakeResult();
  for (TokenSample& token : streamed.tokens) token.cache.n_misses = 100 - (token.cache.n_hits = token.us / 1000);
  EXPECT_THAT(BenchReport(BenchFormat::kTable, MakeSetup()).Row(streamed, 1),
              ::testing::EndsWith("\n  in memory when wanted: of all 50.5 %, by token p50 p10 p1 51.0 11.0 2.0 %\n"));
  report.Row(streamed, 1);
  for (TokenSample& token : streamed.tokens) token.neurons = {999, 1};
  EXPECT_THAT(
      BenchReport(BenchFormat::kTable, MakeSetup()).Row(streamed, 1),
      ::testing::EndsWith("\n  in memory when wanted: gates 50.5 %, by token p50 p10 p1 51.0 11.0 2.0 %; neurons "
                          "99.9 %, by token p50 p10 p1 99.9 99.9 99.9 %\n"));
  report.Row(streamed, 1);
  SpeedResult prompt = MakeResult();
  prompt.tokens.clear();
  EXPECT_THAT(BenchReport(BenchFormat::kTable, MakeSetup()).Row(prompt, 1), ::testing::EndsWith(" -\n"));
  report.Row(prompt, 1);
  const Json tests = Json::parse(report.End()).at("tests");
  EXPECT_NEAR(tests[0].at("hit_rate").get<double>(), 0.505, 1e-12);
  EXPECT_EQ(tests[0].at("misses"), (Json{{"p50", 49.0}, {"p90", 89.0}, {"p99", 98.0}, {"max", 99.0}}));
  EXPECT_EQ(tests[0].at("hits"), (Json{{"p50", 0.51}, {"p10", 0.11}, {"p1", 0.02}}));
  EXPECT_FALSE(tests[0].contains("neuron_hits")) << "blocks alone";
  EXPECT_EQ(tests[1].at("hits"), tests[0].at("hits")) << "neurons are none of the blocks";
  EXPECT_NEAR(tests[1].at("neuron_hit_rate").get<double>(), 0.999, 1e-12);
  EXPECT_FALSE(tests[2].contains("latency_ms"));
}

TEST(BenchReport, SequencesThatEndSayHowEvenTheirStepsAre) {
  SpeedResult result;
  result.test = {.n_gen = 4, .n_sequences = 2, .ends = true};  // 2 + 4 tokens
  result.sample_us = {60'000, 60'000};
  for (const int64_t ms : {20, 20, 15, 10, 20, 10, 25, 10}) result.tokens.push_back({.us = 1000 * ms});
  const std::string row = BenchReport(BenchFormat::kTable, MakeSetup()).Row(result, 1);
  EXPECT_THAT(row, HasSubstr("tg4 best of 2"));
  EXPECT_THAT(row, HasSubstr(" 100.0 "));
  EXPECT_THAT(row, ::testing::EndsWith("\n  each sequence 61.54 tok/s; a step takes at most 1.60 times its neighbours, "
                                       "1.60 after one ended\n"));
  BenchReport report(BenchFormat::kJson, MakeSetup());
  report.Row(result, 1);
  const Json test = Json::parse(report.End()).at("tests")[0];
  EXPECT_EQ(test.at("n_sequences"), 2);
  EXPECT_EQ(test.at("ends"), true);
  EXPECT_EQ(test.at("step_ms"), (Json{20.0, 15.0, 20.0, 10.0}));
  EXPECT_NEAR(test.at("most_step_ratio_at_end").get<double>(), 1.6, 1e-9);
}

TEST(BenchReport, JsonWithoutResultsIsStillADocument) {
  EXPECT_TRUE(Json::parse(BenchReport(BenchFormat::kJson, MakeSetup()).End()).at("tests").empty());
}

TEST(BenchReport, JsonLinesStandAlone) {
  BenchReport report(BenchFormat::kJsonLines, MakeSetup());
  const std::string line = report.Row(MakeResult(), 1);
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  EXPECT_EQ(Json::parse(line).at("model").at("file"), "a.gguf");
  EXPECT_EQ(report.Begin() + report.End(), "");
}

// Fields of a line without quoted line breaks.
int64_t CountFields(const std::string& line) {
  bool quoted = false;
  int64_t n = 1;
  for (const char c : line) {
    if (c == '"') quoted = !quoted;
    if (c == ',' && !quoted) ++n;
  }
  return n;
}

TEST(BenchReport, CsvRowsHaveAsManyFieldsAsTheHeader) {
  BenchReport report(BenchFormat::kCsv, MakeSetup());
  const std::string row = report.Row(MakeResult(), 1);
  EXPECT_EQ(CountFields(report.Begin()), CountFields(row));
  EXPECT_THAT(row, HasSubstr("\"A \"\"model\"\", small\""));
  SpeedResult streamed = MakeResult();
  for (TokenSample& token : streamed.tokens) token.cache = token.neurons = {3, 1};
  const std::string with_hits = report.Row(streamed, 1);
  EXPECT_EQ(CountFields(with_hits), CountFields(row));
  EXPECT_THAT(with_hits, ::testing::EndsWith(",0.7500,0.7500,0.7500,0.7500,0.7500,0.7500,0.7500,0.7500\n"));
  SpeedResult prompt = MakeResult();
  prompt.tokens.clear();
  EXPECT_EQ(CountFields(report.Row(prompt, 1)), CountFields(row));
}

TEST(BenchReport, MarkdownNamesCannotBreakTheTable) {
  BenchSetup setup = MakeSetup();
  setup.model.name = "a|b";
  BenchReport report(BenchFormat::kMarkdown, setup);
  const std::string header = report.Begin();
  const std::string row = report.Row(MakeResult(), 1);
  EXPECT_EQ(std::count(header.begin(), header.end(), '|'), 2 * std::count(row.begin(), row.end(), '|'));
}

TEST(ParseBenchFormat, ListsTheFormatsWhenOneIsUnknown) {
  EXPECT_EQ(*ParseBenchFormat("jsonl"), BenchFormat::kJsonLines);
  EXPECT_THAT(std::string(ParseBenchFormat("sql").status().message()),
              HasSubstr("expected table, md, csv, json or jsonl, found 'sql'"));
}

}  // namespace
}  // namespace pantry
