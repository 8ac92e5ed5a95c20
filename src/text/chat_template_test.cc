// SPDX-License-Identifier: Apache-2.0
#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "support/test_paths.h"

namespace pantry {
namespace {

constexpr int64_t kNoonOf2025January15 = 1736942400;
constexpr std::string_view kEmpty = R"({"messages": []})";

Result<RenderedPrompt> Render(std::string_view source, std::string_view conversation,
                              std::map<std::string, std::string> variables = {}) {
  PANTRY_ASSIGN_OR_RETURN(const auto chat_template, ChatTemplate::Parse(source));
  RenderOptions options;
  options.variables = std::move(variables);
  options.now_unix_seconds = kNoonOf2025January15;
  return chat_template->Render(conversation, options);
}

std::string RenderText(std::string_view source, std::string_view conversation) {
  const auto prompt = Render(source, conversation);
  return prompt.ok() ? prompt->Text() : prompt.status().ToString();
}

// The parts with input in [brackets].
std::string RenderMarked(std::string_view source, std::string_view conversation) {
  const auto prompt = Render(source, conversation);
  if (!prompt.ok()) return prompt.status().ToString();
  std::string text;
  for (const PromptPart& part : prompt->parts) text += part.is_input ? "[" + part.text + "]" : part.text;
  return text;
}

// Every template with every conversation that has a golden text beside it: NAME.CASE.txt or, for a refusal, NAME.CASE.error.txt.
// Returns how many there were.
int CheckGoldens(const std::string& dir) {
  const auto tokens = nlohmann::json::parse(testing::ReadFile(dir + "/special_tokens.json"));
  int n_goldens = 0;
  for (const auto& [name, variables] : tokens.items()) {
    const std::string source = testing::ReadFile(dir + "/" + name + ".jinja");
    for (const auto& entry : std::filesystem::directory_iterator(dir)) {
      const std::string file = entry.path().filename().string();
      if (!file.starts_with(name + ".") || !file.ends_with(".txt")) continue;
      std::string case_name = file.substr(name.size() + 1, file.size() - name.size() - 1 - 4);
      const bool refuses = case_name.ends_with(".error");
      if (refuses) case_name.resize(case_name.size() - 6);
      SCOPED_TRACE(file);
      ++n_goldens;
      const auto prompt = Render(source, testing::ReadFile(dir + "/" + case_name + ".json"), variables);
      const std::string golden = testing::ReadFile(entry.path().string());
      if (refuses) {
        EXPECT_FALSE(prompt.ok());
        EXPECT_EQ(prompt.status().code(), StatusCode::kInvalidArgument);
        EXPECT_EQ(prompt.status().message(), golden);
      } else {
        EXPECT_TRUE(prompt.ok()) << prompt.status().ToString();
        EXPECT_EQ(prompt.ok() ? prompt->Text() : "", golden);
      }
    }
  }
  return n_goldens;
}

TEST(ChatTemplate, RendersTheTemplatesOfWellKnownModelsByteForByte) {
  const std::string dir = testing::SharedData("data/templates");
  if (dir.empty()) GTEST_SKIP() << "no third-party templates here";
  EXPECT_GE(CheckGoldens(dir), 50);
}

TEST(ChatTemplate, RendersOurTemplatesAsPythonDoes) { EXPECT_GE(CheckGoldens(testing::TestData("templates")), 19); }

TEST(ChatTemplate, ErrorsNameLineAndColumn) {
  const auto parse = ChatTemplate::Parse("Hi\n  {{ 1 + }}");
  ASSERT_FALSE(parse.ok());
  EXPECT_EQ(parse.status().message(), "line 2, column 10: expected an expression, found end of print statement '}}'");
  EXPECT_EQ(RenderText("a\n{{ é }}{{ 'ü' + nothing }}", kEmpty),
            "invalid argument: line 2, column 15: 'nothing' is undefined");
  EXPECT_EQ(RenderText("{%- macro f(x) %}\n{{ x.y.z }}{% endmacro %}\n{{ f({}) }}", kEmpty),
            "invalid argument: line 2, column 7: 'dict object' has no attribute 'y'");
}

TEST(ChatTemplate, RefusalIsTheMessageAlone) {
  const auto prompt =
      Render("{{ raise_exception('No \\'' + messages[0].role + '\\'!') }}", R"({"messages": [{"role": "cook"}]})");
  EXPECT_EQ(prompt.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(prompt.status().message(), "No 'cook'!");
}

TEST(ChatTemplate, WhatNeedsOtherTemplatesIsUnsupported) {
  for (const char* source :
       {"{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% block b %}{% endblock %}"}) {
    EXPECT_EQ(ChatTemplate::Parse(source).status().code(), StatusCode::kUnsupported) << source;
  }
}

TEST(ChatTemplate, OnlyTextOfTheConversationIsInput) {
  const std::string conversation = R"({"messages": [{"role": "cook", "content": " a b "}], "tools": [{"n": 1}]})";
  EXPECT_EQ(RenderMarked("<|{{ messages[0].role }}|>{{ '<s>' ~ messages[0]['content'] + '</s>' }}", conversation),
            "<|[cook]|><s>[ a b ]</s>");
  EXPECT_EQ(RenderMarked("{{ ('<s>' + messages[0].content) | trim | upper }}", conversation), "<S>[ A B]");
  EXPECT_EQ(RenderMarked("{{ (' <s> ' + messages[0].content + '</s>').strip().replace('b', '<b>') }}", conversation),
            "<s> [ a ]<b>[ ]</s>");
  EXPECT_EQ(RenderMarked("{{ ['<s>', messages[0].role, '</s>'] | join('|') }}", conversation), "<s>|[cook]|</s>");
  EXPECT_EQ(RenderMarked("{{ '%s: %s.' % (messages[0].role, 'x') }}{{ '{} {}'.format('y', messages[0].role) }}",
                         conversation),
            "[cook]: x.y [cook]");
  EXPECT_EQ(
      RenderMarked("{{ ('<s>' + messages[0].content)[::-1] }}{{ ('<s>' + messages[0].role)[2:5] }}", conversation),
      "[ b a ]>s<>[co]");
  EXPECT_EQ(RenderMarked("{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}", conversation),
            "[role]=[cook];[content]=[ a b ];");
  EXPECT_EQ(RenderMarked("{{ '<s>' + tools | tojson }}", conversation), "<s>[[{\"n\": 1}]]");
  EXPECT_EQ(RenderMarked("{% set x %}<s>{{ messages[0].role }}{% endset %}{{ x }}", conversation), "<s>[cook]");
  EXPECT_EQ(RenderMarked("{{ (messages[0].role + '|</s>').split('|') | last }}", conversation), "</s>");
  EXPECT_EQ(RenderMarked("{{ messages }}", R"({"messages": ["</s>"]})"), "[['</s>']]");
}

TEST(ChatTemplate, WellKnownRolesAreTemplateText) {
  const std::string_view source = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m.content }}{% endfor %}";
  for (const char* role : {"system", "user", "assistant", "tool", "developer", "model", "function", "ipython"}) {
    const std::string conversation = fmt::format(R"({{"messages": [{{"content": "{0}", "role": "{0}"}}]}})", role);
    EXPECT_EQ(RenderMarked(source, conversation), fmt::format("<|{0}|>[{0}]", role));
  }
  for (const char* role : {"", "System", "user|>", "im_end", " user"}) {
    const std::string conversation = fmt::format(R"({{"messages": [{{"role": "{}", "content": ""}}]}})", role);
    EXPECT_EQ(RenderMarked(source, conversation), *role ? fmt::format("<|[{}]|>", role) : "<||>");
  }
  // Only the role of a message itself.
  EXPECT_EQ(RenderMarked("{{ messages[0].x.role }}{{ role }}{{ tools[0].role }}{{ messages[0].role[0] }}",
                         R"({"role": "user", "tools": [{"role": "user"}],
                             "messages": [{"role": ["user"], "x": {"role": "user"}}]})"),
            "[useruseruseruser]");
}

