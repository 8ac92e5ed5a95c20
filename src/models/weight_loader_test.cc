// SPDX-License-Identifier: Apache-2.0
#include "models/weight_loader.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "base/rng.h"
#include "compute/kernels/matmul/matmul_kernel.h"
#include "models/test_models.h"
#include "sys/memory_info.h"
#include "weights/gguf/gguf_test_builder.h"
#include "weights/quant/dequantize.h"

namespace pantry {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A tiny model's file in memory, with bytes of its header changed.
class PatchedFile {
 public:
  explicit PatchedFile(const std::string& name)
      : bytes_(testing::ReadFile(testing::TestData("models/" + name + ".gguf"))) {}

  // Replaces the first occurrence; both texts of one length, so that nothing moves.
  PatchedFile& Rename(std::string_view from, std::string_view to) {
    EXPECT_EQ(from.size(), to.size());
    bytes_.replace(Find(from), from.size(), to);
    return *this;
  }
  // A u32 metadata value: key, type, value.
  PatchedFile& SetU32(std::string_view key, uint32_t value) {
    std::memcpy(bytes_.data() + Find(key) + key.size() + 4, &value, 4);
    return *this;
  }
  // A tensor's entry: name, u32 n_dims, u64 dims[], u32 type.
  PatchedFile& SetDim(std::string_view tensor, size_t dim, uint64_t value) {
    std::memcpy(bytes_.data() + Find(tensor) + tensor.size() + 4 + 8 * dim, &value, 8);
    return *this;
  }
  PatchedFile& SetType(std::string_view tensor, size_t n_dims, TensorType type) {
    const auto number = static_cast<uint32_t>(type);
    std::memcpy(bytes_.data() + Find(tensor) + tensor.size() + 4 + 8 * n_dims, &number, 4);
    return *this;
  }
  std::unique_ptr<GgufFile> Open() {
    std::vector<std::unique_ptr<Reader>> shards;
    shards.push_back(MakeMemoryReader("bad.gguf", {reinterpret_cast<const uint8_t*>(bytes_.data()), bytes_.size()}));
    auto file = GgufFile::Open(std::move(shards));
    EXPECT_TRUE(file.ok()) << file.status().ToString();
    return std::move(file).value();
  }
  // The status of loading it.
  Status Load(Logger& log, const LoadProgress& progress = {}) {
    const std::unique_ptr<GgufFile> file = Open();
    ThreadPool pool(2);
    auto model = Model::Load(*file, Isa::kScalar, pool, log, progress);
    return model.ok() ? OkStatus() : model.status();
  }
  Status Load() {
    NullLogger log;
    return Load(log);
  }

 private:
  size_t Find(std::string_view text) const {
    const size_t at = bytes_.find(text);
    EXPECT_NE(at, std::string::npos) << text;
    return at;
  }
  std::string bytes_;
};

TEST(WeightLoader, UntouchedFileLoadsWithoutWarning) {
  RecordingLogger log;
  const Status status = PatchedFile("tiny-llama3").Load(log);
  EXPECT_TRUE(status.ok()) << status.ToString();
  EXPECT_TRUE(log.lines.empty());
}

TEST(WeightLoader, MissingTensorIsNamed) {
  const Status status = PatchedFile("tiny-llama3").Rename("blk.1.attn_k.weight", "blk.1.attn_x.weight").Load();
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("bad.gguf"), HasSubstr("'blk.1.attn_k.weight' is missing"), HasSubstr("[64, 32]")));
}

TEST(WeightLoader, WrongDimsSayExpectedAndFound) {
  const Status status =
      PatchedFile("tiny-llama3").SetDim("blk.0.attn_q.weight", 0, 32).SetDim("blk.0.attn_q.weight", 1, 128).Load();
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("blk.0.attn_q.weight"), HasSubstr("expected [64, 64], found [32, 128]")));
}

