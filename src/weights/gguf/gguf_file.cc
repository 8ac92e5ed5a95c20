// SPDX-License-Identifier: Apache-2.0
#include "weights/gguf/gguf_file.h"

#include <utility>

#include "weights/gguf/gguf_cursor.h"
#include "weights/gguf/gguf_parser.h"
#include "weights/gguf/pack_table.h"

namespace pantry {
namespace {

constexpr int64_t kMaxShards = 99999;  // five digits in the file name

// Which shard of how many a file says it is; {0, 1} for a file of its own.
struct SplitInfo {
  int64_t no = 0;
  int64_t count = 1;
  int64_t n_tensors = -1;  // of all shards together; -1 unknown
};

Result<SplitInfo> ReadSplitInfo(const Metadata& metadata, const std::string& path) {
  SplitInfo split;
  for (const auto& [key, value] :
       {std::pair{"split.count", &split.count}, {"split.no", &split.no}, {"split.tensors.count", &split.n_tensors}}) {
    Result<int64_t> found = metadata.GetIntOr(key, *value);
    if (!found.ok()) return found.status().WithContext(path);
    *value = *found;
  }
  if (split.count == 0) split.count = 1;  // llama.cpp's merge tool leaves 0 in the merged file
  if (split.count < 1 || split.count > kMaxShards || split.no < 0 || split.no >= split.count) {
    return CorruptionError(
        "{}: metadata say shard number {} of {}, counted from 0 (split.no, split.count): impossible; the file is "
        "damaged: download it again",
        path, split.no, split.count);
  }
  return split;
}

std::string ShardSuffix(int64_t no, int64_t count) { return fmt::format("-{:05}-of-{:05}.gguf", no + 1, count); }

// The path of shard `no`, made from the path of shard `own`; kInvalidArgument where that does not have a shard's name.
Result<std::string> SiblingPath(const std::string& path, const SplitInfo& own, int64_t no) {
  const std::string suffix = ShardSuffix(own.no, own.count);
  if (!path.ends_with(suffix)) {
    return InvalidArgumentError(
        "{}: the file is shard {} of {}, but its name does not end in {}: give all shards their names back", path,
        own.no + 1, own.count, suffix);
  }
  return path.substr(0, path.size() - suffix.size()) + ShardSuffix(no, own.count);
}

}  // namespace

Result<std::unique_ptr<GgufFile>> GgufFile::Open(const std::string& path) {
  std::vector<std::unique_ptr<Reader>> readers;
  std::vector<GgufHeader> headers;
  uint64_t memory_left = kMaxHeaderMemoryBytes;
  PANTRY_ASSIGN_OR_RETURN(std::unique_ptr<Reader> first, OpenFileReader(path));
  PANTRY_ASSIGN_OR_RETURN(GgufHeader first_header, ParseGguf(*first, &memory_left));
  PANTRY_ASSIGN_OR_RETURN(const SplitInfo split, ReadSplitInfo(first_header.metadata, path));
  if (split.no != 0) {
    PANTRY_ASSIGN_OR_RETURN(const std::string first_path, SiblingPath(path, split, 0));
    return InvalidArgumentError("{}: this is shard {} of {}; open the first: {}", path, split.no + 1, split.count,
                                first_path);
  }
  readers.push_back(std::move(first));
  headers.push_back(std::move(first_header));
  for (int64_t no = 1; no < split.count; ++no) {
    PANTRY_ASSIGN_OR_RETURN(const std::string shard_path, SiblingPath(path, split, no));
    Result<std::unique_ptr<Reader>> reader = OpenFileReader(shard_path);
    if (!reader.ok() && reader.status().code() == StatusCode::kNotFound) {
      return NotFoundError("shard {} of {} missing: {}; download it into the same folder", no + 1, split.count,
                           shard_path);
    }
    if (!reader.ok()) return std::move(reader).status();
    PANTRY_ASSIGN_OR_RETURN(GgufHeader header, ParseGguf(**reader, &memory_left));
    readers.push_back(std::move(*reader));
    headers.push_back(std::move(header));
  }
  return Join(std::move(readers), std::move(headers), memory_left);
}

Result<std::unique_ptr<GgufFile>> GgufFile::Open(std::vector<std::unique_ptr<Reader>> shards) {
  std::vector<GgufHeader> headers;
  uint64_t memory_left = kMaxHeaderMemoryBytes;
  for (const std::unique_ptr<Reader>& shard : shards) {
    PANTRY_ASSIGN_OR_RETURN(GgufHeader header, ParseGguf(*shard, &memory_left));
    headers.push_back(std::move(header));
  }
  return Join(std::move(shards), std::move(headers), memory_left);
}

Result<std::unique_ptr<GgufFile>> GgufFile::Join(std::vector<std::unique_ptr<Reader>> shards,
                                                 std::vector<GgufHeader> headers, uint64_t memory_left) {
  if (shards.empty()) return InvalidArgumentError("no GGUF file given");
  std::unique_ptr<GgufFile> file(new GgufFile());
  PANTRY_ASSIGN_OR_RETURN(const SplitInfo first, ReadSplitInfo(headers[0].metadata, shards[0]->path()));
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string& path = shards[i]->path();
    PANTRY_ASSIGN_OR_RETURN(const SplitInfo split, ReadSplitInfo(headers[i].metadata, path));
    if (split.no != static_cast<int64_t>(i) || split.count != first.count) {
      return CorruptionError(
          "{}: expected shard {} of {}, found shard {} of {}; the shards are of different models: download them again",
          path, i + 1, first.count, split.no + 1, split.count);
    }
    for (TensorInfo& tensor : headers[i].tensors) {
      tensor.shard = static_cast<int32_t>(i);
      if (!file->tensor_index_.emplace(tensor.name, file->tensors_.size()).second) {
        return CorruptionError(
            "{}: tensor '{}' is in shard {} already; the shards are of different models: download them again", path,
            Printable(tensor.name, 100), file->FindTensor(tensor.name)->shard + 1);
      }
      file->tensors_.push_back(std::move(tensor));
    }
  }
  if (static_cast<int64_t>(shards.size()) != first.count) {
    return NotFoundError("{}: the model has {} shards, {} given", shards[0]->path(), first.count, shards.size());
  }
  if (first.count > 1 && first.n_tensors >= 0 && first.n_tensors != static_cast<int64_t>(file->tensors_.size())) {
    return CorruptionError(
        "{}: expected {} tensors in all shards (split.tensors.count), found {}; download the shards again",
        shards[0]->path(), first.n_tensors, file->tensors_.size());
  }
  file->version_ = headers[0].version;
  file->metadata_ = std::move(headers[0].metadata);
  file->shards_ = std::move(shards);
  if (PackTable::IsIn(file->metadata_)) PANTRY_RETURN_IF_ERROR(file->OpenPack(memory_left));
  return file;
}

