// SPDX-License-Identifier: Apache-2.0
#include "weights/gguf/metadata.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace pantry {
namespace {

using ::testing::HasSubstr;

MetadataValue Value(MetadataType type, auto value) {
  MetadataValue out;
  out.type = type;
  out.value = std::move(value);
  return out;
}

MetadataValue ArrayValue(MetadataArray array) {
  return Value(MetadataType::kArray, std::make_unique<MetadataArray>(std::move(array)));
}

Metadata Sample() {
  Metadata metadata;
  metadata.Add("u32", Value(MetadataType::kU32, uint64_t{7}));
  metadata.Add("i8", Value(MetadataType::kI8, int64_t{-3}));
  metadata.Add("huge", Value(MetadataType::kU64, std::numeric_limits<uint64_t>::max()));
  metadata.Add("f32", Value(MetadataType::kF32, double{1e-5f}));
  metadata.Add("bool", Value(MetadataType::kBool, true));
  metadata.Add("text", Value(MetadataType::kString, std::string("hello")));
  MetadataArray array;
  array.element_type = MetadataType::kString;
  array.strings = {"a", "b", "c"};
  metadata.Add("array", ArrayValue(std::move(array)));
  return metadata;
}

TEST(Metadata, GettersConvertBetweenIntegerWidths) {
  const Metadata metadata = Sample();
  EXPECT_EQ(*metadata.GetInt("u32"), 7);
  EXPECT_EQ(*metadata.GetInt("i8"), -3);
  EXPECT_EQ(*metadata.GetInt("bool"), 1);
  EXPECT_EQ(*metadata.GetFloat("u32"), 7.0);
  EXPECT_EQ(*metadata.GetFloat("i8"), -3.0);
  EXPECT_EQ(*metadata.GetFloat("f32"), double{1e-5f});
  EXPECT_EQ(*metadata.GetBool("bool"), true);
  EXPECT_EQ(*metadata.GetString("text"), "hello");
  EXPECT_EQ((*metadata.GetArray("array"))->strings[2], "c");
}

TEST(Metadata, MissingKeyIsNotFoundAndNamed) {
  const Metadata metadata = Sample();
  EXPECT_FALSE(metadata.Has("nope"));
  EXPECT_EQ(metadata.Find("nope"), nullptr);
  const Status status = metadata.GetInt("nope").status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "metadata key 'nope' is missing");
  EXPECT_EQ(metadata.GetArray("nope").status().code(), StatusCode::kNotFound);
}

TEST(Metadata, WrongTypeNamesKeyExpectedAndFound) {
  const Metadata metadata = Sample();
  EXPECT_EQ(metadata.GetInt("text").status().message(), "metadata key 'text': expected an integer, found string");
  EXPECT_EQ(metadata.GetInt("f32").status().message(), "metadata key 'f32': expected an integer, found f32");
  EXPECT_EQ(metadata.GetFloat("bool").status().message(), "metadata key 'bool': expected a number, found bool");
  EXPECT_EQ(metadata.GetBool("u32").status().message(), "metadata key 'u32': expected bool, found u32");
  EXPECT_EQ(metadata.GetString("array").status().message(), "metadata key 'array': expected string, found array");
  EXPECT_EQ(metadata.GetArray("u32").status().message(), "metadata key 'u32': expected array, found u32");
  EXPECT_EQ(metadata.GetInt("text").status().code(), StatusCode::kCorruption);
}

TEST(Metadata, IntegerThatDoesNotFitIsAnErrorNotANegativeNumber) {
  const Status status = Sample().GetInt("huge").status();
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'huge': 18446744073709551615 is too large"));
}

TEST(Metadata, FallbackStandsInForAMissingKeyButNotForAWrongType) {
  const Metadata metadata = Sample();
  EXPECT_EQ(*metadata.GetIntOr("nope", 5), 5);
  EXPECT_EQ(*metadata.GetIntOr("u32", 5), 7);
  EXPECT_EQ(*metadata.GetFloatOr("nope", 0.5), 0.5);
  EXPECT_EQ(*metadata.GetBoolOr("nope", true), true);
  EXPECT_EQ(*metadata.GetStringOr("nope", "x"), "x");
  EXPECT_FALSE(metadata.GetIntOr("text", 5).ok());
  EXPECT_FALSE(metadata.GetFloatOr("text", 5).ok());
  EXPECT_FALSE(metadata.GetBoolOr("text", true).ok());
  EXPECT_FALSE(metadata.GetStringOr("u32", "x").ok());
}

