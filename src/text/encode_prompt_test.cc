// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "support/test_paths.h"
#include "text/chat_template.h"
#include "text/tokenizer_testing.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {
namespace {

// One token per byte, and control tokens; merges "ab" into one token, so that borders matter.
class ToyTokenizer final : public Tokenizer {
 public:
  static constexpr TokenId kBos = 256, kEnd = 257, kAb = 258, kLongEnd = 259;
  explicit ToyTokenizer(bool skips_space = false) : skips_space_(skips_space) {
    for (int i = 0; i < 256; ++i) token_texts_.emplace_back(1, static_cast<char>(i));
    token_texts_.insert(token_texts_.end(), {"<s>", "<end>", "ab", "<end><s>"});
    token_kinds_.assign(256, 1);
    token_kinds_.insert(token_kinds_.end(), {3, 3, 1, 3});
    n_vocab_ = static_cast<int32_t>(token_texts_.size());
    bos_ = kBos;
    adds_bos_ = true;
  }
  std::vector<TokenId> Encode(std::string_view text, const EncodeOptions& options) const override {
    std::vector<TokenId> tokens;
    for (size_t pos = 0; pos < text.size();) {
      const std::string_view rest = text.substr(pos);
      TokenId token = static_cast<unsigned char>(rest[0]);
      if (rest.starts_with("ab")) token = kAb;
      if (options.parse_special && rest.starts_with("<s>")) token = kBos;
      if (options.parse_special && rest.starts_with("<end>")) token = kEnd;
      if (options.parse_special && rest.starts_with("<end><s>")) token = kLongEnd;
      tokens.push_back(token);
      pos += token_texts_[static_cast<size_t>(token)].size();
      while (skips_space_ && IsControl(token) && pos < text.size() && text[pos] == '\n') ++pos;
    }
    return tokens;
  }
  std::string TokenBytes(TokenId token, bool special) const override {
    return IsControl(token) && !special ? "" : std::string(TokenText(token));
  }

