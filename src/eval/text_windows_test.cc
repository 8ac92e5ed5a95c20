// SPDX-License-Identifier: Apache-2.0
#include "eval/text_windows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "engine/scripted_engine.h"
#include "eval/log_softmax.h"
#include "support/tiny_engine.h"

namespace pantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<std::string> kWords = {"a", "b", "c", "d"};

TEST(WindowOptions, RefusesWindowsThatScoreNothing) {
  EXPECT_TRUE(WindowOptions().Validate().ok());
  for (const WindowOptions& wrong : {WindowOptions{.n_ctx = 3}, WindowOptions{.n_ctx = int64_t{1} << 31},
                                     WindowOptions{.max_chunks = 0}, WindowOptions{.max_chunks = -2}}) {
    EXPECT_EQ(wrong.Validate().code(), StatusCode::kInvalidArgument);
  }
}

TEST(EncodeWindows, DropsARestAndWhatIsBeyondTheMost) {
  NullLogger log;
  const auto scripted = testing::MakeScriptedEngine(kWords, {}, log);
  const auto encode = [&](const WindowOptions& options) {
    return EncodeWindows(*scripted.engine, "abcdabcdabc", options, 1).value();
  };
  EXPECT_THAT(encode({.n_ctx = 4}), ElementsAre(0, 1, 2, 3, 0, 1, 2, 3));
  EXPECT_THAT(encode({.n_ctx = 4, .max_chunks = 1}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(encode({.n_ctx = 5, .max_chunks = 9}), ElementsAre(0, 1, 2, 3, 0, 1, 2, 3, 0, 1));
}

TEST(EncodeWindows, EachBeginsWithBosWhereTheModelAddsOne) {
  NullLogger log;
  const auto scripted = testing::MakeScriptedEngine({"a", "b", "<bos>"}, {}, log);
  const auto tokens = EncodeWindows(*scripted.engine, "bbbbbbb", {.n_ctx = 4}, 2);
  ASSERT_TRUE(tokens.ok()) << tokens.status().ToString();
  EXPECT_THAT(*tokens, ElementsAre(2, 1, 1, 1, 2, 1, 1, 1));
}

TEST(EncodeWindows, SaysHowManyTokensAreNeeded) {
  NullLogger log;
  const auto scripted = testing::MakeScriptedEngine(kWords, {}, log);
  const auto refusal = [&](int64_t n_ctx, int64_t n_least) {
    const Status status = EncodeWindows(*scripted.engine, "abcdabc", {.n_ctx = n_ctx}, n_least).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(refusal(4, 2), HasSubstr("the text has 7 tokens, two windows of 4 need 8"));
  EXPECT_THAT(refusal(8, 1), HasSubstr("the text has 7 tokens, a window has 8"));
}

TEST(EncodeWindows, RefusesTokensThatTheModelDoesNotHaveEvenInTheRest) {
  NullLogger log;
  const auto scripted = testing::MakeScriptedEngine(kWords, {}, log, 256, nullptr, /*n_model_vocab=*/3);
  EXPECT_TRUE(EncodeWindows(*scripted.engine, "abcabc", {.n_ctx = 4}, 1).ok());
  const Status status = EncodeWindows(*scripted.engine, "abcabd", {.n_ctx = 4}, 1).status();
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(status.message()), HasSubstr("token 3, the model has only 3"));
}

using Row = std::tuple<int64_t, TokenId, TokenId>;  // its number, what follows in the text, what the model likes best

// The script's model likes script[p] best after position p.
TEST(VisitWindows, RowsAreTheSecondHalvesAndCountThroughAllWindows) {
  NullLogger log;
  const auto scripted = testing::MakeScriptedEngine(kWords, {{3, 2}, {4, 0}, {5, 1}}, log);
  const std::vector<TokenId> tokens = {0, 1, 2, 3, 0, 1, 2, 3, 3, 2, 1, 0};
  std::vector<Row> rows;
  std::vector<int64_t> windows;
  int64_t n_last = 0;
  const auto visit = [&](int64_t row, TokenId next, std::span<const float> logits) {
    rows.emplace_back(row, next, BestToken(logits));
    return OkStatus();
  };
  const auto keep_going = [&](int64_t n_done, int64_t n_total) {
    EXPECT_GE(n_done, n_last);
    EXPECT_EQ(n_total, 12);
    n_last = n_done;
    return true;
  };
  const auto on_window = [&](int64_t n_done, int64_t n_total) {
    EXPECT_EQ(n_total, 2);
    EXPECT_EQ(rows.size(), static_cast<size_t>(2 * n_done));
    windows.push_back(n_done);
    return OkStatus();
  };
  const Status status =
      VisitWindows(*scripted.engine, tokens, {.n_ctx = 6}, visit, {.keep_going = keep_going, .on_window = on_window});
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_THAT(rows, ElementsAre(Row(0, 0, 2), Row(1, 1, 0), Row(2, 1, 2), Row(3, 0, 0)));
  EXPECT_THAT(windows, ElementsAre(1, 2));
  EXPECT_EQ(n_last, 11);  // the last token of a window is not fed
}

TEST(VisitWindows, AnErrorOfAVisitorEndsItWhetherWatchedOrNot) {
  NullLogger log;
  const auto scripted = testing::MakeScriptedEngine(kWords, {}, log);
  const std::vector<TokenId> tokens(24, 1);
  for (const bool is_watched : {false, true}) {
    WindowCallbacks callbacks;
    if (is_watched) callbacks.keep_going = [](int64_t, int64_t) { return true; };
    std::vector<int64_t> rows;
    const auto visit = [&](int64_t row, TokenId, std::span<const float>) {
      rows.push_back(row);
      return row < 4 ? OkStatus() : NoProbabilities();
    };
    const Status status = VisitWindows(*scripted.engine, tokens, {.n_ctx = 8}, visit, callbacks);
    EXPECT_EQ(status.code(), StatusCode::kCorruption);
    EXPECT_THAT(rows, ElementsAre(0, 1, 2, 3, 4));
  }
}

TEST(VisitWindows, StopsWhereItIsToldTo) {
  NullLogger log;
  const auto scripted = testing::MakeScriptedEngine(kWords, {}, log);
  const std::vector<TokenId> tokens(24, 1);
  int64_t n_rows = 0;
  const auto visit = [&](int64_t, TokenId, std::span<const float>) {
    ++n_rows;
    return OkStatus();
  };
  const auto keep_going = [](int64_t n_done, int64_t) { return n_done <= 8; };
  EXPECT_EQ(VisitWindows(*scripted.engine, tokens, {.n_ctx = 8}, visit, {.keep_going = keep_going}).code(),
            StatusCode::kCancelled);
  EXPECT_EQ(n_rows, 3);
  n_rows = 0;
  const auto on_window = [](int64_t n_done, int64_t) { return n_done < 2 ? OkStatus() : CancelledError("enough"); };
  const Status status =
      VisitWindows(*scripted.engine, tokens, {.n_ctx = 8}, visit, {.keep_going = {}, .on_window = on_window});
  EXPECT_EQ(status.message(), "enough");
  EXPECT_EQ(n_rows, 6);
}

// Twice the same window, with room for all: without forgetting, the second would find all of its experts in memory.
TEST(VisitWindows, UnderAPolicyEachBeginsWithNothingInMemory) {
  NullLogger log;
  testing::StreamSetup setup;
  setup.expert_policy.policy = ParseExpertPolicy("cache-prior:0.5").value();
  const auto engine = testing::OpenTinyEngine(testing::TinyModel("tiny-qwen3moe-quantized"), &setup, log);
  if (engine == nullptr) GTEST_SKIP() << "this system cannot stream";
  const std::vector<TokenId> window = testing::RandomTokens(*engine, 32);
  std::vector<TokenId> tokens = window;
  tokens.insert(tokens.end(), window.begin(), window.end());
  std::vector<int64_t> n_misses;
  const auto on_window = [&](int64_t, int64_t) {
    n_misses.push_back(engine->stream()->stats().cache.n_misses);
    return OkStatus();
  };
  const auto visit = [](int64_t, TokenId, std::span<const float>) { return OkStatus(); };
  const Status status =
      VisitWindows(*engine, tokens, {.n_ctx = 32, .n_batch = 1}, visit, {.keep_going = {}, .on_window = on_window});
  ASSERT_TRUE(status.ok()) << status.ToString();
  ASSERT_EQ(n_misses.size(), 2u);
  EXPECT_GT(n_misses[0], 0);
  EXPECT_GT(n_misses[1], n_misses[0]);
}

}  // namespace
}  // namespace pantry
