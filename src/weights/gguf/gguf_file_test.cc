// SPDX-License-Identifier: Apache-2.0
#include "weights/gguf/gguf_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "io/faulty_reader.h"
#include "support/test_paths.h"
#include "weights/gguf/gguf_test_builder.h"
#include "weights/model_shape.h"

namespace pantry {
namespace {

using testing::Bytes;
using testing::GgufBuilder;
using ::testing::HasSubstr;

// Memory readers with the bytes they read.
struct Shards {
  std::vector<std::vector<uint8_t>> bytes;
  Result<std::unique_ptr<GgufFile>> Open() {
    std::vector<std::unique_ptr<Reader>> readers;
    readers.reserve(bytes.size());
    for (size_t i = 0; i < bytes.size(); ++i)
      readers.push_back(MakeMemoryReader("shard" + std::to_string(i + 1) + ".gguf", bytes[i]));
    return GgufFile::Open(std::move(readers));
  }
};

TEST(GgufFile, Versions2And3Open) {
  for (const uint32_t version : {2u, 3u}) {
    Shards shards{
        {GgufBuilder().Version(version).String("general.name", "x").Tensor("a", {64}, TensorType::kF32).Build()}};
    const auto file = shards.Open();
    ASSERT_TRUE(file.ok()) << file.status().ToString();
    EXPECT_EQ((*file)->version(), version);
    EXPECT_EQ(*(*file)->metadata().GetString("general.name"), "x");
    EXPECT_EQ((*file)->tensor_bytes(), 256u);
    EXPECT_EQ((*file)->total_bytes(), shards.bytes[0].size());
    EXPECT_EQ((*file)->path(), "shard1.gguf");
  }
}

TEST(GgufFile, TensorsLieAtTheAlignmentTheFileAsksFor) {
  for (const uint32_t alignment : {8u, 16u, 32u, 64u, 256u, 4096u}) {
    SCOPED_TRACE(alignment);
    Shards shards{{GgufBuilder()
                       .Alignment(alignment)
                       .Tensor("one", {3}, TensorType::kF32)
                       .Tensor("two", {64, 2, 3}, TensorType::kQ4_1)
                       .Build()}};
    const auto file = shards.Open();
    ASSERT_TRUE(file.ok()) << file.status().ToString();
    const TensorInfo* two = (*file)->FindTensor("two");
    ASSERT_NE(two, nullptr);
    EXPECT_EQ(two->offset % alignment, 0u);
    EXPECT_EQ(two->type, TensorType::kQ4_1);
    EXPECT_EQ(two->dims, (std::vector<int64_t>{64, 2, 3}));
    EXPECT_EQ(two->row_elements(), 64);
    EXPECT_EQ(two->n_rows(), 6);
    EXPECT_EQ(two->n_elements(), 384);
    EXPECT_EQ(two->n_bytes, 6u * 2 * 20);
    std::vector<uint8_t> data(two->n_bytes);
    ASSERT_TRUE((*file)->ReadTensor(*two, 0, data).ok());
    EXPECT_EQ(data, std::vector<uint8_t>(two->n_bytes, 2));  // the builder fills tensor n with n
    EXPECT_EQ((*file)->FindTensor("three"), nullptr);
  }
}

TEST(GgufFile, EveryMetadataTypeIsRead) {
  Shards shards{{GgufBuilder()
                     .Entry("u8", MetadataType::kU8, uint8_t{255})
                     .Entry("i8", MetadataType::kI8, int8_t{-128})
                     .Entry("u16", MetadataType::kU16, uint16_t{65535})
                     .Entry("i16", MetadataType::kI16, int16_t{-32768})
                     .Entry("u32", MetadataType::kU32, uint32_t{4294967295u})
                     .Entry("i32", MetadataType::kI32, int32_t{-2147483647})
                     .Entry("u64", MetadataType::kU64, uint64_t{1} << 62)
                     .Entry("i64", MetadataType::kI64, -(int64_t{1} << 62))
                     .Entry("f32", MetadataType::kF32, 0.5f)
                     .Entry("f64", MetadataType::kF64, 0.1)
                     .Bool("bool", true)
                     .String("string", "grüße")
                     .String("empty", "")
                     .Strings("strings", {"a", "", "c"})
                     .Array<uint8_t>("u8s", MetadataType::kU8, {1, 255})
                     .Array<int8_t>("i8s", MetadataType::kI8, {-1, 1})
                     .Array<uint64_t>("u64s", MetadataType::kU64, {1, 2})
                     .Array<float>("f32s", MetadataType::kF32, {0.5f, -1.0f})
                     .Array<double>("f64s", MetadataType::kF64, {0.1})
                     .Array<uint8_t>("bools", MetadataType::kBool, {0, 1, 1})
                     .Array<int32_t>("none", MetadataType::kI32, {})
                     .Build()}};
  const auto file = shards.Open();
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  const Metadata& m = (*file)->metadata();
  EXPECT_EQ(*m.GetInt("u8"), 255);
  EXPECT_EQ(*m.GetInt("i8"), -128);
  EXPECT_EQ(*m.GetInt("u16"), 65535);
  EXPECT_EQ(*m.GetInt("i16"), -32768);
  EXPECT_EQ(*m.GetInt("u32"), 4294967295);
  EXPECT_EQ(*m.GetInt("i32"), -2147483647);
  EXPECT_EQ(*m.GetInt("u64"), int64_t{1} << 62);
  EXPECT_EQ(*m.GetInt("i64"), -(int64_t{1} << 62));
  EXPECT_EQ(*m.GetFloat("f32"), 0.5);
  EXPECT_EQ(*m.GetFloat("f64"), 0.1);
  EXPECT_EQ(*m.GetBool("bool"), true);
  EXPECT_EQ(*m.GetString("string"), "grüße");
  EXPECT_EQ(*m.GetString("empty"), "");
  EXPECT_EQ((*m.GetArray("strings"))->strings, (std::vector<std::string>{"a", "", "c"}));
  EXPECT_EQ((*m.GetArray("u8s"))->integers, (std::vector<int64_t>{1, 255}));
  EXPECT_EQ((*m.GetArray("i8s"))->integers, (std::vector<int64_t>{-1, 1}));
  EXPECT_EQ((*m.GetArray("u64s"))->integers, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ((*m.GetArray("f32s"))->floats, (std::vector<double>{0.5, -1.0}));
  EXPECT_EQ((*m.GetArray("f64s"))->floats, (std::vector<double>{0.1}));
  EXPECT_EQ((*m.GetArray("bools"))->integers, (std::vector<int64_t>{0, 1, 1}));
  EXPECT_EQ((*m.GetArray("none"))->size(), 0u);
  EXPECT_EQ(m.entries().size(), 21u);
  EXPECT_EQ(m.entries()[0].value.type, MetadataType::kU8);
}

TEST(GgufFile, AnyByteButZeroIsTrue) {
  Shards shards{{GgufBuilder()
                     .Entry("bool", MetadataType::kBool, uint8_t{7})
                     .Array<uint8_t>("bools", MetadataType::kBool, {0, 2, 255, 1})
                     .Build()}};
  const auto file = shards.Open();
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  EXPECT_EQ(*(*file)->metadata().GetBool("bool"), true);
  EXPECT_EQ((*(*file)->metadata().GetArray("bools"))->integers, (std::vector<int64_t>{0, 1, 1, 1}));
}

TEST(GgufFile, NestedArraysAreRead) {
  const uint32_t i16 = static_cast<uint32_t>(MetadataType::kI16);
  Bytes entry = GgufBuilder::ArrayHead("nested", MetadataType::kArray, 2);
  entry.U32(i16).U64(2).Put<int16_t>(1).Put<int16_t>(-2);
  entry.U32(static_cast<uint32_t>(MetadataType::kString)).U64(1).String("x");
  Shards shards{{GgufBuilder().RawEntry(entry).Build()}};
  const auto file = shards.Open();
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  const MetadataArray* nested = *(*file)->metadata().GetArray("nested");
  ASSERT_EQ(nested->nested.size(), 2u);
  const auto& first = std::get<std::unique_ptr<MetadataArray>>(nested->nested[0].value);
  const auto& second = std::get<std::unique_ptr<MetadataArray>>(nested->nested[1].value);
  EXPECT_EQ(first->integers, (std::vector<int64_t>{1, -2}));
  EXPECT_EQ(second->strings, (std::vector<std::string>{"x"}));
}

TEST(GgufFile, FileWithoutTensorsOpens) {
  Shards shards{{GgufBuilder().String("general.architecture", "llama").Build()}};
  const auto file = shards.Open();
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  EXPECT_TRUE((*file)->tensors().empty());
  EXPECT_EQ((*file)->tensor_bytes(), 0u);
}

TEST(GgufFile, ReadingOutsideATensorIsRefused) {
  Shards shards{{GgufBuilder().Tensor("a", {8}, TensorType::kF32).Tensor("b", {8}, TensorType::kF32).Build()}};
  const auto file = shards.Open();
  ASSERT_TRUE(file.ok());
  std::vector<uint8_t> out(16);
  EXPECT_TRUE((*file)->ReadTensor(*(*file)->FindTensor("a"), 16, out).ok());
  const Status status = (*file)->ReadTensor(*(*file)->FindTensor("a"), 17, out);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tensor 'a' has 32 bytes; cannot read 16 at 17"));
  EXPECT_FALSE((*file)->ReadTensor(*(*file)->FindTensor("a"), ~uint64_t{0}, out).ok());
}

// A header larger than the cursor's buffer, so that opening takes several reads: each of them may fail.
TEST(GgufFile, EveryFailedReadSurfacesAsItsStatus) {
  GgufBuilder builder;
  builder.Strings("words", std::vector<std::string>(40000, "some token")).Tensor("a", {64}, TensorType::kF32);
  const std::vector<uint8_t> bytes = builder.Build();
  auto count = std::make_unique<FaultyReader>(MakeMemoryReader("model.gguf", bytes), FaultPlan{});
  const FaultyReader* counter = count.get();
  std::vector<std::unique_ptr<Reader>> readers;
  readers.push_back(std::move(count));
  const auto good = GgufFile::Open(std::move(readers));
  ASSERT_TRUE(good.ok());
  const int64_t n_calls = counter->n_calls();
  EXPECT_GT(n_calls, 3);
  EXPECT_LT(counter->n_bytes(), static_cast<int64_t>(bytes.size()) + 1);
  for (int64_t call = 0; call < n_calls; ++call) {
    std::vector<std::unique_ptr<Reader>> faulty;
    faulty.push_back(
        std::make_unique<FaultyReader>(MakeMemoryReader("model.gguf", bytes), FaultPlan{.fail_call = call}));
    const auto file = GgufFile::Open(std::move(faulty));
    ASSERT_FALSE(file.ok()) << call;
    EXPECT_EQ(file.status().code(), StatusCode::kIoError);
    EXPECT_THAT(std::string(file.status().message()), HasSubstr("model.gguf: injected fault"));
  }
}

TEST(GgufFile, FailedTensorReadNamesTheTensor) {
  const std::vector<uint8_t> bytes = GgufBuilder().Tensor("blk.0.attn_q.weight", {65536}, TensorType::kF32).Build();
  std::vector<std::unique_ptr<Reader>> readers;
  readers.push_back(std::make_unique<FaultyReader>(MakeMemoryReader("model.gguf", bytes),
                                                   FaultPlan{.fail_offset = bytes.size() - 1}));
  const auto file = GgufFile::Open(std::move(readers));
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  std::vector<uint8_t> out(65536 * 4);
  const Status status = (*file)->ReadTensor((*file)->tensors()[0], 0, out);
  EXPECT_EQ(status.code(), StatusCode::kIoError);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tensor 'blk.0.attn_q.weight': model.gguf: injected fault"));
}

TEST(GgufFile, OpeningReadsNoMoreThanTheHeaderAndOneBuffer) {
  const std::vector<uint8_t> bytes = GgufBuilder().Tensor("big", {4096, 1024}, TensorType::kF32).Build();  // 16 MB
  auto counted = std::make_unique<FaultyReader>(MakeMemoryReader("model.gguf", bytes), FaultPlan{});
  const FaultyReader* counter = counted.get();
  std::vector<std::unique_ptr<Reader>> readers;
  readers.push_back(std::move(counted));
  const auto file = GgufFile::Open(std::move(readers));
  ASSERT_TRUE(file.ok());
  EXPECT_LE(counter->n_bytes(), 256 << 10);
}

// Files in the wild: they open, and quickly enough that a test would notice a quadratic parser.
TEST(GgufFile, ThirdPartyVocabularyFilesOpen) {
  int n_files = 0;
  for (const char* name : {"gpt-2", "llama-spm", "qwen2", "deepseek-llm"}) {
    const std::string path = testing::SharedData("data/tokenizer/ggml-vocab-" + std::string(name) + ".gguf");
    if (path.empty()) continue;
    const auto file = GgufFile::Open(path);
    ASSERT_TRUE(file.ok()) << file.status().ToString();
    EXPECT_TRUE((*file)->tensors().empty());
    EXPECT_GT((*(*file)->metadata().GetArray("tokenizer.ggml.tokens"))->size(), 30000u);
    ++n_files;
  }
  if (n_files == 0) GTEST_SKIP() << "third-party data are absent";
}

TEST(GgufFile, DemoModelOpensAndAllTensorsAreReadable) {
  const std::string path = testing::DemoModel();
  if (path.empty()) GTEST_SKIP() << "the demo model is absent";
  const auto file = GgufFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  EXPECT_EQ((*file)->tensors().size(), 272u);
  std::vector<uint8_t> out;
  for (const TensorInfo& tensor : (*file)->tensors()) {
    out.resize(tensor.n_bytes);
    ASSERT_TRUE((*file)->ReadTensor(tensor, 0, out).ok()) << tensor.name;
  }
  const auto shape = ParseModelShape((*file)->metadata());
  ASSERT_TRUE(shape.ok()) << shape.status().ToString();
  EXPECT_EQ(shape->n_layers, 30);
  EXPECT_EQ(shape->n_embd, 576);
  EXPECT_EQ(shape->n_heads, 9);
  EXPECT_EQ(shape->n_kv_heads, 3);
  EXPECT_EQ(shape->rope.freq_base, 100000.0);
}

}  // namespace
}  // namespace pantry
