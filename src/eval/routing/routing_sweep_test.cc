// SPDX-License-Identifier: Apache-2.0
#include "eval/routing/routing_sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"
#include "eval/perplexity.h"
#include "eval/routing/routing_report.h"
#include "eval/routing/routing_run.h"
#include "support/test_paths.h"
#include "support/tiny_engine.h"

namespace pantry {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz";

// A tiny mixture of experts whose first tokens are letters.
std::unique_ptr<Engine> OpenTiny(Logger& log, int n_threads = 1) {
  EngineParts parts;
  parts.pool = std::make_unique<ThreadPool>(n_threads);
  parts.file = testing::OpenGguf(testing::TinyModel("tiny-olmoe"));
  parts.model = Model::Load(*parts.file, BestIsa(), *parts.pool, log, {}).value();
  std::vector<std::string> words(static_cast<size_t>(parts.model->shape().n_vocab), "none");
  for (size_t i = 0; i < kLetters.size(); ++i) words.at(i) = std::string(1, kLetters[i]);
  parts.tokenizer = std::make_unique<testing::WordTokenizer>(std::move(words));
  return Engine::FromParts(std::move(parts), log);
}
std::string RandomText(size_t n_letters) {
  Rng rng(11);
  std::string text;
  for (size_t i = 0; i < n_letters; ++i) text += kLetters[rng.NextU64() % kLetters.size()];
  return text;
}

std::vector<RoutingRow> RowsOf(const RoutingSweep& sweep, const std::string& policy) {
  std::vector<RoutingRow> rows;
  std::ranges::copy_if(sweep.rows, std::back_inserter(rows),
                       [&](const RoutingRow& row) { return row.policy == policy; });
  return rows;
}

TEST(RoutingSweep, NeutralValuesHaveThePerplexityOfThePlainRunToTheLastDigit) {
  NullLogger log;
  const auto engine = OpenTiny(log);
  const std::string text = RandomText(200);
  const PerplexityResult plain = MeasurePerplexity(*engine, text, {.n_ctx = 32}).value();
  const int32_t n_used = engine->shape().n_experts_used;
  RoutingSweepOptions options = {.windows = {.n_ctx = 32}, .cache_shares = {0.5}};
  options.variants = fmt::format("cache-prior:0,max-rank:{},cumulative:0,margin:0,factor:1,drop:0", n_used);
  const auto sweep = MeasureRouting(*engine, text, options);
  ASSERT_TRUE(sweep.ok()) << sweep.status().ToString();
  EXPECT_EQ(sweep->n_windows, plain.n_chunks);
  EXPECT_EQ(sweep->n_tokens, plain.n_tokens);
  EXPECT_EQ(sweep->rows.size(), 8u);  // with exact and Belady
  for (const RoutingRow& row : sweep->rows) {
    EXPECT_EQ(row.ppl, plain.ppl) << row.policy;
    EXPECT_EQ(row.ppl_stderr, plain.ppl_stderr) << row.policy;
    EXPECT_EQ(row.cost, 0) << row.policy;
    EXPECT_EQ(row.agreement, 1) << row.policy;
    EXPECT_EQ(row.gate_mass, 1) << row.policy;
    EXPECT_EQ(row.excess_kl, 0) << row.policy;
    if (row.policy != "belady") {
      EXPECT_EQ(row.miss_rate, sweep->rows.front().miss_rate) << row.policy;
    }
  }
  // And nothing is left behind in the engine.
  EXPECT_EQ(engine->expert_chooser(), nullptr);
  EXPECT_EQ(MeasurePerplexity(*engine, text, {.n_ctx = 32})->ppl, plain.ppl);
}

TEST(RoutingSweep, ABatchGivesWhatSingleTokensGive) {
  NullLogger log;
  const auto engine = OpenTiny(log, 2);
  RoutingSweepOptions options = {.windows = {.n_ctx = 24}, .cache_shares = {0.5}};
  options.variants = "cache-prior:0.3,margin:0.1,drop:0.3,replace:1";
  const std::string text = RandomText(120);
  const auto batched = MeasureRouting(*engine, text, options);
  options.windows.n_batch = 1;
  const auto single = MeasureRouting(*engine, text, options);
  ASSERT_TRUE(batched.ok() && single.ok());
  ASSERT_EQ(batched->rows.size(), single->rows.size());
  for (size_t i = 0; i < single->rows.size(); ++i) {
    const RoutingRow &a = batched->rows[i], &b = single->rows[i];
    EXPECT_EQ(a.miss_rate, b.miss_rate) << a.policy;
    EXPECT_EQ(a.ppl, b.ppl) << a.policy;
    EXPECT_EQ(a.cost_stderr, b.cost_stderr) << a.policy;
    EXPECT_EQ(a.agreement, b.agreement) << a.policy;
    EXPECT_NEAR(a.gate_mass, b.gate_mass, 1e-12) << a.policy;  // summed in another order
    EXPECT_NEAR(a.excess_kl, b.excess_kl, 1e-12) << a.policy;
  }
  EXPECT_GT(RowsOf(*batched, "cache-prior")[0].gate_mass, 0);
  EXPECT_LT(RowsOf(*batched, "cache-prior")[0].agreement, 1);
}

TEST(RoutingSweep, EachVariantDoesWhatItSays) {
  NullLogger log;
  const auto engine = OpenTiny(log);
  RoutingSweepOptions options = {.windows = {.n_ctx = 40}, .cache_shares = {0.75, 0.5}};
  const auto sweep = MeasureRouting(*engine, RandomText(170), options);
  ASSERT_TRUE(sweep.ok()) << sweep.status().ToString();
  const auto exact = RowsOf(*sweep, "exact"), belady = RowsOf(*sweep, "belady");
  ASSERT_EQ(exact.size(), 2u);
  EXPECT_LT(exact[0].capacity, exact[1].capacity);  // by size, however they were given
  EXPECT_GT(exact[0].miss_rate, exact[1].miss_rate);
  for (size_t i = 0; i < 2; ++i) EXPECT_LE(belady[i].miss_rate, exact[i].miss_rate);
  for (const std::string policy : {"cache-prior", "max-rank", "cumulative", "margin", "factor", "drop"}) {
    const auto rows = RowsOf(*sweep, policy);
    ASSERT_GE(rows.size(), 4u) << policy;
    const RoutingRow& strongest = rows[rows.size() - 2];  // with the smaller cache
    EXPECT_LT(strongest.miss_rate, exact[0].miss_rate) << policy;
    EXPECT_LT(strongest.gate_mass, 1) << policy;
    EXPECT_GE(strongest.excess_kl, -std::log(strongest.gate_mass)) << policy;
    EXPECT_NE(strongest.ppl, exact[0].ppl) << policy;
  }
  for (const RoutingRow& row : RowsOf(*sweep, "prune"))
    EXPECT_NEAR(row.agreement, row.value / engine->shape().n_experts_used, 1e-9);
}

TEST(RoutingSweep, StoppedItKeepsWholeWindows) {
  NullLogger log;
  const auto engine = OpenTiny(log);
  RoutingSweepOptions options = {.windows = {.n_ctx = 16}, .cache_shares = {0.5}};
  options.variants = "cache-prior:0.2";
  const std::string text = RandomText(100);
  options.windows.max_chunks = 2;
  const RoutingSweep two = MeasureRouting(*engine, text, options).value();
  EXPECT_TRUE(two.is_complete());
  options.windows.max_chunks = -1;
  const auto stopped = MeasureRouting(*engine, text, options, [](const SweepProgress& progress) {
    EXPECT_LE(progress.n_done, progress.n_total);
    return progress.window < 2 || progress.n_done % 16 < 8;
  });
  ASSERT_TRUE(stopped.ok()) << stopped.status().ToString();
  EXPECT_FALSE(stopped->is_complete());
  EXPECT_EQ(stopped->n_windows, 2);
  ASSERT_EQ(stopped->rows.size(), two.rows.size());
  for (size_t i = 0; i < two.rows.size(); ++i) EXPECT_EQ(stopped->rows[i].ppl, two.rows[i].ppl);
  EXPECT_EQ(MeasureRouting(*engine, text, options, [](const SweepProgress&) { return false; }).status().code(),
            StatusCode::kCancelled);
  EXPECT_EQ(engine->expert_chooser(), nullptr);
}

TEST(RoutingSweep, RefusesWhatItCannotMeasure) {
  NullLogger log;
  const auto engine = OpenTiny(log);
  const auto code = [&](const RoutingSweepOptions& options, size_t n_letters) {
    return MeasureRouting(*engine, RandomText(n_letters), options).status().code();
  };
  EXPECT_EQ(code({.windows = {.n_ctx = 32}}, 40), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.windows = {.n_ctx = 32}, .cache_shares = {}}, 100), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.windows = {.n_ctx = 32}, .cache_shares = {1.5}}, 100), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.windows = {.n_ctx = 32}, .variants = "nonsense"}, 100), StatusCode::kInvalidArgument);
  EXPECT_EQ(ExpertLayersOf(ModelShape()).status().code(), StatusCode::kInvalidArgument);
}

