// SPDX-License-Identifier: Apache-2.0
// A FunctionRef is something to call, borrowed: a lambda handed down to whoever calls it before it dies. Two words, nothing allocated.
//
// Threads: as the body's.
#pragma once

#include <utility>

namespace pantry {

template <typename Signature>
class FunctionRef;

template <typename R, typename... Args>
class FunctionRef<R(Args...)> {
 public:
  FunctionRef() = default;  // nothing to call
  // `body` must outlive the reference.
  template <typename Body>
  explicit FunctionRef(const Body& body)
      : body_(&body), run_([](const void* at, Args... args) -> R {
          return (*static_cast<const Body*>(at))(std::forward<Args>(args)...);
        }) {}
  explicit operator bool() const { return run_ != nullptr; }
  R operator()(Args... args) const { return run_(body_, std::forward<Args>(args)...); }

 private:
  const void* body_ = nullptr;
  R (*run_)(const void* at, Args... args) = nullptr;
};

}  // namespace pantry