GgufFile::~GgufFile() = default;

// The two tensors that make up a pack give way to those that lie in its blocks.
Status GgufFile::OpenPack(uint64_t memory_left) {
  if (shards_.size() != 1)
    return CorruptionError("{}: a pack of {} shards; a pack is one file", path(), shards_.size());
  std::vector<TensorInfo> packed;
  PANTRY_ASSIGN_OR_RETURN(pack_, PackTable::Read(*shards_[0], metadata_, tensors_, &memory_left, &packed));
  std::erase_if(tensors_, [](const TensorInfo& tensor) {
    return tensor.name == pack_keys::kChecksumsTensor || tensor.name == pack_keys::kBlocksTensor;
  });
  for (TensorInfo& tensor : packed) tensors_.push_back(std::move(tensor));
  tensor_index_.clear();
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (tensor_index_.emplace(tensors_[i].name, i).second) continue;
    return CorruptionError("{}: two tensors '{}', one of them in blocks; the file is damaged: pack the model again",
                           path(), Printable(tensors_[i].name, 100));
  }
  return OkStatus();
}

const TensorInfo* GgufFile::FindTensor(std::string_view name) const {
  const auto it = tensor_index_.find(std::string(name));
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

uint64_t GgufFile::total_bytes() const {
  uint64_t n_bytes = 0;
  for (const std::unique_ptr<Reader>& shard : shards_) n_bytes += shard->size();
  return n_bytes;
}

uint64_t GgufFile::tensor_bytes() const {
  uint64_t n_bytes = 0;
  for (const TensorInfo& tensor : tensors_) n_bytes += tensor.n_bytes;
  return n_bytes;
}

const std::string& GgufFile::path() const { return shards_[0]->path(); }

std::vector<const Reader*> GgufFile::Readers() const {
  std::vector<const Reader*> readers;
  for (const auto& shard : shards_) readers.push_back(shard.get());
  return readers;
}

Status GgufFile::ReadTensor(const TensorInfo& tensor, uint64_t offset, std::span<uint8_t> out) const {
  if (tensor.in_blocks()) {
    return UnsupportedError("{}: tensor '{}' lies in blocks laid out for {}; it has no rows to read", path(),
                            Printable(tensor.name, 100), IsaName(pack_->layout()));
  }
  if (offset > tensor.n_bytes || out.size() > tensor.n_bytes - offset) {
    return InvalidArgumentError("{}: tensor '{}' has {} bytes; cannot read {} at {}", path(),
                                Printable(tensor.name, 100), tensor.n_bytes, out.size(), offset);
  }
  PANTRY_CHECK(tensor.shard >= 0 && static_cast<size_t>(tensor.shard) < shards_.size());
  Status status = shards_[tensor.shard]->ReadAt(tensor.offset + offset, out);
  return status.ok() ? status : status.WithContext(fmt::format("tensor '{}'", Printable(tensor.name, 100)));
}

}  // namespace pantry
