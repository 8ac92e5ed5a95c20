// SPDX-License-Identifier: Apache-2.0
// A table of files that must not open, with what the user is told: which file, where in it, expected and found, how to
// mend it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "weights/gguf/gguf_file.h"
#include "weights/gguf/gguf_test_builder.h"

namespace pantry {
namespace {

using testing::Bytes;
using testing::GgufBuilder;
using File = std::vector<uint8_t>;

struct BadFile {
  const char* name;
  std::function<File()> make;
  StatusCode code;
  std::vector<std::string> message_has;
};

std::ostream& operator<<(std::ostream& out, const BadFile& bad) { return out << bad.name; }

File TextFile(std::string_view text, size_t n_zeros = 100) {
  return Bytes().Text(text).Text(std::string(n_zeros, '\0')).Take();
}
File Cut(File file, size_t n_bytes) {
  file.resize(n_bytes);
  return file;
}
uint32_t Number(MetadataType type) { return static_cast<uint32_t>(type); }
GgufBuilder TwoTensors() {
  return GgufBuilder().Tensor("good", {32}, TensorType::kF32).Tensor("blk.7.ffn_down.weight", {64}, TensorType::kF32);
}
Bytes NestedArrays(int depth) {
  Bytes bytes = GgufBuilder::ArrayHead("deep", MetadataType::kArray, 1);
  for (int i = 0; i < depth; ++i) bytes.U32(Number(MetadataType::kArray)).U64(1);
  return bytes.U32(Number(MetadataType::kU8)).U64(0).U64(0);
}
constexpr StatusCode kBad = StatusCode::kCorruption;
constexpr StatusCode kUnsupported = StatusCode::kUnsupported;
constexpr char kAgain[] = "download it again";
constexpr char kMend[] = "the file is damaged: download or convert it again";

const std::vector<BadFile>& BadFiles() {
  static const std::vector<BadFile> files = {
      // Not GGUF at all.
      {"Empty", [] { return File(); }, kBad, {"'bad.gguf' is empty (0 bytes)", kAgain}},
      {"TwoBytes", [] { return TextFile("GG", 0); }, kBad, {"'bad.gguf' is not a GGUF file", "found 47 47)"}},
      {"Zip",
       [] { return TextFile("PK\x03\x04"); },
       kUnsupported,
       {"magic 47 47 55 46 at offset 0, found 50 4b 03 04", "zip archive", "convert_hf_to_gguf.py"}},
      {"Pickle",
       [] { return TextFile("\x80\x02}q"); },
       kUnsupported,
       {"pickle: a PyTorch checkpoint", "convert_hf_to_gguf.py"}},
      {"Safetensors",
       [] { return Bytes().U64(90).Text("{\"a\":").Text(std::string(200, ' ')).Take(); },
       kUnsupported,
       {"safetensors", "convert_hf_to_gguf.py"}},
      {"LegacyGgml", [] { return TextFile("lmgg"); }, kUnsupported, {"legacy GGML", "download the model's GGUF"}},
      {"LegacyGgjt", [] { return TextFile("tjgg\x03"); }, kUnsupported, {"GGJT"}},
      {"Html",
       [] { return TextFile("<!DOCTYPE html><html>"); },
       kUnsupported,
       {"web page (HTML)", "download it again"}},
      {"GitLfsPointer",
       [] { return TextFile("version https://git-lfs.github.com/spec/v1\n", 0); },
       kUnsupported,
       {"Git LFS pointer", "git lfs pull"}},
      {"JsonError",
       [] { return TextFile("{\"error\":\"not found\"}", 0); },
       kUnsupported,
       {"JSON", "the server sent a page"}},
      {"Gzip", [] { return TextFile("\x1f\x8b\x08"); }, kUnsupported, {"gzip", "unpack it"}},
      {"Zeros", [] { return File(4096, 0); }, kBad, {"starts with zeros", kAgain}},
      {"UnknownMagic", [] { return TextFile("abcdefgh"); }, kBad, {"found 61 62 63 64)", "check the path"}},
      {"ReversedMagic", [] { return TextFile("FUGG"); }, kUnsupported, {"big-endian"}},
      // The fixed part.
      {"BigEndian",
       [] { return GgufBuilder().Version(0x03000000).Build(); },
       kUnsupported,
       {"header at offset 4", "big-endian", "little-endian file"}},
      {"Version1",
       [] { return GgufBuilder().Version(1).Build(); },
       kUnsupported,
       {"offset 4: GGUF version 1", "expected 2 or 3"}},
      {"Version4", [] { return GgufBuilder().Version(4).Build(); }, kUnsupported, {"GGUF version 4, expected 2 or 3"}},
      {"Version0", [] { return GgufBuilder().Version(0).Build(); }, kUnsupported, {"GGUF version 0, expected 2 or 3"}},
      {"OnlyMagic",
       [] { return TextFile("GGUF", 0); },
       kBad,
       {"bad.gguf: truncated file: header needs 4 bytes at offset 4, the file ends at 4", kAgain}},
      {"CutInCounts",
       [] { return Cut(TwoTensors().Build(), 20); },
       kBad,
       {"truncated file: header needs 8 bytes at offset 16, the file ends at 20"}},
      {"TooManyEntries",
       [] { return GgufBuilder().Counts(0, 1000).Build(); },
       kBad,
       {"offset 16: 1000 metadata entries need at least 14 bytes each, but only", kMend}},
      {"TooManyTensors",
       [] { return GgufBuilder().Counts(~uint64_t{0}, 0).Build(); },
       kBad,
       {"18446744073709551615 tensors need at least 33 bytes each", kMend}},
      // Metadata.
      {"KeyTooLong",
       [] { return GgufBuilder().RawEntry(Bytes().String(std::string(65536, 'k')).U32(0).U8(1)).Build(); },
       kBad,
       {"metadata entry 1 of 1 at offset 24: a string of 65536 bytes, expected at most 65535"}},
      {"KeyBehindTheEnd",
       [] { return GgufBuilder().RawEntry(Bytes().U64(uint64_t{1} << 60).U64(0)).Build(); },
       kBad,
       {"truncated file: metadata entry 1 of 1 needs 1152921504606846976 bytes at offset 32"}},
      {"EmptyKey",
       [] { return GgufBuilder().RawEntry(Bytes().String("").U32(0).U64(1)).Build(); },
       kBad,
       {"metadata entry 1 of 1", "the key is empty", kMend}},
      {"KeyTwice",
       [] { return GgufBuilder().U32("a.b", 1).U32("a.b", 2).Build(); },
       kBad,
       {"metadata key 'a.b'", "occurs twice"}},
      {"UnknownValueType",
       [] { return GgufBuilder().RawEntry(Bytes().String("k").U32(13).U64(0)).Build(); },
       kBad,
       {"metadata key 'k' at offset 33: value type 13, expected 0 to 12"}},
      {"UnknownElementType",
       [] { return GgufBuilder().RawEntry(Bytes().String("k").U32(9).U32(77).U64(0)).Build(); },
       kBad,
       {"metadata key 'k'", "value type 77"}},
      {"HugeArray",
       [] {
         return GgufBuilder().RawEntry(GgufBuilder::ArrayHead("k", MetadataType::kU64, uint64_t{1} << 61)).Build();
       },
       kBad,
       {"metadata key 'k' at offset 41: 2305843009213693952 array elements need at least 8 bytes each"}},
      {"HugeStringArray",
       [] { return GgufBuilder().RawEntry(GgufBuilder::ArrayHead("k", MetadataType::kString, 1000000)).Build(); },
       kBad,
       {"1000000 array elements need at least 8 bytes each"}},
      {"StringValueBehindTheEnd",
       [] { return GgufBuilder().RawEntry(Bytes().String("k").U32(8).U64(5000).Text("short")).Build(); },
       kBad,
       {"truncated file: metadata key 'k' needs 5000 bytes"}},
      {"NestedTooDeep",
       [] { return GgufBuilder().RawEntry(NestedArrays(50)).Build(); },
       kBad,
       {"metadata key 'deep'", "arrays nested more than 4 deep"}},
      {"ValueCut",
       [] { return Cut(GgufBuilder().U32("key", 7).Build(), 24 + 8 + 3 + 4 + 2); },
       kBad,
       {"truncated file: metadata key 'key' needs 4 bytes at offset 39, the file ends at 41", kAgain}},
      {"ControlCharactersInKey",
       [] { return GgufBuilder().RawEntry(Bytes().String("a\x1b[2J\nb").U32(99).U64(0)).Build(); },
       kBad,
       {"metadata key 'a\\x1b[2J\\nb'"}},
      {"AlignmentZero",
       [] { return GgufBuilder().U32("general.alignment", 0).Build(); },
       kBad,
       {"bad.gguf: metadata key 'general.alignment' is 0, expected a power of two", kMend}},
      {"AlignmentOdd",
       [] { return GgufBuilder().U32("general.alignment", 48).Build(); },
       kBad,
       {"'general.alignment' is 48, expected a power of two"}},
      {"AlignmentHuge",
       [] { return GgufBuilder().U32("general.alignment", 1u << 31).Build(); },
       kBad,
       {"'general.alignment' is 2147483648, expected a power of two up to 1048576"}},
      {"AlignmentOfWrongType",
       [] { return GgufBuilder().String("general.alignment", "32").Build(); },
       kBad,
       {"bad.gguf: metadata key 'general.alignment': expected an integer, found string"}},
      // Tensors.
      {"TensorWithoutName",
       [] { return GgufBuilder().Tensor("", {32}, TensorType::kF32).Build(); },
       kBad,
       {"tensor 1 of 1 at offset 32", "the name is empty"}},
      {"TensorNameTooLong",
       [] { return GgufBuilder().Tensor(std::string(1025, 'n'), {32}, TensorType::kF32).Build(); },
       kBad,
       {"tensor 1 of 1", "1025 bytes, expected at most 1024"}},
      {"TensorTwice",
       [] { return GgufBuilder().Tensor("t", {32}, TensorType::kF32).Tensor("t", {32}, TensorType::kF32).Build(); },
       kBad,
       {"tensor 't'", "a second tensor of this name", kMend}},
      {"NoDimensions",
       [] { return GgufBuilder().RawTensor("t", {}, 0, 32).Build(); },
       kBad,
       {"tensor 't' at offset 33: 0 dimensions, expected 1 to 4"}},
      {"FiveDimensions",
       [] { return GgufBuilder().RawTensor("t", {1, 1, 1, 1, 1}, 0, 4).Build(); },
       kBad,
       {"5 dimensions, expected 1 to 4"}},
      {"DimensionZero",
       [] { return GgufBuilder().RawTensor("t", {32, 0}, 0, 0).Build(); },
       kBad,
       {"tensor 't' at offset 45: dimension 1 is 0"}},
      {"DimensionsOverflow",
       [] { return GgufBuilder().RawTensor("t", {uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0).Build(); },
       kBad,
       {"dimension 1 is 4294967296: too many elements"}},
      {"DimensionNegative",
       [] { return GgufBuilder().RawTensor("t", {~uint64_t{0}}, 0, 0).Build(); },
       kBad,
       {"dimension 0 is 18446744073709551615: too many elements"}},
      {"KnownForeignFormat",
       [] { return GgufBuilder().RawTensor("blk.0.ffn_up.weight", {256}, 16, 66).Build(); },
       kUnsupported,
       {"tensor 'blk.0.ffn_up.weight'", "number format IQ2_XXS is not supported", "Q4_K_M"}},
      {"UnknownFormat",
       [] { return GgufBuilder().RawTensor("t", {256}, 1234, 66).Build(); },
       kUnsupported,
       {"tensor 't'", "unknown number format 1234"}},
      {"RowNotOfWholeBlocks",
       [] { return GgufBuilder().RawTensor("t", {100, 2}, static_cast<uint32_t>(TensorType::kQ4_0), 200).Build(); },
       kBad,
       {"rows of 100 weights, expected a multiple of 32, the block of Q4_0"}},
      {"OffsetNotAligned",
       [] { return GgufBuilder().RawTensor("t", {8}, 0, 64, 8).Build(); },
       kBad,
       {"tensor 't'", "data offset 8, expected a multiple of 32 (general.alignment)"}},
      {"OffsetOverflows",
       [] { return GgufBuilder().RawTensor("t", {8}, 0, 32, ~uint64_t{31}).Build(); },
       kBad,
       {"tensor 't': data offset 18446744073709551584 is out of all bounds"}},
      {"TensorsOverlap",
       [] { return GgufBuilder().RawTensor("a", {32}, 0, 128).RawTensor("b", {32}, 0, 128, 96).Build(); },
       kBad,
       {"tensor 'b' starts at offset", "inside tensor 'a' (128 bytes from", kMend}},
      {"TableCut",
       [] { return Cut(TwoTensors().Build(), 100); },
       kBad,
       {"truncated file: tensor 'blk.7.ffn_down.weight' needs", kAgain}},
      {"DataCutByOneByte",
       [] {
         File f = TwoTensors().Build();
         return Cut(f, f.size() - 1);
       },
       kBad,
       {"bad.gguf: truncated file: tensor blk.7.ffn_down.weight ends at 512 B, file has 511 B (1 bytes missing); "
        "download it again"}},
      {"DataMissing",
       [] { return GgufBuilder().RawTensor("big", {1 << 20, 4096}, 0, 32).Build(); },
       kBad,
       {"truncated file: tensor big ends at 17.2 GB, file has 128 B", kAgain}},
  };
  return files;
}

class BadGguf : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadGguf, IsRefusedWithAMessageThatHelps) {
  const BadFile& bad = GetParam();
  const File bytes = bad.make();
  std::vector<std::unique_ptr<Reader>> readers;
  readers.push_back(MakeMemoryReader("bad.gguf", bytes));
  const auto file = GgufFile::Open(std::move(readers));
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), bad.code) << file.status().ToString();
  const std::string message(file.status().message());
  EXPECT_THAT(message, ::testing::HasSubstr("bad.gguf"));
  for (const std::string& part : bad.message_has) EXPECT_THAT(message, ::testing::HasSubstr(part));
  for (const char c : message)
    EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20) << "control character in: " << message;
}

