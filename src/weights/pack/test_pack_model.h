// SPDX-License-Identifier: Apache-2.0
// A small model with experts and a dense matrix, a placer for it, and what its blocks must hold; for tests only.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "weights/gguf/gguf_file.h"
#include "weights/gguf/gguf_test_builder.h"
#include "weights/gguf/pack_table.h"
#include "weights/pack/pack_plan.h"

namespace pantry::testing {

inline constexpr uint32_t kExperts = 3;
inline constexpr int64_t kCols = 64, kRows = 96;
inline constexpr uint64_t kGap = 64;  // between parts of a block: as zeros in the file

inline std::vector<std::string> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

inline std::vector<uint8_t> FileBytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}
inline void SaveBytes(const std::string& path, std::span<const uint8_t> bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

// A GGUF with some metadata of each kind; its tensors' bytes are made from `seed`. `big_cols`: of the dense matrix.
inline std::vector<uint8_t> ModelBytes(uint8_t seed = 1, uint64_t big_cols = 256) {
  GgufBuilder builder;
  builder.Alignment(32)
      .String("general.architecture", "qwen3moe")
      .F32("a.float", 1e-5F)
      .Bool("a.bool", true)
      .U16("a.u16", 65535)
      .I32("a.i32", -5)
      .Entry("a.u64", MetadataType::kU64, ~uint64_t{0})
      .Entry("a.f64", MetadataType::kF64, 0.1)
      .Strings("tokenizer.ggml.tokens", {"a", "", "\xE2\x96\x81the", std::string("nul\0", 4)})
      .Array<int8_t>("a.i8s", MetadataType::kI8, {-1, 0, 127})
      .Array<uint64_t>("a.u64s", MetadataType::kU64, {0, ~uint64_t{0}})
      .Array<float>("a.floats", MetadataType::kF32, {0.1F, -3.0F})
      .Array<uint8_t>("a.bools", MetadataType::kBool, {1, 0})
      .RawEntry(GgufBuilder::ArrayHead("a.nested", MetadataType::kArray, 1).U32(4).U64(2).U32(7).U32(8))
      .Tensor("token_embd.weight", {64, 40}, TensorType::kQ8_0)
      .Tensor("blk.0.ffn_gate_exps.weight", {kCols, kRows, kExperts}, TensorType::kQ4_0)
      .Tensor("blk.0.attn_norm.weight", {64}, TensorType::kF32)
      .Tensor("blk.0.ffn_up_exps.weight", {kCols, kRows, kExperts}, TensorType::kQ4_0)
      .Tensor("blk.0.ffn_down_exps.weight", {kRows, kCols, kExperts}, TensorType::kQ4_0)
      .Tensor("output.weight", {big_cols, 2048}, TensorType::kF32)
      .Tensor("output_norm.weight", {64}, TensorType::kF32);
  std::vector<uint8_t> file = builder.Build();
  const size_t head = 2048;  // more than it has: data differ all over
  uint32_t state = seed;
  for (size_t i = head; i < file.size(); ++i)
    file[i] = static_cast<uint8_t>((state = state * 1664525U + 1013904223U) >> 24);
  return file;
}

// Turns each byte over, keeps the order within a part, leaves a gap in front of every part but the first. Pieces of 100 kB, which are not the file's.
class ReversingPlacer final : public BlockPlacer {
 public:
  static constexpr size_t kPiece = 100'000;
  struct Part {
    int32_t file;
    uint64_t offset;
    uint64_t n_bytes;  // of a block
    uint64_t to;
  };

  // Adds a group; its blocks' bytes.
  uint64_t Add(std::vector<const TensorInfo*> tensors, uint32_t n_blocks) {
    std::vector<Part> parts;
    uint64_t to = 0;
    for (const TensorInfo* tensor : tensors) {
      parts.push_back({tensor->shard, tensor->offset, tensor->n_bytes / n_blocks, to});
      to += tensor->n_bytes / n_blocks + kGap;
    }
    for (uint32_t i = 0; i < n_blocks; ++i) {
      blocks_.push_back(parts);
      for (Part& part : blocks_.back()) part.offset += i * part.n_bytes;
    }
    return to;
  }

  size_t max_piece_bytes() const override { return kPiece; }
  int n_pieces(BlockId block) const override {
    int n = 0;
    for (const Part& part : blocks_[block.value()]) n += static_cast<int>((part.n_bytes + kPiece - 1) / kPiece);
    return n;
  }
  BlockPiece Piece(BlockId block, int piece) const override {
    const auto [part, from] = Find(block, piece);
    return {part->file, part->offset + from, std::min<size_t>(kPiece, part->n_bytes - from)};
  }
  Status Place(BlockId block, int piece, const uint8_t* bytes, uint8_t* memory) const override {
    const auto [part, from] = Find(block, piece);
    const size_t n = std::min<size_t>(kPiece, part->n_bytes - from);
    for (size_t i = 0; i < n; ++i) memory[part->to + from + i] = static_cast<uint8_t>(~bytes[i]);
    return OkStatus();
  }

 private:
  std::pair<const Part*, uint64_t> Find(BlockId block, int piece) const {
    const Part* part = blocks_[block.value()].data();
    for (;; ++part) {
      const int n = static_cast<int>((part->n_bytes + kPiece - 1) / kPiece);
      if (piece < n) return {part, static_cast<uint64_t>(piece) * kPiece};
      piece -= n;
    }
  }
  std::vector<std::vector<Part>> blocks_;
};

// Experts as one group, output.weight as another.
inline PackPlan PlanOf(const GgufFile& file) {
  PackPlan plan;
  plan.layout = Isa::kScalar;
  auto placer = std::make_unique<ReversingPlacer>();
  const auto add = [&](const std::vector<std::string>& names, uint32_t n_blocks) {
    std::vector<const TensorInfo*> tensors;
    for (const std::string& name : names) tensors.push_back(file.FindTensor(name));
    const uint64_t block_bytes = placer->Add(tensors, n_blocks);
    plan.groups.push_back({names, n_blocks, block_bytes});
  };
  add({"blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight"}, kExperts);
  add({"output.weight"}, 1);
  plan.placer = std::move(placer);
  return plan;
}

// A block as a streamed run would have it in memory.
inline std::vector<uint8_t> BlockOf(const GgufFile& file, const PackPlan& plan, BlockId block, uint64_t block_bytes) {
  std::vector<uint8_t> memory(block_bytes, 0), bytes;
  for (int piece = 0; piece < plan.placer->n_pieces(block); ++piece) {
    const BlockPiece from = plan.placer->Piece(block, piece);
    bytes.resize(from.n_bytes);
    PANTRY_CHECK(file.shards()[static_cast<size_t>(from.file)]->ReadAt(from.offset, bytes).ok());
    PANTRY_CHECK(plan.placer->Place(block, piece, bytes.data(), memory.data()).ok());
  }
  return memory;
}

}  // namespace pantry::testing