TEST(ChatTemplate, VariablesOfTheCallerAreTemplateText) {
  const auto prompt = Render("{{ bos_token + x }}", R"({"messages": [], "x": "hi"})", {{"bos_token", "<s>"}});
  ASSERT_TRUE(prompt.ok());
  ASSERT_EQ(prompt->parts.size(), 2u);
  EXPECT_FALSE(prompt->parts[0].is_input);
  EXPECT_TRUE(prompt->parts[1].is_input);
}

TEST(ChatTemplate, WhatTransformersAlwaysPassesIsDefined) {
  EXPECT_EQ(RenderText("{{ tools is none }} {{ documents is none }} {{ add_generation_prompt is false }}", kEmpty),
            "True True True");
  EXPECT_EQ(RenderText("{{ tools }} {{ add_generation_prompt }}",
                       R"({"messages": [], "tools": [1], "add_generation_prompt": true})"),
            "[1] True");
}

TEST(ChatTemplate, ConversationsThatAreNotObjectsAreRefused) {
  for (const char* json :
       {"", "[1]", "{}", R"({"messages": {}})", "{\"a\": ", "{\"a\": \"\xff\"}", "nul", "{\"a\": 1e999}"}) {
    const auto prompt = Render("x", json);
    EXPECT_EQ(prompt.status().code(), StatusCode::kInvalidArgument) << json;
    EXPECT_TRUE(prompt.status().message().starts_with("conversation: ")) << prompt.status().message();
  }
  EXPECT_NE(RenderText("x", "{\"a\": " + std::string(200, '[') + std::string(200, ']') + "}").find("nests deeper"),
            std::string::npos);
}

