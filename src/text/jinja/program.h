// SPDX-License-Identifier: Apache-2.0
// A Program is a parsed template, ready to be rendered any number of times. The door to this folder.
//
// Threads: immutable after Parse(); const methods from any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "text/jinja/ast.h"
#include "text/jinja/error.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/heap.h"

namespace pantry::jinja {

class Program {
 public:
  static Result<std::unique_ptr<Program>> Parse(std::string_view source);

  // `bind` sets the variables; it may throw TemplateError.
  Result<MarkedText> Render(const std::function<void(Evaluator&)>& bind, int64_t now_unix_seconds,
                            const Limits& limits = {}) const;

 private:
  Program() = default;
  Status ToStatus(const TemplateError& error, uint32_t offset) const;
  std::string source_;  // with normal line ends
  Tree tree_;
};

}  // namespace pantry::jinja