// Routers' logits with the locality of text: a topic that lasts, popularity, and each token's own.
RecordedRouting MadeRecording(int n_tokens) {
  Rng rng(7);
  const auto normal = [&rng] {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += rng.NextDouble();
    return static_cast<float>(sum);
  };
  RecordedRouting recording;
  recording.header = {
      .model = "made", .first_layer = 1, .n_layers = 2, .n_experts = 32, .n_used = 4, .block_bytes = {}};
  std::vector<float> popularity(64), topic(64);
  for (float& x : popularity) x = normal();
  for (int t = 0; t < n_tokens; ++t) {
    if (t % 20 == 0) {
      for (float& x : topic) x = normal();
    }
    for (int layer = 0; layer < 2; ++layer) {
      std::vector<float> logits;
      for (int i = 0; i < 32; ++i) {
        const auto at = static_cast<size_t>(layer) * 32 + static_cast<size_t>(i);
        logits.push_back(1.2f * popularity[at] + 1.2f * topic[at] + 0.7f * normal());
      }
      recording.trace.Add(layer, layer == 0, {}, 1, logits);
    }
  }
  return recording;
}

// Of one choice that is so for sure (expert_policy_test.cc). Over a text, other choices leave other caches, so steps must not be too small.
TEST(ReplayRouting, MissesFallWithStrengthAndGateMassWithThem) {
  const RecordedRouting recording = MadeRecording(600);
  RoutingSweepOptions options = {.cache_shares = {0.25, 0.5}};
  for (int i = 0; i <= 20; ++i) options.variants += fmt::format(",cache-prior:{}", i * 0.05);
  for (const int rank : {4, 6, 8, 12, 20, 32}) options.variants += fmt::format(",max-rank:{}", rank);
  for (const double share : {0.0, 0.5, 0.8, 0.95, 1.0}) options.variants += fmt::format(",cumulative:{}", share);
  for (const double margin : {0.0, 0.02, 0.05, 0.1, 0.2, 0.4}) options.variants += fmt::format(",margin:{}", margin);
  options.variants.erase(0, std::string("all,").size());
  const RoutingSweep sweep = ReplayRouting(recording, options).value();
  EXPECT_TRUE(std::isnan(sweep.rows.front().ppl));
  for (const RoutingRow& exact : RowsOf(sweep, "exact")) {
    for (const std::string policy : {"cache-prior", "max-rank", "cumulative", "margin"}) {
      RoutingRow before = exact;
      for (const RoutingRow& row : RowsOf(sweep, policy)) {
        if (row.capacity != exact.capacity) continue;
        EXPECT_LE(row.miss_rate, before.miss_rate) << policy << row.value;
        EXPECT_LE(row.gate_mass, before.gate_mass) << policy << row.value;
        EXPECT_GE(row.excess_kl, before.excess_kl) << policy << row.value;
        before = row;
      }
      EXPECT_LT(before.miss_rate, 0.8 * exact.miss_rate) << policy;
      EXPECT_GT(before.lifetime, exact.lifetime) << policy;
    }
  }
  for (const std::string policy : {"cache-prior", "margin"}) {
    EXPECT_EQ(RowsOf(sweep, policy)[0].miss_rate, RowsOf(sweep, "exact")[0].miss_rate);
  }
}

