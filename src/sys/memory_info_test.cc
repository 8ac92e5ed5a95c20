// SPDX-License-Identifier: Apache-2.0
#include "sys/memory_info.h"

#include <gtest/gtest.h>

#include "sys/proc_file.h"

namespace pantry {
namespace {

TEST(MemoryInfo, PeakIsAtLeastWhatIsResident) {
  if (ResidentSetBytes() < 0) GTEST_SKIP() << "this system does not say";
  EXPECT_GT(ResidentSetBytes(), 100 << 10);
  const int64_t resident = ResidentSetBytes();
  EXPECT_GE(PeakResidentSetBytes(), resident);
}

TEST(MemoryInfo, SomethingIsAvailable) {
  if (AvailableMemoryBytes() < 0) GTEST_SKIP() << "this system does not say";
  EXPECT_GT(AvailableMemoryBytes(), 1 << 20);
}

TEST(ProcFile, ValueIsFoundByItsWholeKeyAtTheStartOfALine) {
  const char text[] = "total_file 1\nfile_mapped 2\nfile 3\nVmRSS:\t  12 kB\nbad x\nhuge 99999999999999999999\nlast 7";
  EXPECT_EQ(FindProcValue(text, "file"), 3);
  EXPECT_EQ(FindProcValue(text, "VmRSS:"), 12);
  EXPECT_EQ(FindProcValue(text, "last"), 7);
  EXPECT_EQ(FindProcValue(text, "bad"), std::nullopt);
  EXPECT_EQ(FindProcValue(text, "huge"), std::nullopt);
  EXPECT_EQ(FindProcValue(text, "absent"), std::nullopt);
  EXPECT_EQ(FindProcValue("", "file"), std::nullopt);
}

TEST(ProcFile, MissingFileIsNothing) { EXPECT_EQ(ReadProcFile("/no/such/file"), std::nullopt); }

}  // namespace
}  // namespace pantry
