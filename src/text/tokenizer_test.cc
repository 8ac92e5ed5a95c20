// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "support/test_paths.h"
#include "text/tokenizer_testing.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TinyBytes;
using testing::TinyPieces;
using testing::TinyVocabulary;

constexpr EncodeOptions kTextOnly{.add_special = false, .parse_special = false};
constexpr EncodeOptions kWithSpecial{.add_special = false, .parse_special = true};

std::unique_ptr<Tokenizer> Make(const TinyVocabulary& vocabulary) {
  NullLogger log;
  Result<std::unique_ptr<Tokenizer>> made = Tokenizer::FromMetadata(vocabulary.Build(), log);
  EXPECT_TRUE(made.ok()) << made.status().ToString();
  return std::move(made).value();
}

std::unique_ptr<Tokenizer> Load(const std::string& path) {
  NullLogger log;
  Result<std::unique_ptr<GgufFile>> file = GgufFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status().ToString();
  Result<std::unique_ptr<Tokenizer>> made = Tokenizer::FromMetadata((*file)->metadata(), log);
  EXPECT_TRUE(made.ok()) << made.status().ToString();
  return std::move(made).value();
}

std::string Error(const Metadata& metadata) {
  NullLogger log;
  Result<std::unique_ptr<Tokenizer>> made = Tokenizer::FromMetadata(metadata, log);
  return made.ok() ? "" : made.status().ToString();
}

std::vector<TokenId> Ids(const Tokenizer& tokenizer, const std::vector<std::string>& texts) {
  std::vector<TokenId> ids;
  for (const std::string& text : texts) ids.push_back(tokenizer.FindToken(text));
  return ids;
}

void ExpectVectors(const Tokenizer& tokenizer, const std::string& inputs, const std::string& outputs) {
  const std::vector<std::string> texts = testing::SplitTexts(testing::ReadFile(inputs));
  const std::vector<std::vector<TokenId>> ids = testing::SplitIds(testing::ReadFile(outputs));
  ASSERT_GT(texts.size(), 20u);
  ASSERT_EQ(texts.size(), ids.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(tokenizer.Encode(texts[i], kTextOnly), ids[i]) << "text " << i << ": " << texts[i];
  }
}

TEST(Tokenizer, TinyVocabulariesMatchTheToolsThatMadeThem) {
  for (const char* name : {"tiny-bpe", "tiny-spm", "tiny-ugm"}) {
    SCOPED_TRACE(name);
    const std::unique_ptr<Tokenizer> tokenizer = Load(testing::TestData(std::string("tokenizer/") + name + ".gguf"));
    ExpectVectors(*tokenizer, testing::TestData("tokenizer/tiny.inp"),
                  testing::TestData(std::string("tokenizer/") + name + ".out"));
  }
}

TEST(Tokenizer, PublicVocabulariesMatchTheirVectors) {
  const std::string folder = testing::SharedData("data/tokenizer");
  if (folder.empty()) GTEST_SKIP() << "no third-party data";
  for (const char* name : {"gpt-2", "qwen2", "deepseek-llm", "llama-spm"}) {
    SCOPED_TRACE(name);
    const std::string path = folder + "/ggml-vocab-" + name + ".gguf";
    ExpectVectors(*Load(path), path + ".inp", path + ".out");
  }
}

TEST(Tokenizer, MergesFollowTheirRanks) {
  const std::unique_ptr<Tokenizer> tokenizer = Make(TinyBytes());
  EXPECT_EQ(tokenizer->Encode("hello hello", kTextOnly), Ids(*tokenizer, {"hello", "\u0120hello"}));
  EXPECT_EQ(tokenizer->Encode("aaaaaaa", kTextOnly), Ids(*tokenizer, {"aaaa", "aa", "a"}));
  EXPECT_EQ(tokenizer->Encode("help", kTextOnly), Ids(*tokenizer, {"he", "l", "p"}));
}

TEST(Tokenizer, ScoresDecideWhichPiecesMerge) {
  const std::unique_ptr<Tokenizer> tokenizer = Make(TinyPieces("llama", true));
  EXPECT_EQ(tokenizer->Encode("hello", kTextOnly), Ids(*tokenizer, {"\u2581hello"}));
  EXPECT_EQ(tokenizer->Encode("heo", kTextOnly), Ids(*tokenizer, {"\u2581he", "o"}));
}

