// SPDX-License-Identifier: Apache-2.0
// A Clock tells the time since some fixed moment; tests and the simulator bring their own.
//
// Threads: Now() may be called from any thread.
#pragma once

#include <chrono>
#include <cstdint>

namespace pantry {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t NowUs() const = 0;  // microseconds, never decreasing
};

class SteadyClock final : public Clock {
 public:
  int64_t NowUs() const override {
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
};

}  // namespace pantry