TEST(WeightLoader, ExpertsOfAnotherNumberAreRefused) {
  const Status status = PatchedFile("tiny-qwen3moe").SetU32("qwen3moe.expert_count", 7).Load();
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'blk.0.ffn_gate_inp.weight' has the wrong dims"));
  EXPECT_THAT(std::string(PatchedFile("tiny-qwen3moe").SetDim("blk.1.ffn_up_exps.weight", 2, 5).Load().message()),
              AllOf(HasSubstr("blk.1.ffn_up_exps.weight"), HasSubstr("expected [32, 24, 6], found [32, 24, 5]")));
}

std::unique_ptr<GgufFile> OpenBytes(const std::vector<uint8_t>& bytes) {
  std::vector<std::unique_ptr<Reader>> shards;
  shards.push_back(MakeMemoryReader("experts.gguf", {bytes.data(), bytes.size()}));
  auto file = GgufFile::Open(std::move(shards));
  EXPECT_TRUE(file.ok()) << file.status().ToString();
  return std::move(file).value();
}

TEST(WeightLoader, ExpertsThatAreNotStackedByThreeAreRefusedWithAWayOut) {
  for (const char* name : {"blk.0.ffn_gate.0.weight", "blk.0.ffn_gate_up_exps.weight"}) {
    const std::vector<uint8_t> bytes = testing::GgufBuilder().Tensor(name, {64, 32}, TensorType::kF32).Build();
    const auto file = OpenBytes(bytes);
    WeightLoader loader(*file, Isa::kScalar);
    ExpertLayer experts;
    loader.Experts("blk.0.", 2, 64, 32, &experts);
    EXPECT_EQ(loader.status().code(), StatusCode::kUnsupported);
    EXPECT_THAT(std::string(loader.status().message()), AllOf(HasSubstr(name), HasSubstr("convert the model again")));
  }
}

// Three experts of 40 rows, which is no multiple of any vector kernel's tile.
std::vector<uint8_t> ThreeExperts(TensorType gate, TensorType up) {
  testing::GgufBuilder builder;
  builder.Tensor("blk.0.ffn_down_exps.weight", {40, 64, 3}, TensorType::kF32);
  builder.Tensor("blk.0.ffn_gate_exps.weight", {64, 40, 3}, gate);
  builder.Tensor("blk.0.ffn_up_exps.weight", {64, 40, 3}, up);
  std::vector<uint8_t> bytes = builder.Build();
  Rng rng(3);
  for (size_t i = bytes.size() - 3 * 40 * 68 * 2; i < bytes.size(); ++i) bytes[i] = rng.NextU64() % 64;
  return bytes;
}

TEST(WeightLoader, EachExpertIsPackedOnItsOwn) {
  const std::vector<uint8_t> bytes = ThreeExperts(TensorType::kQ8_0, TensorType::kQ8_0);
  const auto file = OpenBytes(bytes);
  ThreadPool pool(2);
  NullLogger log;
  for (const Isa isa : kBuildIsas) {
    WeightLoader loader(*file, isa);
    ExpertLayer experts;
    loader.Experts("blk.0.", 3, 64, 40, &experts);
    const auto memory = loader.Load(pool, log, {});
    ASSERT_TRUE(memory.ok()) << memory.status().ToString();
    EXPECT_EQ(loader.n_bytes(), 3 * experts.layout.n_bytes);
    for (int32_t expert = 0; expert < 3; ++expert) {
      const ExpertBlock block = experts.layout.View(experts.Block(expert));
      for (const auto& [name, matrix] : {std::pair("blk.0.ffn_gate_exps.weight", &block.gate),
                                         {"blk.0.ffn_up_exps.weight", &block.up},
                                         {"blk.0.ffn_down_exps.weight", &block.down}}) {
        const TensorInfo& tensor = *file->FindTensor(name);
        const int64_t row_bytes = RowBytes(tensor.type, matrix->cols);
        std::vector<float> found(static_cast<size_t>(matrix->cols)), expected(found.size());
        for (int64_t row = 0; row < matrix->rows; ++row) {
          matrix->UnpackRow(row, found.data());
          const int64_t at = static_cast<int64_t>(tensor.offset) + (expert * matrix->rows + row) * row_bytes;
          DequantizeRow(tensor.type, bytes.data() + at, matrix->cols, expected.data());
          ASSERT_EQ(std::memcmp(found.data(), expected.data(), found.size() * 4), 0)
              << IsaName(isa) << ", " << name << ", expert " << expert << ", row " << row;
        }
      }
    }
  }
}

