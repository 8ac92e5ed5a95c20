// SPDX-License-Identifier: Apache-2.0
// The worked example of docs/format.md, written and compared with what the page says, byte for byte.
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include "support/temporary_files.h"
#include "weights/pack/pack_writer.h"
#include "weights/pack/test_pack_model.h"

namespace pantry {
namespace {

constexpr int64_t kRow = 34, kPackedRow = 64;  // 32 weights of Q8_0; in the layout of the portable kernels
constexpr int kRowsPerPart = 32, kParts = 3;

// Rows of gate, up and down, each filled up to 64 bytes: what the portable kernels' layout makes of Q8_0.
class RowPlacer final : public BlockPlacer {
 public:
  explicit RowPlacer(const GgufFile& file) {
    for (const char* name : {"blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight"}) {
      offsets_.push_back(file.FindTensor(name)->offset);
    }
  }
  size_t max_piece_bytes() const override { return kRowsPerPart * kRow; }
  int n_pieces(BlockId) const override { return kParts; }
  BlockPiece Piece(BlockId block, int piece) const override {
    return {0, offsets_[static_cast<size_t>(piece)] + block.value() * max_piece_bytes(), max_piece_bytes()};
  }
  Status Place(BlockId, int piece, const uint8_t* bytes, uint8_t* memory) const override {
    for (int row = 0; row < kRowsPerPart; ++row) {
      std::copy_n(bytes + row * kRow, kRow, memory + (piece * kRowsPerPart + row) * kPackedRow);
    }
    return OkStatus();
  }

 private:
  std::vector<uint64_t> offsets_;
};

// Reads the lines "OFFSET  BYTES  what they are" of the page.
TEST(PackFormat, WorkedExampleInTheDocumentationIsWhatIsWritten) {
  const testing::TemporaryFolder folder;
  const std::string model = folder.path() + "/tiny.gguf", packed = folder.path() + "/tiny.pantry";
  testing::SaveBytes(model, testing::GgufBuilder()
                                .String("general.architecture", "mini")
                                .Tensor("norm.weight", {32}, TensorType::kF32)
                                .Tensor("blk.0.ffn_gate_exps.weight", {32, 32, 2}, TensorType::kQ8_0)
                                .Tensor("blk.0.ffn_up_exps.weight", {32, 32, 2}, TensorType::kQ8_0)
                                .Tensor("blk.0.ffn_down_exps.weight", {32, 32, 2}, TensorType::kQ8_0)
                                .Build());
  const auto source = *GgufFile::Open(model);
  PackPlan plan;
  plan.groups = {{{"blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight"},
                  2,
                  kParts * kRowsPerPart * kPackedRow}};
  plan.placer = std::make_unique<RowPlacer>(*source);
  NullLogger log;
  {
    const auto out = *OpenOutputFile(packed, false);
    const Result<PackReport> report = WritePack(*source, plan, *out, PackOptions(), log, {});
    ASSERT_TRUE(report.ok()) << report.status().message();
  }
  const std::vector<uint8_t> file = testing::FileBytes(packed);

  std::ifstream page(std::string(PANTRY_SOURCE_DIR) + "/docs/format.md");
  ASSERT_TRUE(page.is_open());
  const std::regex line_of_bytes("^([0-9a-f]{8})  ((?:[0-9a-f]{2} )+) .*");
  size_t n_lines = 0;
  for (std::string line; std::getline(page, line);) {
    std::smatch match;
    if (!std::regex_match(line, match, line_of_bytes)) continue;
    ++n_lines;
    const size_t offset = std::stoul(match[1], nullptr, 16);
    const std::string expected = match[2];
    std::string found;
    for (size_t i = 0; i < expected.size() / 3 && offset + i < file.size(); ++i) {
      found += fmt::format("{:02x} ", file[offset + i]);
    }
    EXPECT_EQ(found, expected) << "at offset " << match[1];
  }
  EXPECT_GT(n_lines, 40u);
  EXPECT_NE(page.eof(), false);
  EXPECT_EQ(file.size(), 0x7000u);
}

}  // namespace
}  // namespace pantry
