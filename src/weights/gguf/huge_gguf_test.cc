// SPDX-License-Identifier: Apache-2.0
// Files whose counts and lengths ask for more memory than a header is worth, though the file's size would allow them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "weights/gguf/gguf_cursor.h"
#include "weights/gguf/gguf_file.h"
#include "weights/gguf/gguf_test_builder.h"

namespace pantry {
namespace {

using testing::Bytes;
using testing::GgufBuilder;
using File = std::vector<uint8_t>;

// A file of 1 TB that is zeros behind its first bytes. Where a count is wanted, it tells how far was read.
class HugeReader final : public Reader {
 public:
  explicit HugeReader(File head, uint64_t* read_end = nullptr) : head_(std::move(head)), read_end_(read_end) {}
  const std::string& path() const override { return path_; }
  uint64_t size() const override { return uint64_t{1} << 40; }
  Status ReadAt(uint64_t offset, std::span<uint8_t> out) const override {
    for (size_t i = 0; i < out.size(); ++i) out[i] = offset + i < head_.size() ? head_[offset + i] : 0;
    if (read_end_ != nullptr) *read_end_ = std::max(*read_end_, offset + out.size());
    return OkStatus();
  }

 private:
  std::string path_ = "huge.gguf";
  File head_;
  uint64_t* read_end_;
};

File Endless(MetadataType element_type, uint64_t count) {
  return GgufBuilder().RawEntry(GgufBuilder::ArrayHead("k", element_type, count)).Build();
}

// Lengths that the file's size would allow, but that no honest header has: refused before anything is allocated for
// them.
TEST(HugeGguf, HeaderLargerThanAllKnownOnesIsRefused) {
  const uint64_t n = kMaxHeaderBytes + 1;
  const std::pair<const char*, File> heads[] = {
      {"more bytes would make the header larger than 268.4 MB",
       GgufBuilder().RawEntry(Bytes().String("k").U32(8).U64(n)).Build()},
      {"array elements need at least",
       GgufBuilder().RawEntry(GgufBuilder::ArrayHead("k", MetadataType::kU8, n)).Build()},
      {"metadata entries need at least", GgufBuilder().Counts(0, n).Build()},
      {"tensors need at least", GgufBuilder().Counts(n, 0).Build()},
  };
  for (const auto& [message, head] : heads) {
    std::vector<std::unique_ptr<Reader>> readers;
    readers.push_back(std::make_unique<HugeReader>(head));
    const auto file = GgufFile::Open(std::move(readers));
    ASSERT_FALSE(file.ok());
    EXPECT_EQ(file.status().code(), StatusCode::kCorruption);
    EXPECT_THAT(std::string(file.status().message()), ::testing::HasSubstr(message));
  }
}

// Counts that the file's bytes allow, but that would take a multiple of them in memory: refused before anything of the kind is
// read or allocated.
TEST(HugeGguf, HeaderThatGrowsInMemoryIsRefusedAtItsCount) {
  const std::pair<const char*, File> heads[] = {
      {"'k' at offset 41: 268000000 array elements would take 2.1 GB of memory, only 268",
       Endless(MetadataType::kU8, 268'000'000)},
      {"array elements would take", Endless(MetadataType::kBool, 268'000'000)},
      {"array elements would take", Endless(MetadataType::kF32, 67'000'000)},
      {"22000000 arrays would take", Endless(MetadataType::kArray, 22'000'000)},
      {"33000000 strings would take", Endless(MetadataType::kString, 33'000'000)},
      {"19000000 metadata entries would take", GgufBuilder().Counts(0, 19'000'000).Build()},
      {"7000000 tensors would take", GgufBuilder().Counts(7'000'000, 0).Build()},
  };
  for (const auto& [message, head] : heads) {
    uint64_t read_end = 0;
    std::vector<std::unique_ptr<Reader>> readers;
    readers.push_back(std::make_unique<HugeReader>(head, &read_end));
    const auto file = GgufFile::Open(std::move(readers));
    ASSERT_FALSE(file.ok()) << message;
    EXPECT_EQ(file.status().code(), StatusCode::kCorruption);
    EXPECT_THAT(std::string(file.status().message()),
                ::testing::AllOf(::testing::HasSubstr("huge.gguf: "), ::testing::HasSubstr(message)));
    EXPECT_LE(read_end, uint64_t{1} << 20);
  }
}

TEST(HugeGguf, LargerVocabulariesThanAnyKnownAreRead) {
  for (const MetadataType type : {MetadataType::kString, MetadataType::kF32, MetadataType::kI8, MetadataType::kArray}) {
    std::vector<std::unique_ptr<Reader>> readers;
    readers.push_back(std::make_unique<HugeReader>(Endless(type, 1'000'000)));
    const auto file = GgufFile::Open(std::move(readers));
    ASSERT_TRUE(file.ok()) << file.status().ToString();
    const auto array = (*file)->metadata().GetArray("k");
    ASSERT_TRUE(array.ok());
    EXPECT_EQ((*array)->size(), 1'000'000u);
  }
}

TEST(HugeGguf, ShardsShareOneBudget) {
  const auto open = [](uint64_t count) {
    std::vector<std::unique_ptr<Reader>> readers;
    for (const uint16_t no : {0, 1}) {
      readers.push_back(
          std::make_unique<HugeReader>(GgufBuilder()
                                           .U16("split.no", no)
                                           .U16("split.count", 2)
                                           .RawEntry(GgufBuilder::ArrayHead("k", MetadataType::kU8, count))
                                           .Build()));
    }
    return GgufFile::Open(std::move(readers));
  };
  EXPECT_TRUE(open(kMaxHeaderMemoryBytes / 8 / 4).ok());
  const auto file = open(kMaxHeaderMemoryBytes / 8 / 4 * 3);  // one of them fits
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(file.status().message()),
              ::testing::HasSubstr("array elements would take 201.3 MB of memory"));
}

}  // namespace
}  // namespace pantry