TEST(WeightLoader, GateAndUpMustReadTheSameFormOfRows) {
  const std::vector<uint8_t> bytes = ThreeExperts(TensorType::kQ8_0, TensorType::kF32);
  const auto file = OpenBytes(bytes);
  WeightLoader loader(*file, Isa::kScalar);
  ExpertLayer experts;
  loader.Experts("blk.0.", 3, 64, 40, &experts);
  EXPECT_EQ(loader.status().code(), StatusCode::kUnsupported);
  EXPECT_THAT(std::string(loader.status().message()), AllOf(HasSubstr("Q8_0"), HasSubstr("F32")));
}

TEST(WeightLoader, IntegerTensorIsNoWeight) {
  const Status status = PatchedFile("tiny-llama3").SetType("blk.0.attn_q.weight", 2, TensorType::kI32).Load();
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("blk.0.attn_q.weight"), HasSubstr("I32")));
}

TEST(WeightLoader, UnusedTensorsAreOneWarning) {
  RecordingLogger log;
  // Without its own output matrix the model uses the embedding for both.
  using std::string_view_literals::operator""sv;  // with its length before it, so that attn_output.weight is not meant
  const Status status = PatchedFile("tiny-llama3")
                            .Rename("\x0D\0\0\0\0\0\0\0output.weight"sv, "\x0D\0\0\0\0\0\0\0extras.weight"sv)
                            .Load(log);
  EXPECT_TRUE(status.ok()) << status.ToString();
  ASSERT_EQ(log.lines.size(), 1u);
  EXPECT_EQ(log.lines[0].first, LogLevel::kWarning);
  EXPECT_THAT(log.lines[0].second, AllOf(HasSubstr("1 tensor is not used"), HasSubstr("extras.weight")));
}

TEST(WeightLoader, UnusedBiasOfALayerIsRefused) {
  // rope_freqs.weight is optional; under this name of the same length nobody asks for it.
  const Status status = PatchedFile("tiny-llama3").Rename("rope_freqs.weight", "blk.0.ffn\x1B[2.bias").Load();
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("bad.gguf"), HasSubstr("tensor 'blk.0.ffn\\x1b[2.bias'"), HasSubstr("wrong results")));
}

TEST(WeightLoader, EscapesInNamesDoNotReachTheTerminal) {
  RecordingLogger log;
  const Status status = PatchedFile("tiny-llama3").Rename("rope_freqs.weight", "rope_\x1B[2J\n.weight").Load(log);
  EXPECT_TRUE(status.ok()) << status.ToString();
  ASSERT_EQ(log.lines.size(), 1u);
  EXPECT_THAT(log.lines[0].second, HasSubstr("rope_\\x1b[2J\\n.weight"));
}

TEST(WeightLoader, PageCacheIsAvoidedWhereMemoryIsShort) {
  EXPECT_EQ(WeightLoader::CacheUse(-1, 100), PageCacheUse::kForSlowDisks);  // unknown
  EXPECT_EQ(WeightLoader::CacheUse(200, 100), PageCacheUse::kForSlowDisks);
  EXPECT_EQ(WeightLoader::CacheUse(199, 100), PageCacheUse::kNever);
  EXPECT_EQ(WeightLoader::CacheUse(0, 1), PageCacheUse::kNever);
}

// Zeros, as many as a matrix of the test's own needs: a model of some size that no file holds.
class ZeroReader final : public Reader {
 public:
  ZeroReader(std::string header, uint64_t size) : header_(std::move(header)), size_(size) {}
  const std::string& path() const override { return path_; }
  uint64_t size() const override { return size_; }
  Status ReadAt(uint64_t offset, std::span<uint8_t> out) const override {
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = offset + i < header_.size() ? static_cast<uint8_t>(header_[offset + i]) : 0;
    }
    return OkStatus();
  }

 private:
  const std::string path_ = "zeros.gguf";
  const std::string header_;
  const uint64_t size_;
};