TEST(Tokenizer, UserTextNeverBecomesControlToken) {
  for (const TinyVocabulary& vocabulary :
       {TinyBytes(), TinyPieces("llama", true), TinyPieces("llama", false), TinyPieces("t5", true)}) {
    const std::unique_ptr<Tokenizer> tokenizer = Make(vocabulary);
    for (const char* text : {"<s>", "</s>", "<|im_end|>", "a</s>b", "<unk>", " <s>hello"}) {
      for (const TokenId id : tokenizer->Encode(text, kTextOnly)) {
        EXPECT_TRUE(!tokenizer->IsControl(id) || id == tokenizer->FindToken("<unk>"))
            << text << " gives " << tokenizer->TokenText(id);
      }
    }
  }
}

TEST(Tokenizer, WholeWordTokenOfControlTypeIsNotMatchedByText) {
  TinyVocabulary vocabulary = TinyBytes();
  vocabulary.pre = "llama-bpe";  // looks whole words up before merging
  const TokenId control = vocabulary.Add("xyz", kTokenControl);
  const TokenId normal = vocabulary.Add("xyzzy");
  const std::unique_ptr<Tokenizer> tokenizer = Make(vocabulary);
  EXPECT_THAT(tokenizer->Encode("xyz", kTextOnly), ::testing::Not(::testing::Contains(control)));
  EXPECT_THAT(tokenizer->Encode("xyzzy", kTextOnly), ElementsAre(normal));
}

TEST(Tokenizer, ControlTokensAreFoundOnlyWhenAskedFor) {
  const std::unique_ptr<Tokenizer> tokenizer = Make(TinyBytes());
  const TokenId end = tokenizer->FindToken("<|im_end|>");
  EXPECT_THAT(tokenizer->Encode("a<|im_end|>a", kWithSpecial),
              ElementsAre('a' - '!' + 33, end, tokenizer->FindToken("a")));
  EXPECT_EQ(tokenizer->Encode("a<|im_end|>a", kTextOnly).size(), 12u);
}

TEST(Tokenizer, UserDefinedTokensAreAlwaysFoundLongestFirst) {
  const std::unique_ptr<Tokenizer> tokenizer = Make(TinyBytes());
  EXPECT_EQ(tokenizer->Encode("a<tool>s<tool>a", kTextOnly), Ids(*tokenizer, {"a", "<tool>s", "<tool>", "a"}));
}

TEST(Tokenizer, BosAndEosAreAddedAsTheFileSays) {
  TinyVocabulary vocabulary = TinyBytes();
  EXPECT_EQ(Make(vocabulary)->Encode("a", {}).size(), 1u);  // byte-level BPE adds none by itself
  vocabulary.pre = "llama-bpe";
  const std::unique_ptr<Tokenizer> llama3 = Make(vocabulary);
  EXPECT_EQ(llama3->Encode("a", {}), Ids(*llama3, {"<s>", "a"}));
  vocabulary.flags = {{"add_bos_token", false}, {"add_eos_token", true}};
  const std::unique_ptr<Tokenizer> flagged = Make(vocabulary);
  EXPECT_EQ(flagged->Encode("a", {}), Ids(*flagged, {"a", "</s>"}));
  EXPECT_EQ(flagged->Encode("a", kTextOnly), Ids(*flagged, {"a"}));
  const std::unique_ptr<Tokenizer> llama2 = Make(TinyPieces("llama", true));
  EXPECT_EQ(llama2->Encode("", {}), Ids(*llama2, {"<s>"}));
}

TEST(Tokenizer, FlagWithoutItsTokenAddsNothingAndSaysSo) {
  TinyVocabulary vocabulary = TinyBytes();
  vocabulary.ids.clear();
  vocabulary.flags = {{"add_bos_token", true}};
  RecordingLogger log;
  Result<std::unique_ptr<Tokenizer>> made = Tokenizer::FromMetadata(vocabulary.Build(), log);
  ASSERT_TRUE(made.ok());
  EXPECT_FALSE((*made)->adds_bos());
  EXPECT_EQ((*made)->Encode("a", {}).size(), 1u);
  ASSERT_EQ(log.lines.size(), 1u);
  EXPECT_THAT(log.lines[0].second, HasSubstr("add_bos_token"));
}

