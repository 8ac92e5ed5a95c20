// SPDX-License-Identifier: Apache-2.0
// Evaluator::Depth counts nested evaluation and throws before the stack can run out.
#pragma once

#include "text/jinja/error.h"
#include "text/jinja/evaluator.h"

namespace pantry::jinja {

class Evaluator::Depth {
 public:
  explicit Depth(Evaluator* evaluator) : evaluator_(evaluator) {
    if (evaluator_->depth_ >= evaluator_->heap_.limits().max_depth) {
      FailOutOfBudget("evaluation nests deeper than {} levels", evaluator_->heap_.limits().max_depth);
    }
    ++evaluator_->depth_;
  }
  ~Depth() { --evaluator_->depth_; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

 private:
  Evaluator* evaluator_;
};

}  // namespace pantry::jinja
