// SPDX-License-Identifier: Apache-2.0
#include "sys/posix_error.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

namespace pantry {
namespace {

TEST(PosixError, CodesFollowErrno) {
  EXPECT_EQ(PosixError("open x", ENOENT).code(), StatusCode::kNotFound);
  EXPECT_EQ(PosixError("map", ENOMEM).code(), StatusCode::kOutOfBudget);
  EXPECT_EQ(PosixError("read", EIO).code(), StatusCode::kIoError);
  EXPECT_EQ(PosixError("open x", EACCES).code(), StatusCode::kIoError);
}

TEST(PosixError, MessageIsContextAndReason) {
  EXPECT_EQ(PosixError("open model.gguf", ENOENT).message(), "open model.gguf: No such file or directory");
}

}  // namespace
}  // namespace pantry
