// SPDX-License-Identifier: Apache-2.0
// Replays what Python's jinja2 made of our small templates: scripts/make_jinja_goldens.py.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "support/test_paths.h"
#include "text/jinja/lexer.h"
#include "text/jinja/program.h"
#include "text/jinja/strftime.h"
#include "text/jinja/unicode.h"
#include "text/messages.h"

namespace pantry::jinja {
namespace {

constexpr int64_t kNoonOf2025January15 = 1736942400;

Result<std::string> Render(std::string_view source, const std::string& context, const Limits& limits = {}) {
  PANTRY_ASSIGN_OR_RETURN(const auto program, Program::Parse(source));
  const auto bind = [&](Evaluator& evaluator) {
    const Result<Value> variables = ReadConversation(context, evaluator.heap());
    ASSERT_TRUE(variables.ok());
    for (const auto& [key, value] : variables->dict().entries) evaluator.SetVariable(std::string(key.bytes()), value);
  };
  PANTRY_ASSIGN_OR_RETURN(const MarkedText text, program->Render(bind, kNoonOf2025January15, limits));
  return std::string(text.bytes());
}

TEST(Jinja, GivesWhatPythonGives) {
  const auto goldens =
      nlohmann::ordered_json::parse(testing::ReadFile(testing::TestData("templates/expressions.json")));
  const std::string context = goldens.at("context").dump();
  ASSERT_GE(goldens.at("cases").size(), 150u);
  for (const auto& golden : goldens.at("cases")) {
    const std::string source = golden.at("template");
    SCOPED_TRACE(source);
    const auto text = Render(source, context);
    if (golden.contains("error")) {
      EXPECT_FALSE(text.ok()) << *text << "\ninstead of " << golden.at("error");
      continue;
    }
    EXPECT_TRUE(text.ok()) << text.status().ToString();
    EXPECT_EQ(text.ok() ? *text : "", golden.at("text").get<std::string>());
  }
}

TEST(Jinja, LimitsStopWork) {
  Limits limits;
  limits.max_steps = 1000;
  EXPECT_EQ(Render("{% for i in range(10000) %}{% endfor %}", "{}", limits).status().code(), StatusCode::kOutOfBudget);
  EXPECT_TRUE(Render("{% for i in range(100) %}{% endfor %}", "{}", limits).ok());
}

TEST(Jinja, LineEndsAreNormalised) {
  EXPECT_EQ(NormalizeSource("a\r\nb\rc\n\n"), "a\nb\nc\n");
  EXPECT_EQ(*Render("a\r\n{% if true %}\r\nb{% endif %}\r\n", "{}"), "a\nb");
}

TEST(Jinja, SourceMustBeUtf8) {
  const auto program = Program::Parse("ok\nä\xFF");
  ASSERT_FALSE(program.ok());
  EXPECT_EQ(program.status().message(), "line 2, column 2: not valid UTF-8");
}

TEST(Jinja, ValuesThatChangeAreRefusedWithAWayOut) {
  const auto text = Render("{% set x = [] %}{{ x.append(1) }}", "{}");
  EXPECT_NE(text.status().message().find("namespace"), std::string::npos);
}

TEST(Jinja, OneProgramRendersAnyNumberOfTimes) {
  const auto program = Program::Parse("{% set x = 'abc' %}{{ x }}{{ x + 'd' }}");
  ASSERT_TRUE(program.ok());
  for (int i = 0; i < 3; ++i) EXPECT_EQ((*program)->Render([](Evaluator&) {}, 0)->bytes(), "abcabcd");
}

TEST(FormatTime, KnowsTheCalendar) {
  EXPECT_EQ(FormatTime("%Y-%m-%d %H:%M:%S %A %j", 951782400), "2000-02-29 00:00:00 Tuesday 060");
  EXPECT_EQ(FormatTime("%F %T", -1), "1969-12-31 23:59:59");
  EXPECT_EQ(FormatTime("%G-W%V %g", 1609459200), "2020-W53 20");  // 2021-01-01
  EXPECT_EQ(FormatTime("%I %p %-I %l", 0), "12 AM 12 12");
  EXPECT_EQ(FormatTime("%q %", 0), "%q %");
}

TEST(JinjaUnicode, CountsCharactersNotBytes) {
  EXPECT_EQ(CountChars("aé你😀"), 4u);
  EXPECT_EQ(ByteOfChar("aé你😀", 3), 6u);
  EXPECT_EQ(ByteOfChar("aé", 9), 3u);
  EXPECT_FALSE(IsValidUtf8("\xED\xA0\x80"));
  std::string lower;
  AppendLower(&lower, "ΑΣ ΑΣΑ", 2, 4);
  AppendLower(&lower, "ΑΣ ΑΣΑ", 7, 9);
  EXPECT_EQ(lower, "ςσ");
}

}  // namespace
}  // namespace pantry::jinja
