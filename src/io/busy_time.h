// SPDX-License-Identifier: Apache-2.0
// BusyTime is the time for which at least one of several things was under way.
//
// Threads: thread-compatible.
#pragma once

#include <cstdint>

namespace pantry {

class BusyTime {
 public:
  void Begin(int64_t now_us) {
    if (n_++ == 0) since_us_ = now_us;
  }
  // REQUIRES: begun.
  void End(int64_t now_us) {
    if (--n_ == 0) us_ += now_us - since_us_;
  }
  int64_t Us(int64_t now_us) const { return us_ + (n_ > 0 ? now_us - since_us_ : 0); }

 private:
  int n_ = 0;
  int64_t since_us_ = 0;
  int64_t us_ = 0;
};

}  // namespace pantry
