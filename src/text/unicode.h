// SPDX-License-Identifier: Apache-2.0
// UTF-8 as text meets it: characters are cut off text that may hold anything, and broken bytes are told apart from unfinished ones.
//
// A character is what the Unicode standard allows: no overlong forms, no surrogates, nothing above U+10FFFF. What is not a character is
// cut into "maximal subparts" (Unicode 15, 3.9, table 3-8): one U+FFFD each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pantry {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

enum class Utf8State : uint8_t {
  kValid,       // n_bytes form a character
  kInvalid,     // n_bytes can never be part of one
  kIncomplete,  // the text ends inside a character that is right so far
};

struct Utf8Character {
  Utf8State state = Utf8State::kInvalid;
  uint32_t n_bytes = 0;  // 1 to 4
};

// What `text` begins with. REQUIRES: text is not empty.
Utf8Character CutUtf8Character(std::string_view text);

// The bytes from the beginning of `text` that are whole, valid characters.
size_t ValidUtf8Prefix(std::string_view text);

void AppendUtf8(uint32_t code_point, std::string& out);
// The code point of one valid character.
uint32_t DecodeUtf8(std::string_view character);

// The character that byte-level BPE writes for a byte: printable Latin-1 stands for itself, the rest is moved to U+0100 and up.
// Source: Radford et al. 2019, the GPT-2 release.
uint32_t ByteLevelCodePoint(uint8_t byte);
// The byte that it stands for; -1 where it stands for none.
int32_t ByteLevelByte(uint32_t code_point);

}  // namespace pantry
