// SPDX-License-Identifier: Apache-2.0
// The Lexer cuts a template into text and the tokens between {{ }} and {% %}, and settles what white space between them goes.
//
// The rules are those of trim_blocks and lstrip_blocks: a newline after a block or comment goes, so does the indentation before one; "-" takes
// all white space on its side, "+" keeps it. {% raw %} and comments are dealt with here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/error.h"

namespace pantry::jinja {

enum class TokenKind : uint8_t {
  kText,
  kPrintBegin,
  kPrintEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  uint32_t offset = 0;
  std::string text;  // text and strings: what they stand for; numbers: digits without "_"; the rest: as written
};

// Line ends become "\n" and one at the very end goes, as Jinja does; offsets and positions refer to the result.
std::string NormalizeSource(std::string_view source);

// "line L, column C", both from 1, columns in characters.
std::string DescribePosition(std::string_view source, uint32_t offset);

// The last token is kEnd. Throws TemplateError.
std::vector<Token> Tokenize(std::string_view source);

}  // namespace pantry::jinja
