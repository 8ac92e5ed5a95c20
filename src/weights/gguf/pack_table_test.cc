// SPDX-License-Identifier: Apache-2.0
// Tables of blocks written by hand: a good one, and a table of bad ones with what the user is told.
#include "weights/gguf/pack_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "weights/gguf/gguf_file.h"
#include "weights/gguf/gguf_test_builder.h"

namespace pantry {
namespace {

using testing::GgufBuilder;
using ::testing::HasSubstr;

// A group of two experts (4096 bytes and a bit) and a matrix of its own; a tensor beside. All as it should be unless changed.
struct Pack {
  uint32_t version = 1;
  std::string layout = "scalar";
  uint32_t piece_bytes = 4096;
  std::vector<uint32_t> n_blocks = {2, 1};
  std::vector<uint64_t> block_bytes = {5000, 4096};
  std::vector<std::string> names = {"gate", "down", "out"};
  std::vector<uint32_t> orders = {};  // none: the key is absent
  std::vector<uint32_t> groups = {0, 0, 1};
  std::vector<uint32_t> types = {0, 0, 0};  // F32
  std::vector<uint64_t> dims = {64, 8, 2, 0, 64, 8, 0, 0, 1024, 0, 0, 0};
  uint64_t n_checksums = 5;
  uint64_t n_bytes = 2 * 8192 + 4096;
  TensorType checksums_type = TensorType::kI64;
  TensorType blocks_type = TensorType::kI8;
  std::string blocks_name = "pantry.blocks";
  std::string plain_name = "norm";
  uint32_t alignment = 4096;
  int64_t split_count = 0;