TEST(ReplayRouting, ARecordingWithoutLogitsIsRefused) {
  RecordedRouting recording = MadeRecording(3);
  for (RoutingTrace::Event& event : recording.trace.events) event.logits_at = -1;
  EXPECT_EQ(ReplayRouting(recording, {}).status().code(), StatusCode::kInvalidArgument);
}

TEST(FitCost, FindsALineThroughTheOrigin) {
  std::vector<RoutingRow> rows;
  for (const double lost : {0.01, 0.05, 0.2}) {
    RoutingRow row;
    row.policy = "cache-prior";
    row.gate_mass = 1 - lost;
    row.cost = 0.7 * lost;
    rows.push_back(row);
  }
  RoutingRow other;
  other.policy = "prune";  // a yardstick, not a policy
  other.gate_mass = 0.5;
  other.cost = 9;
  rows.push_back(other);
  const CostFit fit = FitCost(rows);
  EXPECT_NEAR(fit.slope, 0.7, 1e-12);
  EXPECT_NEAR(fit.r_squared, 1, 1e-12);
  EXPECT_EQ(fit.n_rows, 3);
  EXPECT_EQ(FitCost({}).n_rows, 0);
}

RoutingSweep MadeSweep() {
  RoutingSweepOptions options = {.cache_shares = {0.25, 0.5}};
  RoutingSweep sweep = ReplayRouting(MadeRecording(60), options).value();
  for (RoutingRow& row : sweep.rows) {  // as if a model had been there
    row.ppl = 10 / row.gate_mass;
    row.cost = 1 / row.gate_mass - 1;
    row.ppl_stderr = row.cost_stderr = 0.1;
  }
  return sweep;
}

