// SPDX-License-Identifier: Apache-2.0
// A model with experts is packed, by hand-made placers: what the file holds, and what is left wherever writing fails or is killed.
#include "weights/pack/pack_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <set>

#include "support/temporary_files.h"
#include "weights/pack/test_pack_model.h"

namespace pantry {
namespace {

using ::testing::AllOf;
using testing::BlockOf;
using ::testing::ElementsAre;
using testing::FileBytes;
using ::testing::HasSubstr;
using testing::ModelBytes;
using testing::NamesIn;
using testing::PlanOf;
using testing::SaveBytes;

// Small windows: several of each kind.
constexpr PackOptions kSmallWindows = {.verify = true, .n_lanes = 2, .window_bytes = 16 << 10};

// Fails from its n-th call that changes anything on, as a disk that fills up or a process that is killed: nothing is written any more.
class DyingFile final : public OutputFile {
 public:
  DyingFile(std::unique_ptr<OutputFile> inner, int n_good_calls, bool is_torn, int64_t free_bytes)
      : inner_(std::move(inner)), n_left_(n_good_calls), is_torn_(is_torn), free_bytes_(free_bytes) {}
  const std::string& path() const override { return inner_->path(); }
  const std::string& part_path() const override { return inner_->part_path(); }
  uint64_t size() const override { return inner_->size(); }
  Status Clear() override { return Dies() ? Gone() : inner_->Clear(); }
  Status Reserve(uint64_t n_bytes) override { return Dies() ? Gone() : inner_->Reserve(n_bytes); }
  Status WriteAt(uint64_t offset, std::span<const uint8_t> bytes) override {
    written.insert({offset, bytes.size()});
    if (!Dies()) return inner_->WriteAt(offset, bytes);
    if (is_torn_ && n_left_ == -1) {
      const size_t half = bytes.size() / 2 / kAlignment * kAlignment;
      (void)inner_->WriteAt(offset + bytes.size() - half, bytes.last(half));
    }
    return Gone();
  }
  Status Sync() override { return Dies() ? Gone() : inner_->Sync(); }
  Status Publish() override { return Dies() ? Gone() : inner_->Publish(); }
  int64_t FreeBytes() const override { return free_bytes_; }
  bool died() const { return n_left_ < 0; }

  std::set<std::pair<uint64_t, uint64_t>> written;  // offset and length

 private:
  bool Dies() { return --n_left_ < 0; }
  static Status Gone() { return IoError("No space left on device"); }
  const std::unique_ptr<OutputFile> inner_;
  int n_left_;
  const bool is_torn_;
  const int64_t free_bytes_;
};

class PackWriter : public ::testing::Test {
 protected:
  PackWriter() { SetModel(ModelBytes()); }

  void SetModel(const std::vector<uint8_t>& bytes) {
    SaveBytes(model_path_, bytes);
    source_ = *GgufFile::Open(model_path_);
    plan_ = PlanOf(*source_);
  }
  Result<PackReport> Write(OutputFile& out, const PackOptions& options = kSmallWindows,
                           const PackProgress& progress = {}) {
    return WritePack(*source_, plan_, out, options, log_, progress);
  }
  Result<PackReport> Pack(const PackOptions& options = kSmallWindows, bool replace = false,
                          const PackProgress& progress = {}) {
    Result<std::unique_ptr<OutputFile>> out = OpenOutputFile(out_path_, replace);
    if (!out.ok()) return out.status();
    return Write(**out, options, progress);
  }
  void ExpectWhole() const {
    const Result<std::unique_ptr<GgufFile>> opened = GgufFile::Open(out_path_);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    const PackTable& table = *(*opened)->pack();
    ASSERT_EQ(table.n_blocks(), 4u);
    const std::vector<uint8_t> file = FileBytes(out_path_);
    for (uint32_t i = 0; i < table.n_blocks(); ++i) {
      const BlockId block(i);
      const PackGroup& group = table.GroupOf(block);
      const std::vector<uint8_t> expected = BlockOf(*source_, plan_, block, group.block_bytes);
      const uint64_t offset = table.BlockOffset(block);
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), file.begin() + static_cast<int64_t>(offset))) << i;
      for (uint64_t at = group.block_bytes; at < group.stride(); ++at) ASSERT_EQ(file[offset + at], 0);
      for (int piece = 0; piece < table.n_pieces(block); ++piece) {
        EXPECT_TRUE(table.PieceIsIntact(
            block, piece, {file.data() + table.PieceOffset(block, piece), table.PieceBytes(block, piece)}));
      }
    }
    for (const TensorInfo& tensor : (*opened)->tensors()) {
      if (tensor.in_blocks()) continue;
      std::vector<uint8_t> expected(tensor.n_bytes), found(tensor.n_bytes);
      ASSERT_TRUE(source_->ReadTensor(*source_->FindTensor(tensor.name), 0, expected).ok());
      ASSERT_TRUE((*opened)->ReadTensor(tensor, 0, found).ok());
      EXPECT_EQ(found, expected) << tensor.name;
    }
  }

  testing::TemporaryFolder folder_;
  const std::string model_path_ = folder_.path() + "/model.gguf";
  const std::string out_path_ = folder_.path() + "/model.pantry";
  std::unique_ptr<GgufFile> source_;
  PackPlan plan_;
  RecordingLogger log_;
};