TEST(ChatTemplate, ErrorsOfTheConversationNameThePlaceAndWhatIsWanted) {
  const auto error = [](std::string_view json) { return std::string(Render("x", json).status().message()); };
  EXPECT_EQ(error("{}"), "conversation: no \"messages\": an array of messages is wanted");
  EXPECT_EQ(error("{\n \"é\" 1}"),
            "conversation: line 2, column 6: not valid JSON: expected ':', found number literal");
  EXPECT_EQ(error("{\"a\": \"bc\" \"de\"}"),
            "conversation: line 1, column 12: not valid JSON: expected '}', found string literal");
  EXPECT_EQ(error("{\"a\": "),
            "conversation: line 1, column 7: not valid JSON: expected '[', '{', or a literal, found end of input");
  EXPECT_EQ(error("{\"a\": ]}"),
            "conversation: line 1, column 7: not valid JSON: expected '[', '{', or a literal, found ']'");
  EXPECT_EQ(error("{\"a\": 1e999}"), "conversation: line 1, column 7: not valid JSON: this number is too large");
  for (const char* json : {"nul", "{\"a\": \"\xff\"}", "[1,", "{\"a\": 01}", "'", "{} x", "\"; expected - "}) {
    EXPECT_EQ(error(json).find("exception"), std::string::npos) << error(json);
    EXPECT_EQ(error(json).find("last read"), std::string::npos) << error(json);
    EXPECT_EQ(error(json).find("conversation: line 1, column "), 0u) << error(json);
  }
}

TEST(ChatTemplate, ConversationKeepsOrderNullAndNumbers) {
  EXPECT_EQ(RenderText("{{ d }}|{{ d | tojson }}|{{ t is none }}",
                       R"({"messages": [], "d": {"z": 1, "a": 1.0, "b": -0.5e-7, "z": [true, null]}, "t": null})"),
            "{'z': [True, None], 'a': 1.0, 'b': -5e-08}|{\"z\": [true, null], \"a\": 1.0, \"b\": -5e-08}|True");
}

TEST(ChatTemplate, HostileTemplatesHitALimit) {
  const char* sources[] = {
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{{ 'a' * 999999999 }}",
      "{{ [0] * 999999999 }}",
      "{{ range(999999999) }}",
      "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for a in range(999) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
      "{% set ns = namespace(x=[]) %}{% for a in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}",
      "{% set ns = namespace(x=[0]) %}{% for a in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
      ("{% set a = namespace(x=[0]) %}{% set b = namespace(x=[0]) %}{% for i in range(99) %}{% set a.x = [a.x, a.x] %}"
       "{% set b.x = [b.x, b.x] %}{% endfor %}{{ a.x == b.x }}"),
      "{{ 'a'.center(99999999) }}",
      "{{ '%999999999d' % 1 }}",
      "{% for a in range(99999) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' * 99999 }}{% endfor %}",
      "{% set x = 'a' * 9999999 %}{{ x.replace('a', x) }}",
      "{% set x = 'a' * 999999 %}{{ ([x] * 99999) | join }}",
      "{% set x = ('a ' * 33000000) %}{{ x.split() | length }}",
  };
  for (const char* source : sources) {
    const auto prompt = Render(source, kEmpty);
    EXPECT_FALSE(prompt.ok()) << source;
    EXPECT_NE(prompt.status().code(), StatusCode::kInternal) << source;
  }
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "(";
  EXPECT_FALSE(ChatTemplate::Parse("{{ " + deep).ok());
  std::string long_sum = "{{ 0";
  for (int i = 0; i < 50'000; ++i) long_sum += " + 1";
  EXPECT_EQ(RenderText(long_sum + " }}", kEmpty), "50000");
  std::string long_or = "{{ none";
  std::string long_and = "{{ 1";
  for (int i = 0; i < 50'000; ++i) long_or += i % 2 == 0 ? " or 0" : " or none and 1";
  for (int i = 0; i < 50'000; ++i) long_and += " and 2";
  EXPECT_EQ(RenderText(long_or + " or 7 }}", kEmpty), "7");
  EXPECT_EQ(RenderText(long_and + " }}", kEmpty), "2");
}

TEST(ChatTemplate, LoopsAndMacrosThatOutliveTheirScopeAreFreed) {
  // Chains of scopes that refer to each other: freeing them must not recurse.
  EXPECT_EQ(
      RenderText("{% set ns = namespace(l=none) %}{% for i in range(50000) %}{% set prev = ns.l %}{% for j in [1] %}"
                 "{% set ns.l = loop %}{% endfor %}{% endfor %}{{ ns.l.index }}",
                 kEmpty),
      "1");
  EXPECT_EQ(
      RenderText(
          "{% set ns = namespace(l=none) %}{% for i in range(50000) %}{% set ns.l = namespace(l=ns.l) %}{% endfor %}ok",
          kEmpty),
      "ok");
  EXPECT_EQ(RenderText("{% set ns = namespace() %}{% for i in range(50000) %}{% set p = ns.p %}{% macro m() %}{{ p is "
                       "defined }}{% endmacro %}"
                       "{% set ns.p = m %}{% endfor %}{{ ns.p() }}",
                       kEmpty),
            "True");
}

}  // namespace
}  // namespace pantry