template <typename T>
void Append(std::string* to, T value) {
  to->append(reinterpret_cast<const char*>(&value), sizeof value);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // sanitizers keep books in memory
TEST(WeightLoader, LoadTakesHardlyMoreMemoryThanTheWeights) {
  const int64_t rows = 4096, cols = 32 * 1000;  // F16: 262 MB
  std::string header = "GGUF";
  Append(&header, uint32_t{3});
  Append(&header, uint64_t{1});  // tensors
  Append(&header, uint64_t{0});  // metadata
  Append(&header, uint64_t{6});
  header += "weight";
  Append(&header, uint32_t{2});
  Append(&header, static_cast<uint64_t>(cols));
  Append(&header, static_cast<uint64_t>(rows));
  Append(&header, static_cast<uint32_t>(TensorType::kF16));
  Append(&header, uint64_t{0});
  header.resize((header.size() + 31) / 32 * 32);
  std::vector<std::unique_ptr<Reader>> shards;
  shards.push_back(std::make_unique<ZeroReader>(header, header.size() + static_cast<uint64_t>(2 * rows * cols)));
  auto file = GgufFile::Open(std::move(shards));
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  WeightLoader loader(**file, BestIsa());
  WeightMatrix matrix;
  loader.Matrix("weight", rows, cols, &matrix);
  ThreadPool pool(2);
  NullLogger log;
  const int64_t before = ResidentSetBytes();
  auto memory = loader.Load(pool, log, {});
  ASSERT_TRUE(memory.ok()) << memory.status().ToString();
  if (before < 0) GTEST_SKIP() << "the system does not say how much memory is in use";
  // The peak counts other tests of this process too, but none of them needs a tenth of this one.
  EXPECT_LT(PeakResidentSetBytes() - before, loader.n_bytes() * 105 / 100);
}
#endif

TEST(WeightLoader, AbsurdShapesAreRefused) {
  const struct {
    const char* key;
    uint32_t value;
  } cases[] = {
      {"llama.block_count", 3},
      {"llama.block_count", 1000},
      {"llama.block_count", 0xFFFFFFFF},
      {"llama.embedding_length", 0},
      {"llama.embedding_length", 1 << 30},
      {"llama.feed_forward_length", 65},
      {"llama.feed_forward_length", 0x80000000u},
      {"llama.attention.head_count", 3},
      {"llama.attention.head_count_kv", 4},
      {"llama.attention.head_count_kv", 0},
      {"llama.vocab_size", 127},
      {"llama.vocab_size", 0x7FFFFFFF},
      {"llama.rope.dimension_count", 18},
      {"llama.rope.dimension_count", 0},
  };
  for (const auto& bad : cases) {
    const Status status = PatchedFile("tiny-llama3").SetU32(bad.key, bad.value).Load();
    EXPECT_FALSE(status.ok()) << bad.key << " = " << bad.value;
    EXPECT_TRUE(status.code() == StatusCode::kCorruption || status.code() == StatusCode::kUnsupported)
        << status.ToString();
    EXPECT_THAT(std::string(status.message()), HasSubstr("bad.gguf"));
  }
}

TEST(WeightLoader, BadRopeFactorsAreRefused) {
  // As F16 the tensor's bytes mean other numbers, zeros among them: 1.0f is 0x3F800000.
  const Status status = PatchedFile("tiny-llama3").SetType("rope_freqs.weight", 1, TensorType::kF16).Load();
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("rope_freqs.weight"), HasSubstr("expected a positive number")));
}

TEST(WeightLoader, OneListOfLongRopeFactorsIsRefused) {
  const Status status =
      PatchedFile("tiny-phi3-longrope").Rename("rope_factors_long.weight", "rope_factors_lost.weight").Load();
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rope_factors_long.weight"));
}