TEST_F(PackWriter, EveryBlockIsWhatTheRunWouldHaveInMemory) {
  const Result<PackReport> report = Pack();
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->file_bytes, FileBytes(out_path_).size());
  EXPECT_EQ(report->n_blocks, 4u);
  EXPECT_EQ(report->kept_bytes, 0u);
  EXPECT_THAT(NamesIn(folder_.path()), ElementsAre("model.gguf", "model.pantry"));
  ExpectWhole();
}

TEST_F(PackWriter, LargeWindowsGiveTheSameBytesAsSmallOnes) {
  ASSERT_TRUE(Pack({.verify = false}).ok());
  const std::vector<uint8_t> large = FileBytes(out_path_);
  ASSERT_TRUE(Pack({.verify = false, .n_lanes = 1, .window_bytes = 4096}, true).ok());
  EXPECT_EQ(FileBytes(out_path_), large);
}

TEST_F(PackWriter, MetadataAreTheModelsWidthForWidth) {
  ASSERT_TRUE(Pack().ok());
  const auto opened = *GgufFile::Open(out_path_);
  size_t n_ours = 0;
  for (const Metadata::Entry& entry : opened->metadata().entries())
    n_ours += entry.key.starts_with("pantry.pack.") ? 1 : 0;
  EXPECT_EQ(opened->metadata().entries().size(), source_->metadata().entries().size() + n_ours);
  for (const Metadata::Entry& entry : source_->metadata().entries()) {
    if (entry.key == "general.alignment") continue;
    const MetadataValue* const found = opened->metadata().Find(entry.key);
    ASSERT_NE(found, nullptr) << entry.key;
    EXPECT_EQ(found->type, entry.value.type) << entry.key;
    EXPECT_EQ(FormatMetadataValue(*found, 1000), FormatMetadataValue(entry.value, 1000)) << entry.key;
  }
  EXPECT_EQ(*opened->metadata().GetInt("general.alignment"), 4096);
  EXPECT_EQ(*opened->metadata().GetInt("pantry.pack.source_bytes"), static_cast<int64_t>(source_->total_bytes()));
}