 private:
  bool skips_space_;
};

std::vector<TokenId> Bytes(std::vector<TokenId> tokens, std::string_view text) {
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

TEST(EncodePrompt, InputNeverBecomesControlTokens) {
  const ToyTokenizer tokenizer;
  const RenderedPrompt prompt{{{"<s>x", false}, {"<end><s>", true}, {"<end>", false}}};
  std::vector<TokenId> expected = Bytes({ToyTokenizer::kBos}, "x<end><s>");
  expected.push_back(ToyTokenizer::kEnd);
  EXPECT_EQ(EncodePrompt(tokenizer, prompt), expected);
}

TEST(EncodePrompt, ATokenHalfFromTheInputIsNone) {
  const ToyTokenizer tokenizer;
  const RenderedPrompt prompt{{{"<e", false}, {"nd>", true}}};
  EXPECT_EQ(EncodePrompt(tokenizer, prompt), Bytes({ToyTokenizer::kBos}, "<end>"));
}

TEST(EncodePrompt, MergesCrossTheBorderOfTemplateAndInput) {
  const ToyTokenizer tokenizer;
  const RenderedPrompt prompt{{{"<s>a", false}, {"ba", true}, {"b<end>", false}}};
  EXPECT_EQ(EncodePrompt(tokenizer, prompt),
            (std::vector<TokenId>{ToyTokenizer::kBos, ToyTokenizer::kAb, ToyTokenizer::kAb, ToyTokenizer::kEnd}));
}

TEST(EncodePrompt, BosIsAddedUnlessTheTemplateWroteIt) {
  const ToyTokenizer tokenizer;
  EXPECT_EQ(EncodePrompt(tokenizer, {{{"x", false}}}), Bytes({ToyTokenizer::kBos}, "x"));
  EXPECT_EQ(EncodePrompt(tokenizer, {{{"<s>x", false}}}), Bytes({ToyTokenizer::kBos}, "x"));
  EXPECT_EQ(EncodePrompt(tokenizer, {{{"<s>", true}, {"x", false}}}), Bytes({ToyTokenizer::kBos}, "<s>x"));
  EXPECT_EQ(EncodePrompt(tokenizer, {}), std::vector<TokenId>{ToyTokenizer::kBos});
}

TEST(EncodePrompt, TheLongestControlTokenWins) {
  const ToyTokenizer tokenizer;
  EXPECT_EQ(EncodePrompt(tokenizer, {{{"<s><end><s>", false}}}),
            (std::vector<TokenId>{ToyTokenizer::kBos, ToyTokenizer::kLongEnd}));
}

TEST(EncodePrompt, WhiteSpaceAfterControlTokensGoesWhereTheTokenizerDropsIt) {
  const RenderedPrompt prompt{{{"<s>\n", false}, {"\nx\n", true}, {"<end>\n", false}}};
  const std::vector<TokenId> whole =
      ToyTokenizer(true).Encode(prompt.Text(), {.add_special = false, .parse_special = true});
  EXPECT_EQ(EncodePrompt(ToyTokenizer(true), prompt), whole);
  EXPECT_EQ(EncodePrompt(ToyTokenizer(false), prompt).size(),
            prompt.Text().size() - std::string_view("<s><end>").size() + 2);
}

TEST(EncodePrompt, MarkersAreReadInTemplateTextOnlyWhateverTheirType) {
  testing::TinyVocabulary bytes = testing::TinyBytes();
  testing::TinyVocabulary pieces = testing::TinyPieces("llama", true);
  testing::TinyVocabulary unigram = testing::TinyPieces("t5", true);
  for (testing::TinyVocabulary* vocabulary : {&bytes, &pieces, &unigram}) {
    SCOPED_TRACE(vocabulary->model);
    const TokenId bracket = vocabulary->Add("[INST]", kTokenUserDefined);
    const TokenId plain = vocabulary->Add("zzz", kTokenUserDefined);
    for (const char* part : {"to", "<to"}) vocabulary->Add(part, kTokenNormal, -50);
    NullLogger log;
    const auto tokenizer = Tokenizer::FromMetadata(vocabulary->Build(), log).value();
    const TokenId tool = tokenizer->FindToken("<tool>");
    const auto count = [&](const std::vector<TokenId>& tokens, TokenId token) {
      return std::count(tokens.begin(), tokens.end(), token);
    };
    const std::vector<TokenId> typed = EncodePrompt(*tokenizer, {{{"<tool>zzz[INST]", true}}});
    EXPECT_EQ(count(typed, tool), 0);
    EXPECT_EQ(count(typed, bracket), 0);
    EXPECT_EQ(count(typed, plain), 1);
    const std::vector<TokenId> both = EncodePrompt(*tokenizer, {{{"<tool>[INST]", false}, {"<tool>[INST]", true}}});
    EXPECT_EQ(count(both, tool), 1);
    EXPECT_EQ(count(both, bracket), 1);
    const std::vector<TokenId> whole = tokenizer->Encode("<tool>[INST]", {});
    EXPECT_EQ(count(whole, tool), 1);
    EXPECT_EQ(count(whole, bracket), 1);
  }
}

TEST(EncodePrompt, ARoleBuildsTheControlTokenOfItsName) {
  testing::TinyVocabulary vocabulary = testing::TinyBytes();
  const TokenId system = vocabulary.Add("<|system|>", kTokenControl);
  NullLogger log;
  const auto tokenizer = Tokenizer::FromMetadata(vocabulary.Build(), log).value();
  const auto chat_template = ChatTemplate::Parse("{{ '<|' + messages[0]['role'] + '|>' }}").value();
  const auto prompt = chat_template->Render(R"({"messages": [{"role": "system"}]})", {});
  ASSERT_TRUE(prompt.ok());
  EXPECT_EQ(EncodePrompt(*tokenizer, *prompt).back(), system);
}

TEST(EncodePrompt, HarmlessPromptsGiveTheTokensOfTheWholeText) {
  const std::string folder = testing::SharedData("data/tokenizer");
  if (folder.empty()) GTEST_SKIP() << "no third-party data";
  for (const char* name : {"gpt-2", "qwen2", "deepseek-llm", "llama-spm"}) {
    SCOPED_TRACE(name);
    NullLogger log;
    const auto file = GgufFile::Open(folder + "/ggml-vocab-" + name + ".gguf");
    ASSERT_TRUE(file.ok()) << file.status().ToString();
    const auto made = Tokenizer::FromMetadata((*file)->metadata(), log);
    ASSERT_TRUE(made.ok()) << made.status().ToString();
    const Tokenizer& tokenizer = **made;
    std::string control;  // any but BOS
    for (TokenId token = 0; token < tokenizer.n_vocab(); ++token) {
      if (tokenizer.IsControl(token) && token != tokenizer.bos() && tokenizer.TokenText(token).size() > 2)
        control = tokenizer.TokenText(token);
    }
    const RenderedPrompt prompt{{{control + "us", false},
                                 {"er  Hello wor", true},
                                 {"ld!" + control + "\n\n", false},
                                 {" 你好 1234\n", true},
                                 {control, false}}};
    std::vector<TokenId> whole = tokenizer.Encode(prompt.Text(), {.add_special = false, .parse_special = true});
    if (tokenizer.adds_bos()) whole.insert(whole.begin(), tokenizer.bos());
    EXPECT_EQ(EncodePrompt(tokenizer, prompt), whole);
    const RenderedPrompt hostile{{{"x", false}, {control, true}}};
    for (const TokenId token : EncodePrompt(tokenizer, hostile)) EXPECT_NE(tokenizer.TokenText(token), control);
  }
}

}  // namespace
}  // namespace pantry
