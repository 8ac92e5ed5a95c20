// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "support/test_paths.h"
#include "text/tokenizer.h"
#include "text/tokenizer_testing.h"

namespace pantry {
namespace {

using testing::TinyBytes;
using testing::TinyPieces;
using testing::TinyVocabulary;

constexpr EncodeOptions kTextOnly{.add_special = false, .parse_special = false};

std::unique_ptr<Tokenizer> Make(const TinyVocabulary& vocabulary) {
  NullLogger log;
  Result<std::unique_ptr<Tokenizer>> made = Tokenizer::FromMetadata(vocabulary.Build(), log);
  EXPECT_TRUE(made.ok()) << made.status().ToString();
  return std::move(made).value();
}

TEST(StreamDecoder, NeverEmitsHalfACharacter) {
  const std::unique_ptr<Tokenizer> tokenizer = Make(TinyBytes());
  StreamDecoder decoder(*tokenizer);
  const std::string text = "é世🚀x";
  std::string out;
  for (const char c : text) {
    const std::string piece = decoder.Feed(tokenizer->Encode(std::string(1, c), kTextOnly)[0]);
    EXPECT_EQ(ValidUtf8Prefix(piece), piece.size());
    out += piece;
  }
  EXPECT_EQ(out, text);
  EXPECT_EQ(decoder.Finish(), "");
}

std::string StreamBytes(const Tokenizer& tokenizer, std::string_view bytes) {
  StreamDecoder decoder(tokenizer);
  std::string out;
  for (const char c : bytes) out += decoder.Feed(tokenizer.Encode(std::string(1, c), kTextOnly)[0]);
  return out + decoder.Finish();
}

TEST(StreamDecoder, EveryMaximalBrokenPartBecomesOneReplacementCharacter) {
  const std::unique_ptr<Tokenizer> tokenizer = Make(TinyBytes());
  // Unicode 15, table 3-8 and the examples around it.
  EXPECT_EQ(StreamBytes(*tokenizer,
                        "a\xF1\x80\x80\xE1\x80\xC2"
                        "b\x80"
                        "c\x80\xBF"
                        "d"),
            "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
  EXPECT_EQ(StreamBytes(*tokenizer, "\xC0\xAF\xED\xA0\x80\xF4\x91"), "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(StreamBytes(*tokenizer, "x\xE4\xB8"), "x\uFFFD");
}

TEST(StreamDecoder, StripsTheSpaceBeforeTheFirstWordOnly) {
  const std::unique_ptr<Tokenizer> tokenizer = Make(TinyPieces("llama", true));
  StreamDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.Feed(tokenizer->bos()), "");
  EXPECT_EQ(decoder.Feed(tokenizer->FindToken("\u2581hello")), "hello");
  EXPECT_EQ(decoder.Feed(tokenizer->FindToken("\u2581hello")), " hello");
}

TEST(StreamDecoder, TextThatContinuesKeepsItsFirstSpace) {
  const std::unique_ptr<Tokenizer> tokenizer = Make(TinyPieces("llama", true));
  StreamDecoder decoder(*tokenizer, /*special=*/false, /*continues_text=*/true);
  EXPECT_EQ(decoder.Feed(tokenizer->FindToken("\u2581hello")), " hello");
  EXPECT_EQ(decoder.Finish(), "");
  EXPECT_EQ(decoder.Feed(tokenizer->FindToken("\u2581hello")), " hello");
}

TEST(StreamDecoder, GivesTheTextThatWasEncoded) {
  const std::unique_ptr<Tokenizer> tokenizer = Make(TinyBytes());
  const std::string text = testing::ReadFile(testing::TestData("tokenizer/words.inp"));
  StreamDecoder decoder(*tokenizer);
  std::string out;
  for (const TokenId id : tokenizer->Encode(text, kTextOnly)) out += decoder.Feed(id);
  EXPECT_EQ(out + decoder.Finish(), text);
}

}  // namespace
}  // namespace pantry