TEST_F(PackWriter, TensorsInBlocksAreFoundAsTheModelHadThem) {
  ASSERT_TRUE(Pack().ok());
  const auto opened = *GgufFile::Open(out_path_);
  EXPECT_EQ(opened->tensors().size(), source_->tensors().size());
  EXPECT_EQ(opened->tensor_bytes(), source_->tensor_bytes());
  for (const TensorInfo& tensor : source_->tensors()) {
    const TensorInfo* const found = opened->FindTensor(tensor.name);
    ASSERT_NE(found, nullptr) << tensor.name;
    EXPECT_EQ(found->dims, tensor.dims);
    EXPECT_EQ(found->type, tensor.type);
    EXPECT_EQ(found->n_bytes, tensor.n_bytes);
  }
  const PackTable& table = *opened->pack();
  EXPECT_EQ(table.layout(), Isa::kScalar);
  const TensorInfo& up = *opened->FindTensor("blk.0.ffn_up_exps.weight");
  EXPECT_EQ(up.pack_group, 0);
  EXPECT_EQ(up.offset, table.BlockOffset(BlockId(0)));
  EXPECT_EQ(opened->FindTensor("output.weight")->offset, table.BlockOffset(BlockId(3)));
  EXPECT_FALSE(opened->FindTensor("token_embd.weight")->in_blocks());
  std::vector<uint8_t> bytes(16);
  const Status status = opened->ReadTensor(up, 0, bytes);
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("'blk.0.ffn_up_exps.weight' lies in blocks laid out for scalar"));
  EXPECT_EQ(opened->FindTensor("pantry.blocks"), nullptr);
  EXPECT_EQ(opened->FindTensor("pantry.checksums"), nullptr);
}

TEST_F(PackWriter, DamagedPieceIsFoundByName) {
  ASSERT_TRUE(Pack().ok());
  std::vector<uint8_t> file = FileBytes(out_path_);
  uint64_t where = 0;
  {
    const auto opened = *GgufFile::Open(out_path_);
    where = opened->pack()->PieceOffset(BlockId(3), 2) + 77;
  }
  file[where] ^= 4;
  SaveBytes(out_path_, file);
  const auto opened = *GgufFile::Open(out_path_);
  const PackTable& table = *opened->pack();
  for (uint32_t i = 0; i < 4; ++i) {
    for (int piece = 0; piece < table.n_pieces(BlockId(i)); ++piece) {
      const bool intact = table.PieceIsIntact(
          BlockId(i), piece, {file.data() + table.PieceOffset(BlockId(i), piece), table.PieceBytes(BlockId(i), piece)});
      EXPECT_EQ(intact, i != 3 || piece != 2) << i << ' ' << piece;
    }
  }
  EXPECT_THAT(
      std::string(table.Damaged(BlockId(3), 2).message()),
      AllOf(HasSubstr("model.pantry: output.weight: the 524288 bytes at offset"), HasSubstr("pack the model again")));
  EXPECT_THAT(std::string(table.Damaged(BlockId(1), 0).message()),
              HasSubstr("block 1 of blk.0.ffn_gate_exps.weight, blk.0.ffn_up"));
}

// ---- interruptions ----

// However far a run gets, the final name does not appear, and the next run ends with the very file that an undisturbed one writes.
TEST_F(PackWriter, KilledAtAnyWriteTheNextRunCompletesTheFile) {
  ASSERT_TRUE(Pack().ok());
  const std::vector<uint8_t> whole = FileBytes(out_path_);
  for (const bool is_torn : {false, true}) {
    for (int n_good = 0;; ++n_good) {
      std::filesystem::remove(out_path_);
      std::filesystem::remove(out_path_ + ".part");
      {
        DyingFile out(*OpenOutputFile(out_path_, false), n_good, is_torn, -1);
        const Result<PackReport> report = Write(out);
        if (!out.died()) {
          EXPECT_TRUE(report.ok()) << report.status().message();
          EXPECT_GT(n_good, 10);
          break;
        }
        EXPECT_FALSE(report.ok()) << n_good;
        EXPECT_FALSE(std::filesystem::exists(out_path_)) << n_good;
      }
      const Result<PackReport> report = Pack();
      ASSERT_TRUE(report.ok()) << n_good << ": " << report.status().message();
      EXPECT_EQ(FileBytes(out_path_), whole) << n_good;
      EXPECT_FALSE(std::filesystem::exists(out_path_ + ".part")) << n_good;
    }
  }
}

