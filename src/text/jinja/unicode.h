// SPDX-License-Identifier: Apache-2.0
// Unicode as Python's str sees it: code points, white space, character classes and case.
//
// The tables are utf8proc's; where Python maps one character to several (German sharp s, ligatures) the pairs are listed here.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace pantry::jinja {

bool IsValidUtf8(std::string_view text);

// Reads the character at *pos and moves *pos behind it. A malformed byte gives U+FFFD and one step. REQUIRES: *pos < text.size().
char32_t DecodeChar(std::string_view text, size_t* pos);
void AppendUtf8(std::string* out, char32_t code_point);

size_t CountChars(std::string_view text);
// The byte where character `index` begins; size() when there are not so many.
size_t ByteOfChar(std::string_view text, size_t index);

bool IsSpace(char32_t c);      // str.isspace(): what strip() and split() drop
bool IsLineBreak(char32_t c);  // what splitlines() splits at
bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);
bool IsDigit(char32_t c);    // decimals and superscripts and the like
bool IsNumeric(char32_t c);  // any number character
bool IsUpper(char32_t c);
bool IsLower(char32_t c);
bool IsTitle(char32_t c);
bool IsCased(char32_t c);
bool IsPrintable(char32_t c);  // shown as itself by repr()
bool IsIdentifierStart(char32_t c);
bool IsIdentifierPart(char32_t c);

void AppendUpper(std::string* out, char32_t c);
void AppendTitle(std::string* out, char32_t c);
// The character at [begin, end) of `text`; a Greek sigma depends on what stands around it.
void AppendLower(std::string* out, std::string_view text, size_t begin, size_t end);

}  // namespace pantry::jinja
