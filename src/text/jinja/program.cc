// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/program.h"

#include <utility>

#include "text/jinja/lexer.h"
#include "text/jinja/parser.h"
#include "text/jinja/unicode.h"

namespace pantry::jinja {
namespace {

// The longest template of a known model has 20 KB.
constexpr size_t kMaxSourceBytes = size_t{1} << 20;

}  // namespace

Status Program::ToStatus(const TemplateError& error, uint32_t offset) const {
  if (error.is_refusal) return Status(error.code, error.message);
  const std::string where = DescribePosition(source_, error.offset == kNoOffset ? offset : error.offset);
  return Status(error.code, fmt::format("{}: {}", where, error.message));
}

Result<std::unique_ptr<Program>> Program::Parse(std::string_view source) {
  if (source.size() > kMaxSourceBytes)
    return InvalidArgumentError("a template of {} bytes; at most {} are read", source.size(), kMaxSourceBytes);
  std::unique_ptr<Program> program(new Program());
  program->source_ = NormalizeSource(source);
  if (!IsValidUtf8(program->source_)) {
    uint32_t bad = 0;
    for (size_t pos = 0; pos < program->source_.size(); bad = static_cast<uint32_t>(pos)) {
      if (DecodeChar(program->source_, &pos) == U'\uFFFD' && pos == bad + 1) break;
    }
    return InvalidArgumentError("{}: not valid UTF-8", DescribePosition(program->source_, bad));
  }
  try {
    Parser(Tokenize(program->source_), &program->tree_).ParseTemplate();
  } catch (const TemplateError& error) {
    return program->ToStatus(error, 0);
  }
  return program;
}

Result<MarkedText> Program::Render(const std::function<void(Evaluator&)>& bind, int64_t now_unix_seconds,
                                   const Limits& limits) const {
  Heap heap(limits);
  Evaluator evaluator(heap, tree_, now_unix_seconds);
  try {
    bind(evaluator);
    return evaluator.Render();
  } catch (const TemplateError& error) {
    return ToStatus(error, evaluator.offset());
  }
}

}  // namespace pantry::jinja
