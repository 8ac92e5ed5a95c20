// SPDX-License-Identifier: Apache-2.0
// A GgufFile is the table of contents of a GGUF model: metadata, and where each tensor's bytes lie, over one or several shards.
//
// The file is hostile until proven otherwise: every count, length, offset and size is checked against the file before it is used, and
// no allocation is larger than the file can justify. Nothing of the tensor data is read here.
// Versions 2 and 3, little-endian; any alignment; shards named NAME-00001-of-00003.gguf (opening the first is enough).
// Every error names the file, the offset and what was expected and found, and how to mend it.
// Threads: immutable after Open(); const methods from any thread.
// A .pantry file (docs/format.md) opens the same way: the tensors that lie in its blocks stand in tensors() behind the others, as the model
// had them, and pack() says where the blocks are.
// Source: the GGUF specification (ggml-org/ggml docs/gguf.md).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "io/reader.h"
#include "weights/gguf/metadata.h"
#include "weights/quant/tensor_type.h"

namespace pantry {

struct TensorInfo {
  std::string name;
  TensorType type = TensorType::kF32;
  std::vector<int64_t>
      dims;             // GGUF order: dims[0] is the row length (fastest), dims[1] the number of rows, dims[2] experts
  int32_t shard = 0;    // index into GgufFile::shards
  uint64_t offset = 0;  // absolute byte offset in that shard
  uint64_t n_bytes = 0;
  int32_t pack_group =
      -1;  // of a .pantry file: the group of blocks that hold it (pack_table.h); offset is where these begin, and n_bytes
           // what it takes in GGUF's own layout

  bool in_blocks() const { return pack_group >= 0; }
  int64_t row_elements() const { return dims.empty() ? 0 : dims[0]; }
  int64_t n_rows() const {  // product of all dims but the first
    int64_t n = 1;
    for (size_t i = 1; i < dims.size(); ++i) n *= dims[i];
    return n;
  }
  int64_t n_elements() const { return row_elements() * n_rows(); }
};

struct GgufHeader;  // of one shard; see gguf_parser.h
class PackTable;    // pack_table.h

class GgufFile {
 public:
  // Opens `path` and, when it is a shard, all its siblings. kNotFound, kIoError, kCorruption, kUnsupported.
  static Result<std::unique_ptr<GgufFile>> Open(const std::string& path);
  // The same from readers, in shard order: the door for tests and fuzzing.
  static Result<std::unique_ptr<GgufFile>> Open(std::vector<std::unique_ptr<Reader>> shards);
  ~GgufFile();

  const Metadata& metadata() const { return metadata_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // in file order, shard by shard
  const TensorInfo* FindTensor(std::string_view name) const;           // null where absent
  uint32_t version() const { return version_; }
  uint64_t total_bytes() const;     // of all shards
  uint64_t tensor_bytes() const;    // of all tensors, without padding
  const std::string& path() const;  // of the first shard
  const std::vector<std::unique_ptr<Reader>>& shards() const { return shards_; }
  std::vector<const Reader*> Readers() const;  // the same, for those who read many files; they live as long as this
  const PackTable* pack() const { return pack_.get(); }  // null for a plain GGUF

  // Reads bytes [offset, offset + out.size()) of a tensor's data; kUnsupported for one that lies in blocks.
  Status ReadTensor(const TensorInfo& tensor, uint64_t offset, std::span<uint8_t> out) const;

 private:
  GgufFile() = default;
  static Result<std::unique_ptr<GgufFile>> Join(std::vector<std::unique_ptr<Reader>> shards,
                                                std::vector<GgufHeader> headers, uint64_t memory_left);
  Status OpenPack(uint64_t memory_left);
  uint32_t version_ = 0;
  Metadata metadata_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, size_t> tensor_index_;
  std::vector<std::unique_ptr<Reader>> shards_;
  std::unique_ptr<PackTable> pack_;
};

}  // namespace pantry
