// SPDX-License-Identifier: Apache-2.0
// Any bytes at all: open as a GGUF file, read the shape, print the metadata, read a little of each tensor. An input of a few
// kilobytes justifies no large allocation: `./dev fuzz` limits a single one to 1 GB, the whole process to 3 GB.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "weights/gguf/gguf_file.h"
#include "weights/gguf/pack_table.h"
#include "weights/model_shape.h"

namespace pantry {
namespace {

// Every piece lies in the file, behind the one before.
void UsePack(const PackTable& pack, const Reader& reader) {
  std::vector<uint8_t> bytes;
  uint64_t end = 0;
  for (uint32_t i = 0; i < pack.n_blocks(); ++i) {
    const BlockId block(i);
    PANTRY_CHECK(pack.n_pieces(block) > 0 && !pack.GroupOf(block).tensors.empty());
    PANTRY_CHECK(pack.BlockOffset(block) % kPackAlignment == 0 && pack.BlockOffset(block) >= end);
    for (int piece = 0; piece < pack.n_pieces(block); ++piece) {
      bytes.resize(pack.PieceBytes(block, piece));
      PANTRY_CHECK(!bytes.empty() && pack.PieceOffset(block, piece) >= end);
      PANTRY_CHECK(reader.ReadAt(pack.PieceOffset(block, piece), bytes).ok());
      end = pack.PieceOffset(block, piece) + bytes.size();
      PANTRY_CHECK(pack.PieceIsIntact(block, piece, bytes) || !pack.Damaged(block, piece).ok());
    }
  }
}

void Use(const GgufFile& file, size_t n_file_bytes) {
  for (const Metadata::Entry& entry : file.metadata().entries()) {
    // Escapes make at most four of one byte; everything else is bounded by max_chars and a few words.
    PANTRY_CHECK(FormatMetadataValue(entry.value, 60).size() < 200);
    PANTRY_CHECK(file.metadata().Find(entry.key) == &entry.value);
  }
  PANTRY_CHECK(file.tensor_bytes() <= n_file_bytes);
  std::vector<uint8_t> out;
  for (const TensorInfo& tensor : file.tensors()) {
    PANTRY_CHECK(tensor.n_elements() > 0);
    PANTRY_CHECK(tensor.n_bytes > 0);
    PANTRY_CHECK(file.FindTensor(tensor.name) == &tensor);
    if (tensor.in_blocks()) {
      PANTRY_CHECK(file.pack() != nullptr && !file.ReadTensor(tensor, 0, out).ok());
      continue;
    }
    out.resize(std::min<uint64_t>(tensor.n_bytes, 64));
    PANTRY_CHECK(file.ReadTensor(tensor, tensor.n_bytes - out.size(), out).ok());
    PANTRY_CHECK(!file.ReadTensor(tensor, tensor.n_bytes - out.size() + 1, out).ok());
  }
  if (file.pack() != nullptr) UsePack(*file.pack(), *file.shards()[0]);
  const Result<ModelShape> shape = ParseModelShape(file.metadata());
  if (!shape.ok()) return;
  PANTRY_CHECK(shape->n_layers > 0 && shape->n_embd > 0 && shape->n_ctx_train > 0 && shape->n_vocab >= 0);
  if (shape->has_experts()) {
    PANTRY_CHECK(shape->n_ff_expert > 0 && shape->n_ff_shared >= 0);
    PANTRY_CHECK(shape->n_experts_used > 0 && shape->n_experts_used <= shape->n_experts);
  }
  const bool has_dense_layers = !shape->has_experts() || shape->n_dense_layers > 0;
  PANTRY_CHECK(shape->n_ff > 0 || !has_dense_layers);
  PANTRY_CHECK(shape->n_kv_heads > 0 && shape->n_heads % shape->n_kv_heads == 0);
  PANTRY_CHECK(shape->head_dim > 0 && shape->rope.n_dims > 0 && shape->rope.n_dims <= shape->head_dim);
  PANTRY_CHECK(shape->layer_is_sliding.size() == static_cast<size_t>(shape->n_layers));
  PANTRY_CHECK(shape->rope.scale_factor > 0 && shape->rope.freq_base > 1 && shape->rope.original_context > 0);
}

}  // namespace
}  // namespace pantry

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pantry;
  std::vector<std::unique_ptr<Reader>> readers;
  readers.push_back(MakeMemoryReader("fuzz.gguf", {data, size}));
  const Result<std::unique_ptr<GgufFile>> file = GgufFile::Open(std::move(readers));
  if (file.ok()) Use(**file, size);
  else PANTRY_CHECK(!file.status().message().empty());
  return 0;
}