TEST(Tokenizer, AnyBytesSurviveTheRoundTrip) {
  const std::unique_ptr<Tokenizer> bytes = Make(TinyBytes());
  const std::unique_ptr<Tokenizer> pieces = Make(TinyPieces("llama", true));
  std::string all;
  for (int i = 0; i < 256; ++i) all.push_back(static_cast<char>(i));
  for (const std::string& text :
       {all, std::string("a\xFF\xFE hello \xE4\xB8"), std::string("\0 \0", 3), std::string("h\xC3\xA9\xC3")}) {
    EXPECT_EQ(bytes->Decode(bytes->Encode(text, kTextOnly), false), text);
    EXPECT_EQ(pieces->Decode(pieces->Encode(text, kTextOnly), false), text);
  }
}

TEST(Tokenizer, VocabularyWithoutBytesUsesTheUnknownToken) {
  const std::unique_ptr<Tokenizer> tokenizer = Make(TinyPieces("llama", false));
  EXPECT_EQ(tokenizer->Encode("h\u4e16x", kTextOnly), Ids(*tokenizer, {"\u2581h", "世", "<unk>"}));
}

TEST(Tokenizer, UnknownTokenThatIsNotOneIsNeverMadeFromText) {
  TinyVocabulary vocabulary = TinyBytes();
  vocabulary.tokens['A' - '!'] = "no longer A";  // bytes are not in order of their values, but this one is some byte
  vocabulary.ids.emplace_back("unknown_token_id",
                              vocabulary.ids[0].second);  // the control token <s>, as some files have it
  const std::unique_ptr<Tokenizer> tokenizer = Make(vocabulary);
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_THAT(tokenizer->Encode(std::string(1, static_cast<char>(byte)), kTextOnly),
                ::testing::Not(::testing::Contains(tokenizer->bos())));
  }
}

TEST(Tokenizer, SpacePrefixComesBeforeTheFirstWordAndAfterSpecialTokens) {
  const std::unique_ptr<Tokenizer> tokenizer = Make(TinyPieces("llama", true));
  EXPECT_TRUE(tokenizer->strips_leading_space());
  EXPECT_EQ(tokenizer->Encode("hello</s>hello", kWithSpecial), Ids(*tokenizer, {"\u2581hello", "</s>", "\u2581hello"}));
  EXPECT_EQ(tokenizer->Decode(Ids(*tokenizer, {"<s>", "\u2581hello", "\u2581hello"}), false), "hello hello");
  TinyVocabulary vocabulary = TinyPieces("llama", true);
  vocabulary.flags = {{"add_space_prefix", false}};
  const std::unique_ptr<Tokenizer> bare = Make(vocabulary);
  EXPECT_EQ(bare->Encode("he", kTextOnly), Ids(*bare, {"he"}));
  EXPECT_EQ(bare->Decode(Ids(*bare, {"\u2581he"}), false), " he");
}

TEST(Tokenizer, Phi3DropsSpacesAfterSpecialTokens) {
  const TinyVocabulary vocabulary = TinyPieces("llama", true);
  Metadata metadata = vocabulary.Build();
  metadata.Add("general.name", testing::Value(std::string("Phi-3-mini")));
  NullLogger log;
  Result<std::unique_ptr<Tokenizer>> made = Tokenizer::FromMetadata(metadata, log);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ((*made)->Encode("</s>\n hello", kWithSpecial), Ids(**made, {"</s>", "\u2581hello"}));
  EXPECT_EQ((*made)->Encode("<s> hello", kWithSpecial), Ids(**made, {"<s>", "\u2581\u2581", "he", "ll", "o"}));
}

TEST(Tokenizer, ControlTokensDecodeToNothingUnlessAskedFor) {
  const std::unique_ptr<Tokenizer> tokenizer = Make(TinyBytes());
  const std::vector<TokenId> ids = Ids(*tokenizer, {"<s>", "hello", "<tool>", "</s>"});
  EXPECT_EQ(tokenizer->Decode(ids, false), "hello<tool>");
  EXPECT_EQ(tokenizer->Decode(ids, true), "<s>hello<tool></s>");
  EXPECT_EQ(tokenizer->TokenBytes(-1, true), "");
  EXPECT_EQ(tokenizer->TokenBytes(tokenizer->n_vocab(), true), "");
  EXPECT_EQ(tokenizer->TokenText(-5), "");
}

TEST(Tokenizer, WellKnownMarkersEndGeneration) {
  TinyVocabulary vocabulary = TinyBytes();
  const TokenId eot = vocabulary.Add("<|eot_id|>");  // typed as text by mistake
  vocabulary.ids.emplace_back("eom_token_id", 7);
  const std::unique_ptr<Tokenizer> tokenizer = Make(vocabulary);
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(eot));
  EXPECT_TRUE(tokenizer->IsControl(eot));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(7));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(tokenizer->eos()));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(tokenizer->FindToken("<|im_end|>")));
  EXPECT_FALSE(tokenizer->IsEndOfGeneration(tokenizer->FindToken("a")));
  EXPECT_TRUE(std::is_sorted(tokenizer->end_of_generation().begin(), tokenizer->end_of_generation().end()));
}

