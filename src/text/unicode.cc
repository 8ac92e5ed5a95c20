// SPDX-License-Identifier: Apache-2.0
#include "text/unicode.h"

#include <array>

namespace pantry {
namespace {

// What may follow a first byte: the number of bytes, and the range of the second (which is what excludes overlong forms and surrogates).
struct LeadByte {
  uint8_t n_bytes;
  uint8_t second_low;
  uint8_t second_high;
};

constexpr LeadByte ClassifyLead(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

constexpr bool StandsForItself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

constexpr std::array<uint16_t, 256> MakeByteLevelTable() {
  std::array<uint16_t, 256> table{};
  uint16_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte)
    table[byte] = StandsForItself(byte) ? static_cast<uint16_t>(byte) : next++;
  return table;
}

constexpr std::array<uint16_t, 256> kByteLevel = MakeByteLevelTable();

// 68 bytes do not stand for themselves, so the last character is U+0143.
constexpr std::array<int16_t, 0x144> MakeByteTable() {
  std::array<int16_t, 0x144> table{};
  for (int16_t& byte : table) byte = -1;
  for (int16_t byte = 0; byte < 256; ++byte) table[kByteLevel[static_cast<size_t>(byte)]] = byte;
  return table;
}

constexpr std::array<int16_t, 0x144> kByteLevelBytes = MakeByteTable();

}  // namespace

Utf8Character CutUtf8Character(std::string_view text) {
  const LeadByte lead = ClassifyLead(static_cast<uint8_t>(text[0]));
  if (lead.n_bytes == 0) return {Utf8State::kInvalid, 1};
  for (uint32_t i = 1; i < lead.n_bytes; ++i) {
    if (i == text.size()) return {Utf8State::kIncomplete, i};
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    const uint8_t low = i == 1 ? lead.second_low : 0x80;
    const uint8_t high = i == 1 ? lead.second_high : 0xBF;
    if (byte < low || byte > high) return {Utf8State::kInvalid, i};
  }
  return {Utf8State::kValid, lead.n_bytes};
}

size_t ValidUtf8Prefix(std::string_view text) {
  size_t pos = 0;
  while (pos < text.size()) {
    if (static_cast<uint8_t>(text[pos]) < 0x80) {
      ++pos;
      continue;
    }
    const Utf8Character character = CutUtf8Character(text.substr(pos));
    if (character.state != Utf8State::kValid) break;
    pos += character.n_bytes;
  }
  return pos;
}

void AppendUtf8(uint32_t code_point, std::string& out) {
  const auto put = [&out](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

uint32_t DecodeUtf8(std::string_view character) {
  const uint8_t first = static_cast<uint8_t>(character[0]);
  if (character.size() == 1) return first;
  uint32_t code_point = first & (0xFFu >> (character.size() + 1));
  for (const char c : character.substr(1)) code_point = (code_point << 6) | (static_cast<uint8_t>(c) & 0x3Fu);
  return code_point;
}

uint32_t ByteLevelCodePoint(uint8_t byte) { return kByteLevel[byte]; }

int32_t ByteLevelByte(uint32_t code_point) {
  return code_point < kByteLevelBytes.size() ? kByteLevelBytes[code_point] : -1;
}

}  // namespace pantry