TEST(Metadata, KeyIsAddedOnceAndOrderIsKept) {
  Metadata metadata = Sample();
  EXPECT_FALSE(metadata.Add("u32", Value(MetadataType::kU32, uint64_t{9})));
  EXPECT_EQ(*metadata.GetInt("u32"), 7);
  EXPECT_EQ(metadata.entries().size(), 7u);
  EXPECT_EQ(metadata.entries()[0].key, "u32");
  EXPECT_EQ(metadata.entries()[6].key, "array");
}

TEST(FormatMetadataValue, ShowsScalarsPlainAndStringsQuoted) {
  EXPECT_EQ(FormatMetadataValue(Value(MetadataType::kU64, std::numeric_limits<uint64_t>::max()), 80),
            "18446744073709551615");
  EXPECT_EQ(FormatMetadataValue(Value(MetadataType::kI8, int64_t{-3}), 80), "-3");
  EXPECT_EQ(FormatMetadataValue(Value(MetadataType::kF32, double{1e-5f}), 80), "1e-05");
  EXPECT_EQ(FormatMetadataValue(Value(MetadataType::kF64, 0.1), 80), "0.1");
  EXPECT_EQ(FormatMetadataValue(Value(MetadataType::kBool, false), 80), "false");
  EXPECT_EQ(FormatMetadataValue(Value(MetadataType::kString, std::string("a b")), 80), "\"a b\"");
}

TEST(FormatMetadataValue, LongStringsAreCutAtWholeCharacters) {
  EXPECT_EQ(FormatMetadataValue(Value(MetadataType::kString, std::string("abcdef")), 3), "\"abc...\"");
  EXPECT_EQ(FormatMetadataValue(Value(MetadataType::kString, std::string("aéééé")), 2), "\"aé...\"");
  EXPECT_EQ(FormatMetadataValue(Value(MetadataType::kString, std::string("abc")), 3), "\"abc\"");
}

TEST(FormatMetadataValue, TerminalControlCharactersAreEscaped) {
  const std::string evil = "a\n\x1b[31m\x7f\xff\xc2\x9b\\";
  EXPECT_EQ(FormatMetadataValue(Value(MetadataType::kString, evil), 80), "\"a\\n\\x1b[31m\\x7f\\xff\\xc2\\x9b\\\\\"");
}

TEST(FormatMetadataValue, ArraysTellCountAndTypeAndAreCut) {
  MetadataArray strings;
  strings.element_type = MetadataType::kString;
  strings.strings = {"a", "b", "c"};
  EXPECT_EQ(FormatMetadataValue(ArrayValue(std::move(strings)), 80), "[3 strings] a, b, c");
  MetadataArray one;
  one.element_type = MetadataType::kU32;
  one.integers = {5};
  EXPECT_EQ(FormatMetadataValue(ArrayValue(std::move(one)), 80), "[1 u32] 5");
  MetadataArray many;
  many.element_type = MetadataType::kI32;
  for (int i = 0; i < 1000; ++i) many.integers.push_back(i);
  EXPECT_EQ(FormatMetadataValue(ArrayValue(std::move(many)), 24), "[1000 i32s] 0, 1, 2, 3, ...");
  EXPECT_EQ(FormatMetadataValue(ArrayValue(MetadataArray{}), 80), "[0 u32s]");
  MetadataArray bools;
  bools.element_type = MetadataType::kBool;
  bools.integers = {1, 0};
  EXPECT_EQ(FormatMetadataValue(ArrayValue(std::move(bools)), 80), "[2 bools] true, false");
  MetadataArray floats;
  floats.element_type = MetadataType::kF32;
  floats.floats = {double{0.1f}, -2.0};
  MetadataArray nested;
  nested.element_type = MetadataType::kArray;
  nested.nested.push_back(ArrayValue(std::move(floats)));
  EXPECT_EQ(FormatMetadataValue(ArrayValue(std::move(nested)), 80), "[1 array] [2 f32s] 0.1, -2");
}

}  // namespace
}  // namespace pantry