TEST_F(PackWriter, ResumedRunWritesOnlyTheBlocksThatAreMissing) {
  ASSERT_TRUE(Pack().ok());
  std::vector<uint8_t> file = FileBytes(out_path_);
  uint64_t damaged = 0, intact = 0;
  {
    const auto opened = *GgufFile::Open(out_path_);
    damaged = opened->pack()->BlockOffset(BlockId(1));
    intact = opened->pack()->BlockOffset(BlockId(3));
  }
  file[damaged + 5] ^= 1;
  std::filesystem::remove(out_path_);
  SaveBytes(out_path_ + ".part", file);
  DyingFile out(*OpenOutputFile(out_path_, false), 1000, false, -1);
  const Result<PackReport> report = Write(out);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_GT(report->kept_bytes, 2u << 20);
  for (const auto& [offset, n_bytes] : out.written) {
    EXPECT_TRUE(offset + n_bytes <= damaged + 16384 && offset < intact) << offset << ' ' << n_bytes;
  }
  EXPECT_THAT(log_.lines.back().second, AllOf(HasSubstr("going on with"), HasSubstr("are there")));
  ExpectWhole();
}

TEST_F(PackWriter, PartOfAnotherModelIsNotContinued) {
  SetModel(ModelBytes(2));  // same head, other weights
  {
    DyingFile out(*OpenOutputFile(out_path_, false), 9, false, -1);
    ASSERT_FALSE(Write(out).ok());
  }
  SetModel(ModelBytes(3));
  const Result<PackReport> report = Pack();
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->kept_bytes, 0u);
  EXPECT_THAT(log_.lines.back().second, HasSubstr("is of another model or another layout"));
  ExpectWhole();
}

TEST_F(PackWriter, InterruptedRunSaysHowToGoOn) {
  for (const PackStep when : {PackStep::kPacking, PackStep::kVerifying, PackStep::kChecking}) {
    const Result<PackReport> report =
        Pack(kSmallWindows, false, [when](PackStep step, uint64_t, uint64_t) { return step != when; });
    EXPECT_EQ(report.status().code(), StatusCode::kCancelled);
    EXPECT_THAT(std::string(report.status().message()), HasSubstr("the same command goes on from there"));
    EXPECT_THAT(NamesIn(folder_.path()), ElementsAre("model.gguf", "model.pantry.part"));
  }
  ASSERT_TRUE(Pack().ok());
  ExpectWhole();
}

TEST_F(PackWriter, ProgressCountsUpToItsTotalInEveryStep) {
  uint64_t last = 0;
  PackStep step = PackStep::kChecking;
  std::vector<PackStep> finished;
  ASSERT_TRUE(Pack(kSmallWindows, false, [&](PackStep now, uint64_t n_done, uint64_t n_total) {
                if (now != step) last = 0;
                step = now;
                EXPECT_GE(n_done, last);
                EXPECT_LE(n_done, n_total);
                last = n_done;
                if (n_done == n_total) finished.push_back(now);
                return true;
              }).ok());
  EXPECT_THAT(finished, ::testing::Contains(PackStep::kVerifying));
}

TEST_F(PackWriter, DiskThatFillsUpSaysHowMuchIsMissing) {
  DyingFile out(*OpenOutputFile(out_path_, false), 8, false, 1000);
  const Status status = Write(out).status();
  EXPECT_EQ(status.code(), StatusCode::kIoError);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("No space left on device; "),
                                                   HasSubstr("MB are still to be written, 1.0 kB are free there"),
                                                   HasSubstr("are written, and the same command goes on from there")));
}