  std::vector<uint8_t> Build() const {
    GgufBuilder builder;
    builder.Alignment(alignment)
        .U32(pack_keys::kVersion, version)
        .String(pack_keys::kLayout, layout)
        .U32(pack_keys::kPieceBytes, piece_bytes)
        .Array(pack_keys::kGroupBlocks, MetadataType::kU32, n_blocks)
        .Array(pack_keys::kGroupBlockBytes, MetadataType::kU64, block_bytes)
        .Strings(pack_keys::kTensorName, names)
        .Array(pack_keys::kTensorGroup, MetadataType::kU32, groups)
        .Array(pack_keys::kTensorType, MetadataType::kU32, types)
        .Array(pack_keys::kTensorDims, MetadataType::kU64, dims);
    if (!orders.empty()) builder.Array(pack_keys::kGroupOrder, MetadataType::kU32, orders);
    builder.Tensor(plain_name, {64}, TensorType::kF32).Tensor("pantry.checksums", {n_checksums}, checksums_type);
    if (blocks_type == TensorType::kI8) builder.Tensor(blocks_name, {n_bytes}, blocks_type);
    else builder.Tensor(blocks_name, {n_bytes / 4}, blocks_type);
    return builder.Build();
  }
};

Result<std::unique_ptr<GgufFile>> Open(const std::vector<uint8_t>& bytes) {
  std::vector<std::unique_ptr<Reader>> readers;
  readers.push_back(MakeMemoryReader("x.pantry", bytes));
  return GgufFile::Open(std::move(readers));
}

TEST(PackTable, SaysWhatBlocksHold) {
  Pack pack;
  EXPECT_FALSE((*Open(pack.Build()))->pack()->has_neurons());
  pack.version = kOrderedPackVersion;
  pack.orders = {1, 0};
  const auto opened = Open(pack.Build());
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  const PackTable& table = *(*opened)->pack();
  EXPECT_TRUE(table.has_neurons());
  EXPECT_EQ(table.groups()[0].order, PackOrder::kNeurons);
  EXPECT_EQ(table.groups()[1].order, PackOrder::kTiles);

  pack.orders = {0, 2};
  const auto of_experts = Open(pack.Build());
  ASSERT_TRUE(of_experts.ok()) << of_experts.status().message();
  EXPECT_FALSE((*of_experts)->pack()->has_neurons());
  EXPECT_EQ((*of_experts)->pack()->groups()[1].order, PackOrder::kRowsAndColumns);
}

TEST(PackTable, SaysWhereEveryBlockAndPieceLies) {
  const std::vector<uint8_t> bytes = Pack().Build();
  const auto opened = Open(bytes);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  const PackTable& table = *(*opened)->pack();
  EXPECT_EQ(table.n_blocks(), 3u);
  ASSERT_EQ(table.groups().size(), 2u);
  EXPECT_THAT(table.groups()[0].tensors, ::testing::ElementsAre("gate", "down"));
  EXPECT_EQ(table.groups()[1].first_block, 2u);
  EXPECT_EQ(&table.GroupOf(BlockId(1)), &table.groups()[0]);
  EXPECT_EQ(&table.GroupOf(BlockId(2)), &table.groups()[1]);
  const uint64_t begin = bytes.size() - (2 * 8192 + 4096);
  EXPECT_EQ(table.BlockOffset(BlockId(0)), begin);
  EXPECT_EQ(table.BlockOffset(BlockId(1)), begin + 8192);
  EXPECT_EQ(table.BlockOffset(BlockId(2)), begin + 2 * 8192);
  EXPECT_EQ(table.n_pieces(BlockId(1)), 2);
  EXPECT_EQ(table.PieceOffset(BlockId(1), 1), begin + 8192 + 4096);
  EXPECT_EQ(table.PieceBytes(BlockId(1), 0), 4096u);
  EXPECT_EQ(table.PieceBytes(BlockId(1), 1), 5000u - 4096u);
  EXPECT_EQ(table.n_pieces(BlockId(2)), 1);
  EXPECT_EQ((*opened)->FindTensor("gate")->dims, (std::vector<int64_t>{64, 8, 2}));
  EXPECT_EQ((*opened)->FindTensor("down")->dims, (std::vector<int64_t>{64, 8}));
}

TEST(PackTable, ChecksumIsXxh3OfThePiece) {
  // The published value of XXH3-64 with seed 0 for no bytes at all.
  EXPECT_EQ(PackChecksum({}), 0x2D06800538D394C2u);
  const std::vector<uint8_t> bytes = Pack().Build();
  const auto opened = Open(bytes);
  // The builder fills the second tensor with bytes of 2.
  EXPECT_EQ((*opened)->pack()->Checksum(BlockId(1), 1), 0x0202020202020202u);
}

TEST(PackTable, PlainGgufHasNone) {
  const std::vector<uint8_t> bytes = GgufBuilder().Tensor("pantry.blocks", {64}, TensorType::kI8).Build();
  const auto opened = Open(bytes);
  EXPECT_EQ((*opened)->pack(), nullptr);
  EXPECT_NE((*opened)->FindTensor("pantry.blocks"), nullptr);
}

struct BadPack {
  const char* name;
  std::function<void(Pack&)> spoil;
  StatusCode code;
  const char* message_has;
};
std::ostream& operator<<(std::ostream& out, const BadPack& bad) { return out << bad.name; }

constexpr StatusCode kBad = StatusCode::kCorruption;
const BadPack kBadPacks[] = {
    {"Version3", [](Pack& p) { p.version = 3; }, StatusCode::kUnsupported,
     "the pack has version 3, this program reads versions 1 and 2: pack the model again"},
    {"WithoutOrders", [](Pack& p) { p.version = kOrderedPackVersion; }, StatusCode::kNotFound,
     "pantry.pack.group.order"},
    {"TooFewOrders",
     [](Pack& p) {
       p.version = kOrderedPackVersion;
       p.orders = {1};
     },
     kBad, "group.order' has 1 elements, expected 2"},
    {"UnknownOrder",
     [](Pack& p) {
       p.version = kOrderedPackVersion;
       p.orders = {0, 4};
     },
     StatusCode::kUnsupported, "group 1 has blocks of kind 4"},
    {"UnknownLayout", [](Pack& p) { p.layout = "avx1024"; }, StatusCode::kUnsupported,
     "laid out for 'avx1024', which this program does not know: pack the model again"},
    {"NoPiece", [](Pack& p) { p.piece_bytes = 0; }, kBad, "'pantry.pack.piece_bytes' is 0"},
    {"OddPiece", [](Pack& p) { p.piece_bytes = 4097; }, kBad, "expected a multiple of 4096"},
    {"HugePiece", [](Pack& p) { p.piece_bytes = 1u << 30; }, kBad, "up to 4194304"},
    {"NoBlocksTensor", [](Pack& p) { p.blocks_name = "other"; }, kBad, "the pack has no tensor 'pantry.blocks'"},
    {"BlocksOfAnotherType", [](Pack& p) { p.blocks_type = TensorType::kF32; }, kBad,
     "tensor 'pantry.blocks' is F32 of 1 dimensions, expected I8 of 1"},
    {"ChecksumsOfAnotherType", [](Pack& p) { p.checksums_type = TensorType::kF64; }, kBad,
     "is F64 of 1 dimensions, expected I64"},
    {"BlocksOffAlignment", [](Pack& p) { p.alignment = 32; }, kBad, "expected a multiple of 4096; the file is damaged"},
    {"FewerSizesThanGroups", [](Pack& p) { p.block_bytes.pop_back(); }, kBad,
     "block_bytes' has 1 elements, expected 2"},
    {"EmptyGroup", [](Pack& p) { p.n_blocks[0] = 0; }, kBad, "group 0 has 0 blocks of 5000 bytes"},
    {"EmptyBlock", [](Pack& p) { p.block_bytes[1] = 0; }, kBad, "group 1 has 1 blocks of 0 bytes"},
    {"NegativeBlock", [](Pack& p) { p.block_bytes[1] = ~uint64_t{0}; }, kBad, "group 1 has 1 blocks of -1 bytes"},
    {"GiganticBlock", [](Pack& p) { p.block_bytes[0] = uint64_t{1} << 60; }, kBad, "which is impossible"},
    {"ProductOverflows",
     [](Pack& p) {
       p.n_blocks[0] = 1u << 31 >> 1;
       p.block_bytes[0] = uint64_t{1} << 40;
     },
     kBad, "take more than the 20480 bytes"},
    {"TooManyBlocks", [](Pack& p) { p.n_blocks[0] = 0xFFFFFFFF; }, kBad, "which is impossible"},
    {"BlocksLargerThanTheirTensor", [](Pack& p) { p.n_bytes -= 4096; }, kBad, "group 1 take more than the 16384 bytes"},
    {"BlocksSmallerThanTheirTensor", [](Pack& p) { p.n_bytes += 4096; }, kBad,
     "all groups take 20480 bytes, tensor 'pantry.blocks' has 24576"},
    {"TooFewChecksums", [](Pack& p) { p.n_checksums = 4; }, kBad, "has 4 elements, the blocks have 5 pieces"},
    {"TooManyChecksums", [](Pack& p) { p.n_checksums = 6; }, kBad, "has 6 elements, the blocks have 5 pieces"},
    {"NoTensors",
     [](Pack& p) {
       p.names.clear();
       p.groups.clear();
       p.types.clear();
       p.dims.clear();
     },
     kBad, "group 0 has no tensor"},
    {"GroupOutOfOrder", [](Pack& p) { p.groups = {0, 1, 0}; }, kBad, "tensor 'out' cannot be of group 0"},
    {"GroupLeftOut", [](Pack& p) { p.groups = {0, 0, 0}; }, kBad, "is larger than the blocks that hold it"},
    {"GroupUnknown", [](Pack& p) { p.groups = {0, 1, 2}; }, kBad, "tensor 'out' cannot be of group 2"},
    {"FewerTypesThanTensors", [](Pack& p) { p.types.pop_back(); }, kBad, "tensor.type' has 2 elements, expected 3"},
    {"FewerDimsThanTensors", [](Pack& p) { p.dims.pop_back(); }, kBad, "tensor.dims' has 11 elements, expected 12"},
    {"UnknownType", [](Pack& p) { p.types[1] = 12345; }, StatusCode::kUnsupported,
     "tensor 'down': unknown number format 12345"},
    {"EmptyName", [](Pack& p) { p.names[0] = ""; }, kBad, "a name of 0 bytes"},
    {"NoDimension", [](Pack& p) { p.dims[0] = 0; }, kBad, "tensor 'gate': dimension 0 is 0"},
    {"DimensionsWithAGap", [](Pack& p) { p.dims[1] = 0; }, kBad, "a dimension follows one that is 0"},
    {"TooManyElements", [](Pack& p) { p.dims[0] = uint64_t{1} << 55; }, kBad, "tensor 'gate': dimension 1 is 8"},
    {"RowsThatAreNoBlocks", [](Pack& p) { p.types[0] = 2, p.dims[0] = 48; }, kBad,
     "rows of 48 weights, expected a multiple of 32"},
    {"TensorLargerThanItsBlocks", [](Pack& p) { p.dims[8] = 1025; }, kBad, "tensor 'out' is larger than the blocks"},
    {"SameNameTwice", [](Pack& p) { p.names[1] = "gate"; }, kBad, "two tensors 'gate', one of them in blocks"},
    {"SameNameBeside", [](Pack& p) { p.plain_name = "out"; }, kBad, "two tensors 'out', one of them in blocks"},
};

class BadPackTest : public ::testing::TestWithParam<BadPack> {};

TEST_P(BadPackTest, IsRefusedWithAReason) {
  Pack pack;
  GetParam().spoil(pack);
  const std::vector<uint8_t> bytes = pack.Build();
  const Result<std::unique_ptr<GgufFile>> opened = Open(bytes);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.status().code(), GetParam().code) << opened.status().message();
  EXPECT_THAT(std::string(opened.status().message()), HasSubstr("x.pantry: "));
  EXPECT_THAT(std::string(opened.status().message()), HasSubstr(GetParam().message_has));
}

INSTANTIATE_TEST_SUITE_P(PackTable, BadPackTest, ::testing::ValuesIn(kBadPacks),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(PackTable, MissingAndMistypedKeysAreRefused) {
  for (const std::string_view key :
       {pack_keys::kLayout, pack_keys::kPieceBytes, pack_keys::kGroupBlocks, pack_keys::kGroupBlockBytes,
        pack_keys::kTensorName, pack_keys::kTensorGroup, pack_keys::kTensorType, pack_keys::kTensorDims}) {
    std::vector<uint8_t> bytes = Pack().Build();
    const auto at = std::search(bytes.begin(), bytes.end(), key.begin(), key.end());
    ASSERT_NE(at, bytes.end()) << key;
    *at = 'P';
    Result<std::unique_ptr<GgufFile>> opened = Open(bytes);
    ASSERT_FALSE(opened.ok()) << key;
    EXPECT_THAT(std::string(opened.status().message()), HasSubstr(std::string(key))) << key;

    bytes = Pack().Build();
    uint8_t* const type = &*std::search(bytes.begin(), bytes.end(), key.begin(), key.end()) + key.size();
    // An array becomes one of floats, a string or a number a float: as wide as before or less, so that the next key is still found.
    if (*type == 9 && type[4] != 8) type[4] = type[4] == 4 ? 6 : 12;
    else if (*type == 4) *type = 6;
    else continue;
    opened = Open(bytes);
    ASSERT_FALSE(opened.ok()) << key;
    EXPECT_THAT(std::string(opened.status().message()), HasSubstr(std::string(key))) << key;
  }
}

}  // namespace
}  // namespace pantry
