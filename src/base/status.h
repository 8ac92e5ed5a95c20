// SPDX-License-Identifier: Apache-2.0
// A Status says whether an operation worked and, if not, what failed, where, why and how to mend it.
//
// Everything that can fail because of the outside world (files, flags, models, requests) returns a Status or a Result<T>. Exceptions
// never cross a folder. CHECK is for our own bugs only.
// A message reads "context: detail", names path, offset and tensor where there are any, and says expected against found.
// Threads: a Status is a value; distinct objects may be used from distinct threads.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace pantry {

enum class StatusCode : uint8_t {
  kOk = 0,
  kInvalidArgument,  // the caller's flags or request are wrong
  kNotFound,         // a file, a tensor, a key is not there
  kCorruption,       // bytes from outside contradict their format
  kIoError,          // the operating system refused or failed a transfer
  kOutOfBudget,      // it does not fit in the memory that was granted
  kUnsupported,      // well-formed, but nothing we can run
  kCancelled,        // the user asked to stop
  kInternal,         // our bug
};

// "kCorruption" -> "corruption"; for logs and tests.
std::string_view StatusCodeName(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;  // OK
  Status(StatusCode code, std::string message) : rep_(std::make_unique<Rep>(Rep{code, std::move(message)})) {}
  Status(const Status& other) : rep_(other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr) {}
  Status& operator=(const Status& other) {
    if (this != &other) rep_ = other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr;
    return *this;
  }
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;
  ~Status() = default;

  bool ok() const { return rep_ == nullptr; }
  StatusCode code() const { return rep_ ? rep_->code : StatusCode::kOk; }
  std::string_view message() const { return rep_ ? std::string_view(rep_->message) : std::string_view(); }

  // The same status with "prefix: " before its message; OK stays OK.
  Status WithContext(std::string_view prefix) const;
  // "corruption: x.gguf: ..." or "ok".
  std::string ToString() const;

 private:
  struct Rep {
    StatusCode code;
    std::string message;
  };
  std::unique_ptr<Rep> rep_;  // null means OK
};

inline Status OkStatus() { return {}; }

#define PANTRY_DEFINE_ERROR(Name)                                                         \
  template <typename... Args>                                                             \
  Status Name##Error(fmt::format_string<Args...> format, Args&&... args) {                \
    return Status(StatusCode::k##Name, fmt::format(format, std::forward<Args>(args)...)); \
  }
PANTRY_DEFINE_ERROR(InvalidArgument)
PANTRY_DEFINE_ERROR(NotFound)
PANTRY_DEFINE_ERROR(Corruption)
PANTRY_DEFINE_ERROR(OutOfBudget)
PANTRY_DEFINE_ERROR(Unsupported)
PANTRY_DEFINE_ERROR(Cancelled)
PANTRY_DEFINE_ERROR(Internal)
#undef PANTRY_DEFINE_ERROR
template <typename... Args>
Status IoError(fmt::format_string<Args...> format, Args&&... args) {
  return Status(StatusCode::kIoError, fmt::format(format, std::forward<Args>(args)...));
}

// Ends the process with file, line and message. Only CHECK calls it.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);

// Stops the process when `condition` is false: an invariant of ours is broken. Never for outside input.
#define PANTRY_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::pantry::CheckFailed(__FILE__, __LINE__, #condition))

// A Result<T> holds a T or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    PANTRY_CHECK(!status_.ok());
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const& { return status_; }
  Status status() && { return std::move(status_); }

  // REQUIRES: ok().
  T& value() & { return *Checked(); }
  const T& value() const& { return *const_cast<Result*>(this)->Checked(); }
  T&& value() && { return std::move(*Checked()); }
  T* operator->() { return Checked(); }
  const T* operator->() const { return const_cast<Result*>(this)->Checked(); }
  T& operator*() & { return *Checked(); }
  const T& operator*() const& { return *const_cast<Result*>(this)->Checked(); }
  T&& operator*() && { return std::move(*Checked()); }

 private:
  T* Checked() {
    PANTRY_CHECK(value_.has_value());
    return &*value_;
  }
  std::optional<T> value_;
  Status status_;
};

#define PANTRY_CONCAT_INNER(a, b) a##b
#define PANTRY_CONCAT(a, b) PANTRY_CONCAT_INNER(a, b)

// Leaves the function with the status of `expression` unless it is OK.
#define PANTRY_RETURN_IF_ERROR(expression)         \
  do {                                             \
    ::pantry::Status pantry_status = (expression); \
    if (!pantry_status.ok()) return pantry_status; \
  } while (false)

// PANTRY_ASSIGN_OR_RETURN(auto x, MakeX()): binds the value or leaves with the status.
#define PANTRY_ASSIGN_OR_RETURN(declaration, expression) \
  PANTRY_ASSIGN_OR_RETURN_IMPL(PANTRY_CONCAT(pantry_result_, __LINE__), declaration, expression)
#define PANTRY_ASSIGN_OR_RETURN_IMPL(result, declaration, expression) \
  auto result = (expression);                                         \
  if (!result.ok()) return std::move(result).status();                \
  declaration = std::move(result).value()

}  // namespace pantry