TEST(WeightLoader, ProgressReachesTheTotalAndCancels) {
  NullLogger log;
  int64_t last = 0, total = 0;
  ASSERT_TRUE(PatchedFile("tiny-llama3")
                  .Load(log,
                        [&](int64_t n_done, int64_t n_total) {
                          EXPECT_GE(n_done, last);
                          last = n_done;
                          total = n_total;
                          return true;
                        })
                  .ok());
  EXPECT_GT(total, 0);
  EXPECT_EQ(last, total);
  EXPECT_EQ(total, static_cast<int64_t>(PatchedFile("tiny-llama3").Open()->tensor_bytes()));

  int n_calls = 0;
  const Status status = PatchedFile("tiny-llama3").Load(log, [&](int64_t, int64_t) { return ++n_calls < 1; });
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_EQ(n_calls, 1);
}

// Every byte of every format arrives where it belongs, whatever chunk and thread took it there.
TEST(WeightLoader, PackedRowsAreTheFilesRows) {
  auto file = GgufFile::Open(testing::TestData("models/tiny-llama-quantized.gguf"));
  ASSERT_TRUE(file.ok());
  for (Isa isa : kBuildIsas) {
    if (!IsaSupported(isa)) continue;
    WeightLoader loader(**file, isa);
    std::vector<const TensorInfo*> tensors;
    for (const TensorInfo& tensor : (*file)->tensors()) {
      if (tensor.dims.size() == 2) tensors.push_back(&tensor);
    }
    ASSERT_GE(tensors.size(), 15u);
    std::vector<WeightMatrix> matrices(tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i)
      loader.Matrix(tensors[i]->name, tensors[i]->n_rows(), tensors[i]->row_elements(), &matrices[i]);
    ThreadPool pool(2);
    NullLogger log;
    auto memory = loader.Load(pool, log, {});
    ASSERT_TRUE(memory.ok()) << memory.status().ToString();
    EXPECT_GE(static_cast<int64_t>(memory->size()), loader.n_bytes());
    for (size_t i = 0; i < tensors.size(); ++i) {
      const TensorInfo& tensor = *tensors[i];
      std::vector<uint8_t> bytes(tensor.n_bytes);
      ASSERT_TRUE((*file)->ReadTensor(tensor, 0, bytes).ok());
      std::vector<float> expected(static_cast<size_t>(tensor.row_elements())), found(expected.size());
      const int64_t row_bytes = RowBytes(tensor.type, tensor.row_elements());
      for (int64_t row = 0; row < tensor.n_rows(); ++row) {
        DequantizeRow(tensor.type, bytes.data() + row * row_bytes, tensor.row_elements(), expected.data());
        matrices[i].UnpackRow(row, found.data());
        ASSERT_EQ(std::memcmp(expected.data(), found.data(), expected.size() * sizeof(float)), 0)
            << tensor.name << " row " << row;
      }
    }
  }
}

// A reader that fails in the middle of the tensor data.
class FailingReader final : public Reader {
 public:
  FailingReader(std::unique_ptr<Reader> reader, uint64_t bad_offset)
      : reader_(std::move(reader)), bad_offset_(bad_offset) {}
  const std::string& path() const override { return reader_->path(); }
  uint64_t size() const override { return reader_->size(); }
  Status ReadAt(uint64_t offset, std::span<uint8_t> out) const override {
    if (offset <= bad_offset_ && bad_offset_ < offset + out.size())
      return IoError("{}: offset {}: disk is broken", path(), offset);
    return reader_->ReadAt(offset, out);
  }

 private:
  std::unique_ptr<Reader> reader_;
  uint64_t bad_offset_;
};

TEST(WeightLoader, ReadErrorIsReported) {
  auto reader = OpenFileReader(testing::TestData("models/tiny-llama3.gguf"));
  ASSERT_TRUE(reader.ok());
  const uint64_t bad_offset = (*reader)->size() - 20000;
  std::vector<std::unique_ptr<Reader>> shards;
  shards.push_back(std::make_unique<FailingReader>(std::move(reader).value(), bad_offset));
  auto file = GgufFile::Open(std::move(shards));
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  ThreadPool pool(2);
  NullLogger log;
  const auto model = Model::Load(**file, Isa::kScalar, pool, log, {});
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.status().code(), StatusCode::kIoError);
  EXPECT_THAT(std::string(model.status().message()), AllOf(HasSubstr("disk is broken"), HasSubstr("tensor '")));
}

}  // namespace
}  // namespace pantry
