// SPDX-License-Identifier: Apache-2.0
#include "base/status.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

namespace pantry {
namespace {

TEST(Status, DefaultIsOkAndHasNoMessage) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::kOk);
  EXPECT_EQ(status.message(), "");
  EXPECT_EQ(status.ToString(), "ok");
}

TEST(Status, ErrorsCarryCodeAndFormattedMessage) {
  const Status status = CorruptionError("{}: offset {}", "a.gguf", 24);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_EQ(status.message(), "a.gguf: offset 24");
  EXPECT_EQ(status.ToString(), "corruption: a.gguf: offset 24");
}

TEST(Status, EveryMakerGivesItsOwnCode) {
  EXPECT_EQ(InvalidArgumentError("x").code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(NotFoundError("x").code(), StatusCode::kNotFound);
  EXPECT_EQ(IoError("x").code(), StatusCode::kIoError);
  EXPECT_EQ(OutOfBudgetError("x").code(), StatusCode::kOutOfBudget);
  EXPECT_EQ(UnsupportedError("x").code(), StatusCode::kUnsupported);
  EXPECT_EQ(CancelledError("x").code(), StatusCode::kCancelled);
  EXPECT_EQ(InternalError("x").code(), StatusCode::kInternal);
}

TEST(Status, ContextGoesBeforeTheMessageAndLeavesOkAlone) {
  EXPECT_EQ(NotFoundError("no key").WithContext("model.gguf").ToString(), "not found: model.gguf: no key");
  EXPECT_TRUE(OkStatus().WithContext("model.gguf").ok());
}

TEST(Status, CopiesAreIndependent) {
  Status a = IoError("first");
  Status b = a;
  a = OkStatus();
  EXPECT_TRUE(a.ok());
  EXPECT_EQ(b.message(), "first");
  const Status& self = b;
  b = self;
  EXPECT_EQ(b.message(), "first");
}

TEST(Status, EveryCodeHasItsOwnName) {
  std::string names;
  for (int code = 0; code <= static_cast<int>(StatusCode::kInternal); ++code) {
    const std::string name = "[" + std::string(StatusCodeName(static_cast<StatusCode>(code))) + "]";
    EXPECT_EQ(names.find(name), std::string::npos) << name;
    EXPECT_NE(name, "[unknown]");
    names += name;
  }
}

Result<int> Half(int n) {
  if (n % 2 != 0) return InvalidArgumentError("{} is odd", n);
  return n / 2;
}

Result<int> Quarter(int n) {
  PANTRY_ASSIGN_OR_RETURN(const int half, Half(n));
  PANTRY_ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}

Status Check(int n) {
  PANTRY_RETURN_IF_ERROR(Quarter(n).status());
  return OkStatus();
}

TEST(Result, HoldsAValueOrTheReasonWhyNot) {
  EXPECT_EQ(Half(8).value(), 4);
  const auto odd = Half(3);
  EXPECT_FALSE(odd.ok());
  EXPECT_EQ(odd.status().message(), "3 is odd");
}

TEST(Result, MacrosPassValuesOnAndLeaveWithTheFirstError) {
  EXPECT_EQ(*Quarter(12), 3);
  EXPECT_EQ(Quarter(6).status().message(), "3 is odd");
  EXPECT_TRUE(Check(12).ok());
  EXPECT_EQ(Check(7).message(), "7 is odd");
}

TEST(Result, HoldsMoveOnlyValues) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(7));
  ASSERT_TRUE(result.ok());
  const std::unique_ptr<int> taken = std::move(result).value();
  EXPECT_EQ(*taken, 7);
}

TEST(ResultDeathTest, ReadingAValueThatIsNotThereStopsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH((void)Half(3).value(), "CHECK failed");
}

TEST(CheckDeathTest, SaysWhereAndWhat) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(PANTRY_CHECK(1 + 1 == 3), "status_test.cc:[0-9]+: CHECK failed: 1 \\+ 1 == 3");
}

}  // namespace
}  // namespace pantry