TEST(RoutingReport, CsvHasAsManyFieldsInEveryLine) {
  const RoutingSweep sweep = MadeSweep();
  const std::string csv = RoutingCsv(sweep, {.model = "a \"b\"; c", .text = "t", .version = "1"});
  size_t n_lines = 0, n_fields = 0;
  for (size_t begin = 0; begin < csv.size();) {
    const size_t end = csv.find('\n', begin);
    ASSERT_NE(end, std::string::npos);
    const std::string line = csv.substr(begin, end - begin);
    const auto n = static_cast<size_t>(std::ranges::count(line, ','));
    if (n_lines++ == 0) n_fields = n;
    EXPECT_EQ(n, n_fields) << line;
    EXPECT_THAT(line, Not(HasSubstr("nan")));
    begin = end + 1;
  }
  EXPECT_EQ(n_lines, sweep.rows.size() + 1);
  EXPECT_THAT(csv, HasSubstr("\"a \"\"b\"\"; c\""));
  EXPECT_THAT(csv, HasSubstr(",cache-prior,0.1,"));
}

TEST(RoutingReport, ThePageNeedsNothingButItself) {
  const std::string html = RoutingHtml(MadeSweep(), {.model = "<m>", .text = "a&b", .version = "1"});
  for (const std::string outside : {"http", "src=", "href=", "url(", "@import", "<script", "<link"}) {
    EXPECT_THAT(html, Not(HasSubstr(outside))) << outside;
  }
  EXPECT_THAT(html, HasSubstr("&lt;m&gt;"));
  EXPECT_THAT(html, HasSubstr("a&amp;b"));
  EXPECT_THAT(html, Not(HasSubstr("nan")));
  EXPECT_THAT(html, HasSubstr("Belady"));
  size_t n_charts = 0;
  for (size_t at = html.find("<svg"); at != std::string::npos; at = html.find("<svg", at + 1)) ++n_charts;
  EXPECT_EQ(n_charts, 2u * 2 + 2);  // misses and lifetimes of each cache size, ranks, gate mass
}

TEST(RoutingReport, WhatIsNotKnownIsNotWrittenAsANumber) {
  const RoutingSweep replay = ReplayRouting(MadeRecording(60), {.cache_shares = {0.5}}).value();
  const RoutingReportHead head;
  for (const std::string& text : {RoutingTable(replay), RoutingCsv(replay, head), RoutingHtml(replay, head)}) {
    EXPECT_THAT(text, Not(HasSubstr("nan")));
    EXPECT_THAT(text, HasSubstr("belady"));
  }
  RecordedRouting of_one = MadeRecording(60);
  of_one.header.n_used = 1;
  const RoutingSweep nothing_left = ReplayRouting(of_one, {.cache_shares = {0.5}, .variants = "leave-out:1"}).value();
  EXPECT_FALSE(std::isfinite(RowsOf(nothing_left, "leave-out").at(0).excess_kl));
  for (const std::string& text : {RoutingTable(nothing_left), RoutingCsv(nothing_left, head)}) {
    EXPECT_THAT(text, Not(AnyOf(HasSubstr("inf"), HasSubstr("nan"))));
  }
}

TEST(RoutingReport, TheTableHasALineForEachRow) {
  const RoutingSweep sweep = MadeSweep();
  const std::string table = RoutingTable(sweep);
  EXPECT_EQ(static_cast<size_t>(std::ranges::count(table, '\n')), sweep.rows.size() + 1);
  EXPECT_THAT(CostFitText(sweep), HasSubstr("cache-prior: cost = "));
}

}  // namespace
}  // namespace pantry