TEST(Tokenizer, HarmonyMessagesEndWithoutEndingTheAnswer) {
  TinyVocabulary vocabulary = TinyBytes();
  for (const char* text : {"<|end|>", "<|return|>", "<|call|>"}) vocabulary.Add(text, kTokenControl);
  const std::unique_ptr<Tokenizer> tokenizer = Make(vocabulary);
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(tokenizer->FindToken("<|return|>")));
  EXPECT_FALSE(tokenizer->IsEndOfGeneration(tokenizer->FindToken("<|end|>")));
}

TEST(Tokenizer, HtmlTagIsNoEndOfSentence) {
  TinyVocabulary vocabulary = TinyBytes();
  vocabulary.ids.clear();
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    if (vocabulary.tokens[i] == "</s>") vocabulary.kinds[i] = kTokenNormal;
  }
  const std::unique_ptr<Tokenizer> tokenizer = Make(vocabulary);
  EXPECT_FALSE(tokenizer->IsEndOfGeneration(tokenizer->FindToken("</s>")));
}

TEST(Tokenizer, UnknownPreTokenizerIsAWarningWithAStatedFallback) {
  TinyVocabulary vocabulary = TinyBytes();
  vocabulary.pre = "model-of-next-year";
  RecordingLogger log;
  Result<std::unique_ptr<Tokenizer>> made = Tokenizer::FromMetadata(vocabulary.Build(), log);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ((*made)->pre_tokenizer(), "gpt-2");
  ASSERT_EQ(log.lines.size(), 1u);
  EXPECT_EQ(log.lines[0].first, LogLevel::kWarning);
  EXPECT_THAT(log.lines[0].second, HasSubstr("model-of-next-year"));
  EXPECT_THAT(log.lines[0].second, HasSubstr("'gpt-2'"));
}

TEST(Tokenizer, MegabyteOfOneCharacterTakesLinearTime) {
  for (const TinyVocabulary& vocabulary : {TinyBytes(), TinyPieces("llama", true), TinyPieces("t5", true)}) {
    const std::unique_ptr<Tokenizer> tokenizer = Make(vocabulary);
    for (const char c : {'a', ' ', '1', '.', '\n'}) {
      const std::string text(1 << 20, c);
      const auto start = std::chrono::steady_clock::now();
      const std::vector<TokenId> ids = tokenizer->Encode(text, kTextOnly);
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      EXPECT_EQ(tokenizer->Decode(ids, false), text);
      EXPECT_LT(seconds.count(), 60.0);  // a tenth of a second where nothing else runs; a quadratic loop takes hours
    }
  }
}

