// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/string_literal.h"

#include <fmt/format.h>

#include <cstdint>

#include "text/jinja/unicode.h"

namespace pantry::jinja {
namespace {

int DigitValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') return (c | 0x20) - 'a' + 10;
  return 99;
}

// Up to `max_digits` digits of `base` from *pos; returns how many.
int ReadDigits(std::string_view body, size_t* pos, int base, int max_digits, uint32_t* value) {
  int n_digits = 0;
  *value = 0;
  while (n_digits < max_digits && *pos < body.size() && DigitValue(body[*pos]) < base) {
    *value = *value * static_cast<uint32_t>(base) + static_cast<uint32_t>(DigitValue(body[*pos]));
    ++*pos;
    ++n_digits;
  }
  return n_digits;
}

// The character for a one-letter escape, or -1.
int SimpleEscape(char c) {
  switch (c) {
    case 'n': return '\n';
    case 't': return '\t';
    case 'r': return '\r';
    case 'a': return '\a';
    case 'b': return '\b';
    case 'f': return '\f';
    case 'v': return '\v';
    case '\\': return '\\';
    case '\'': return '\'';
    case '"': return '"';
    default: return -1;
  }
}

}  // namespace

bool DecodeStringLiteral(std::string_view body, std::string* text, std::string* error) {
  text->reserve(body.size());
  for (size_t pos = 0; pos < body.size();) {
    const char c = body[pos++];
    if (c != '\\' || pos >= body.size()) {
      text->push_back(c);
      continue;
    }
    const char escape = body[pos++];
    uint32_t code_point = 0;
    if (const int simple = SimpleEscape(escape); simple >= 0) {
      text->push_back(static_cast<char>(simple));
    } else if (escape == '\n') {
      // A backslash at the end of a line joins it with the next.
    } else if (escape == 'x' || escape == 'u' || escape == 'U') {
      const int n_digits = escape == 'x' ? 2 : escape == 'u' ? 4 : 8;
      if (ReadDigits(body, &pos, 16, n_digits, &code_point) != n_digits) {
        *error = fmt::format("\\{} in a string needs {} hexadecimal digits", escape, n_digits);
        return false;
      }
      if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF)) {
        *error = fmt::format("\\{} in a string names no character: U+{:04X}", escape, code_point);
        return false;
      }
      AppendUtf8(text, code_point);
    } else if (escape >= '0' && escape <= '7') {
      --pos;
      ReadDigits(body, &pos, 8, 3, &code_point);
      AppendUtf8(text, code_point);
    } else if (escape == 'N') {
      *error = "\\N{...} in a string is not supported; write the character itself or \\uXXXX";
      return false;
    } else {
      text->push_back('\\');
      text->push_back(escape);
    }
  }
  return true;
}

}  // namespace pantry::jinja