TEST_F(PackWriter, DiskThatGivesBackOtherBytesIsNoticedBeforeTheFileHasItsName) {
  // Writes one byte other than it was told, of the second expert.
  class LyingFile final : public OutputFile {
   public:
    explicit LyingFile(std::unique_ptr<OutputFile> inner) : inner_(std::move(inner)) {}
    const std::string& path() const override { return inner_->path(); }
    const std::string& part_path() const override { return inner_->part_path(); }
    uint64_t size() const override { return inner_->size(); }
    Status Clear() override { return inner_->Clear(); }
    Status Reserve(uint64_t n_bytes) override { return inner_->Reserve(n_bytes); }
    Status WriteAt(uint64_t offset, std::span<const uint8_t> bytes) override { return inner_->WriteAt(offset, bytes); }
    Status Sync() override {
      const std::vector<uint8_t> file = FileBytes(part_path());
      const auto opened = *GgufFile::Open(part_path());
      std::fstream out(part_path(), std::ios::in | std::ios::out | std::ios::binary);
      out.seekp(static_cast<std::streamoff>(opened->pack()->BlockOffset(BlockId(1))) + 99);
      out.put(static_cast<char>(~file[opened->pack()->BlockOffset(BlockId(1)) + 99]));
      out.close();
      return inner_->Sync();
    }
    Status Publish() override { return inner_->Publish(); }
    int64_t FreeBytes() const override { return inner_->FreeBytes(); }

   private:
    const std::unique_ptr<OutputFile> inner_;
  };
  {
    LyingFile out(*OpenOutputFile(out_path_, false));
    const Status status = Write(out).status();
    EXPECT_EQ(status.code(), StatusCode::kIoError);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("block 1 of blk.0.ffn_gate_exps.weight"), HasSubstr("are not what was written")));
  }
  EXPECT_FALSE(std::filesystem::exists(out_path_));
  ASSERT_TRUE(Pack().ok());
  ExpectWhole();
}

// ---- refusals ----

TEST_F(PackWriter, ModelItselfIsNeverOverwritten) {
  const std::vector<uint8_t> before = FileBytes(model_path_);
  EXPECT_EQ(CheckPackPath(*source_, model_path_).code(), StatusCode::kInvalidArgument);
  const auto out = *OpenOutputFile(model_path_, true);
  EXPECT_EQ(Write(*out).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(FileBytes(model_path_), before);
  std::filesystem::create_hard_link(model_path_, out_path_ + ".part");
  EXPECT_EQ(CheckPackPath(*source_, out_path_).code(), StatusCode::kInvalidArgument);
}

TEST_F(PackWriter, PackIsNotPackedAgain) {
  ASSERT_TRUE(Pack().ok());
  source_ = *GgufFile::Open(out_path_);
  const auto out = *OpenOutputFile(folder_.path() + "/again.pantry", false);
  const Status status = Write(*out).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is packed already, for scalar"));
}

TEST_F(PackWriter, ModelWithTensorsNamedAsAPacksIsRefused) {
  std::vector<uint8_t> bytes = ModelBytes();
  const std::string old_name = "token_embd.weight", new_name = "pantry.blocks";
  const auto at = std::search(bytes.begin(), bytes.end(), old_name.begin(), old_name.end());
  // Shorter by four bytes, which the next field, the number of dimensions, must not notice: the name is cut out.
  std::copy(new_name.begin(), new_name.end(), at);
  at[-8] = static_cast<uint8_t>(new_name.size());
  bytes.erase(at + static_cast<int64_t>(new_name.size()), at + static_cast<int64_t>(old_name.size()));
  bytes.insert(bytes.end(), 64, 0);  // the data move up by less than the alignment: the file stays long enough
  SaveBytes(model_path_, bytes);
  Result<std::unique_ptr<GgufFile>> opened = GgufFile::Open(model_path_);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  source_ = *std::move(opened);
  plan_ = PlanOf(*source_);
  const auto out = *OpenOutputFile(out_path_, false);
  EXPECT_EQ(Write(*out).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(PackWriter, PlanThatDoesNotFitTheModelIsRefused) {
  const auto out = *OpenOutputFile(out_path_, false);
  const auto code = [&] { return Write(*out).status().code(); };
  plan_.groups[1].tensors[0] = "no.such";
  EXPECT_EQ(code(), StatusCode::kInternal);
  plan_.groups[1].tensors[0] = "blk.0.ffn_up_exps.weight";
  EXPECT_EQ(code(), StatusCode::kInternal);
  plan_ = PlanOf(*source_);
  plan_.groups[0].block_bytes = 100;
  EXPECT_EQ(code(), StatusCode::kInternal);
  plan_.groups.clear();
  EXPECT_EQ(code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace pantry