TEST(Tokenizer, HostileMetadataIsAStatusThatNamesTheKey) {
  EXPECT_THAT(Error(Metadata()), HasSubstr("not found: tokenizer.ggml.model"));
  struct Case {
    const char* expected;
    void (*spoil)(TinyVocabulary&);
  };
  const Case bytes_cases[] = {
      {"tokenizer.ggml.model: 'wordpiece'", [](TinyVocabulary& v) { v.model = "wordpiece"; }},
      {"tokenizer.ggml.tokens: no tokens",
       [](TinyVocabulary& v) {
         v.tokens.clear();
         v.kinds.clear();
         v.ids.clear();
       }},
      {"tokenizer.ggml.token_type: expected 271 integers", [](TinyVocabulary& v) { v.kinds.pop_back(); }},
      {"tokenizer.ggml.token_type: token 3 has type 99", [](TinyVocabulary& v) { v.kinds[3] = 99; }},
      {"tokenizer.ggml.tokens: tokens 65 and 66 are both 'x'",
       [](TinyVocabulary& v) {
         v.tokens[65] = v.tokens[66] = "x";
         v.tokens['x'] = "q1";
       }},
      {"tokenizer.ggml.tokens: token 1 has 70000 bytes",
       [](TinyVocabulary& v) { v.tokens[1] = std::string(70000, 'x'); }},
      {"tokenizer.ggml.bos_token_id: token 4000000000 does not exist",
       [](TinyVocabulary& v) { v.ids[0].second = 4000000000u; }},
      {"tokenizer.ggml.eot_token_id: token 271 does not exist",
       [](TinyVocabulary& v) { v.ids.emplace_back("eot_token_id", 271); }},
      {"tokenizer.ggml.merges: merge 0 is 'ab'", [](TinyVocabulary& v) { v.merges[0] = "ab"; }},
      {"tokenizer.ggml.merges: merge 1 is ''", [](TinyVocabulary& v) { v.merges[1] = ""; }},
      {"tokenizer.ggml.merges: merge 1 is 'a '", [](TinyVocabulary& v) { v.merges[1] = "a "; }},
      {"tokenizer.ggml.merges: merge 1 is ' a'", [](TinyVocabulary& v) { v.merges[1] = " a"; }},
  };
  for (const Case& one : bytes_cases) {
    TinyVocabulary vocabulary = TinyBytes();
    one.spoil(vocabulary);
    EXPECT_THAT(Error(vocabulary.Build()), HasSubstr(one.expected));
  }
  TinyVocabulary pieces = TinyPieces("llama", true);
  pieces.scores.pop_back();
  EXPECT_THAT(Error(pieces.Build()), HasSubstr("tokenizer.ggml.scores: expected"));
  pieces.scores.push_back(std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(Error(pieces.Build()), HasSubstr("expected a finite number"));
  Metadata without_merges;
  without_merges.Add("tokenizer.ggml.model", testing::Value(std::string("gpt2")));
  without_merges.Add("tokenizer.ggml.tokens", testing::Value(std::vector<std::string>{"a"}));
  EXPECT_THAT(Error(without_merges), HasSubstr("tokenizer.ggml.merges: missing"));
  Metadata numbers;
  numbers.Add("tokenizer.ggml.model", testing::Value(std::string("gpt2")));
  numbers.Add("tokenizer.ggml.tokens", testing::Value(std::vector<int64_t>{1, 2}));
  EXPECT_THAT(Error(numbers), HasSubstr("tokenizer.ggml.tokens: expected an array of strings"));
}

TEST(Tokenizer, EmptyTokensAreSaidAndDecodeToNothing) {
  TinyVocabulary vocabulary = TinyBytes();
  const TokenId empty = vocabulary.Add("");
  vocabulary.Add("");
  RecordingLogger log;
  Result<std::unique_ptr<Tokenizer>> made = Tokenizer::FromMetadata(vocabulary.Build(), log);
  ASSERT_TRUE(made.ok());
  ASSERT_EQ(log.lines.size(), 1u);
  EXPECT_THAT(log.lines[0].second, HasSubstr("2 of 273 tokens are empty"));
  EXPECT_EQ((*made)->TokenBytes(empty, true), "");
  EXPECT_EQ((*made)->FindToken(""), kNoToken);
}

TEST(Tokenizer, MergesOfStringsThatAreNoTokensFallApartIntoBytes) {
  TinyVocabulary vocabulary = TinyBytes();
  vocabulary.merges = {"x y", "xy z"};  // "xy" and "xyz" are no tokens
  const std::unique_ptr<Tokenizer> tokenizer = Make(vocabulary);
  EXPECT_EQ(tokenizer->Encode("xyz", kTextOnly), Ids(*tokenizer, {"x", "y", "z"}));
}

TEST(Tokenizer, UnigramTakesTheBestPath) {
  TinyVocabulary vocabulary = TinyPieces("t5", true);
  vocabulary.Add("\u2581ab", kTokenNormal, -5);
  vocabulary.Add("\u2581abc", kTokenNormal, -20);
  vocabulary.Add("c", kTokenNormal, -6);
  const std::unique_ptr<Tokenizer> tokenizer = Make(vocabulary);
  EXPECT_EQ(tokenizer->Encode("abc", kTextOnly), Ids(*tokenizer, {"\u2581ab", "c"}));
  EXPECT_TRUE(tokenizer->adds_eos());
}

TEST(Tokenizer, ExtraWhitespaceGoesWhereTheFileSaysSo) {
  TinyVocabulary vocabulary = TinyPieces("t5", true);
  vocabulary.flags.emplace_back("remove_extra_whitespaces", true);
  const std::unique_ptr<Tokenizer> tokenizer = Make(vocabulary);
  EXPECT_EQ(tokenizer->Encode("  hello   hello ", kTextOnly), Ids(*tokenizer, {"\u2581hello", "\u2581hello"}));
  EXPECT_THAT(tokenizer->Encode("   ", kTextOnly), IsEmpty());
}

}  // namespace
}  // namespace pantry