INSTANTIATE_TEST_SUITE_P(Table, BadGguf, ::testing::ValuesIn(BadFiles()),
                         [](const auto& param) { return std::string(param.param.name); });

// Cut a good file anywhere: always an error, never a crash. Behind the table the message is about a tensor.
TEST(TruncatedGguf, EveryPrefixIsRefused) {
  const File whole = GgufBuilder()
                         .String("general.architecture", "llama")
                         .Strings("tokens", {"a", "bc", ""})
                         .Array<float>("scores", MetadataType::kF32, {0.5f, 1.0f})
                         .Tensor("a", {64}, TensorType::kQ8_0)
                         .Tensor("b", {256, 2}, TensorType::kQ6_K)
                         .Build();
  for (size_t n = 0; n < whole.size(); ++n) {
    const File part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
    std::vector<std::unique_ptr<Reader>> readers;
    readers.push_back(MakeMemoryReader("part.gguf", part));
    const auto file = GgufFile::Open(std::move(readers));
    ASSERT_FALSE(file.ok()) << n;
    EXPECT_EQ(file.status().code(), StatusCode::kCorruption) << file.status().ToString();
  }
}

// Flip each byte of a good file's head in turn: opens or is refused, but nothing else; the address sanitizer watches.
TEST(DamagedGguf, AnyChangedByteIsSurvived) {
  const File whole =
      GgufBuilder().U32("a.block_count", 3).Strings("tokens", {"a", "bc"}).Tensor("a", {64}, TensorType::kQ8_0).Build();
  int n_refused = 0;
  for (size_t at = 0; at < whole.size() - 68; ++at) {
    for (const uint8_t flip : {0x01, 0x80, 0xFF}) {
      File damaged = whole;
      damaged[at] ^= flip;
      std::vector<std::unique_ptr<Reader>> readers;
      readers.push_back(MakeMemoryReader("damaged.gguf", damaged));
      n_refused += GgufFile::Open(std::move(readers)).ok() ? 0 : 1;
    }
  }
  EXPECT_GT(n_refused, 100);
}

TEST(TruncatedGguf, PartOfASplitDownloadIsToldToBeJoined) {
  const File whole = TwoTensors().Build();
  const File part(whole.begin(), whole.end() - 10);
  std::vector<std::unique_ptr<Reader>> readers;
  readers.push_back(MakeMemoryReader("model.gguf-split-a", part));
  const auto file = GgufFile::Open(std::move(readers));
  ASSERT_FALSE(file.ok());
  EXPECT_THAT(std::string(file.status().message()), ::testing::HasSubstr("join the parts with 'cat' first"));
}

}  // namespace
}  // namespace pantry
