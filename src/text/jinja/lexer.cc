// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "text/jinja/string_literal.h"
#include "text/jinja/unicode.h"

namespace pantry::jinja {
namespace {

bool IsAsciiDigit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> Run() {
    while (pos_ < source_.size()) LexText();
    Emit(TokenKind::kEnd, pos_, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void FailAt(size_t offset, std::string message) const {
    throw TemplateError{StatusCode::kInvalidArgument, std::move(message), static_cast<uint32_t>(offset)};
  }
  void Emit(TokenKind kind, size_t offset, std::string text) {
    tokens_.push_back({kind, static_cast<uint32_t>(offset), std::move(text)});
  }
  bool At(std::string_view text) const { return source_.substr(pos_).starts_with(text); }
  char Peek(size_t ahead = 0) const { return pos_ + ahead < source_.size() ? source_[pos_ + ahead] : '\0'; }

  size_t SkipSpace(size_t pos) const {
    while (pos < source_.size()) {
      size_t next = pos;
      if (!IsSpace(DecodeChar(source_, &next))) break;
      pos = next;
    }
    return pos;
  }

  // Text in [begin, end) before a tag with this sign ('-', '+' or 0): emits what stays of it.
  void EmitText(size_t begin, size_t end, char sign, bool before_print) {
    std::string_view text = source_.substr(begin, end - begin);
    if (sign == '-') {
      text = text.substr(0, TrimmedSize(text, 0));
    } else if (sign != '+' && !before_print) {
      const size_t line = text.rfind('\n') + 1;  // 0 when there is none
      const bool line_starts_here = line > 0 || begin == 0 || source_[begin - 1] == '\n';
      if (line_starts_here && TrimmedSize(text, line) == line) text = text.substr(0, line);
    }
    if (!text.empty()) Emit(TokenKind::kText, begin, std::string(text));
  }
  // Where the white space at the end of `text` begins, not before `floor`.
  static size_t TrimmedSize(std::string_view text, size_t floor) {
    size_t kept = floor;
    for (size_t pos = floor; pos < text.size();) {
      if (!IsSpace(DecodeChar(text, &pos))) kept = pos;
    }
    return kept;
  }

  // Text up to the next tag, and the tag.
  void LexText() {
    const size_t begin = pos_;
    size_t tag = begin;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string_view::npos || tag + 1 >= source_.size()) {
        Emit(TokenKind::kText, begin, std::string(source_.substr(begin)));
        pos_ = source_.size();
        return;
      }
      const char second = source_[tag + 1];
      if (second == '{' || second == '%' || second == '#') break;
    }
    const char kind = source_[tag + 1];
    pos_ = tag + 2;
    const char sign = Peek() == '-' || Peek() == '+' ? source_[pos_++] : '\0';
    EmitText(begin, tag, sign, kind == '{');
    if (kind == '#') return SkipComment(tag);
    if (kind == '%' && LexRaw(tag)) return;
    LexTag(tag, kind == '{');
  }

  void SkipComment(size_t tag) {
    const size_t close = source_.find("#}", pos_);
    if (close == std::string_view::npos) FailAt(tag, "missing end of comment \"#}\"");
    const char sign = close > pos_ ? source_[close - 1] : '\0';
    pos_ = close + 2;
    EndOfTag(sign, /*is_print=*/false);
  }

  // Behind "%}", "#}" or "}}" that had `sign` before it.
  void EndOfTag(char sign, bool is_print) {
    if (sign == '-') {
      pos_ = SkipSpace(pos_);
    } else if (sign != '+' && !is_print && Peek() == '\n') {
      ++pos_;
    }
  }

  // {% raw %}...{% endraw %}; false when the tag at `tag` is another one.
  bool LexRaw(size_t tag) {
    const size_t saved = pos_;
    pos_ = SkipSpace(pos_);
    if (!At("raw")) return pos_ = saved, false;
    pos_ = SkipSpace(pos_ + 3);
    if (At("-%}")) {
      pos_ = SkipSpace(pos_ + 3);
    } else if (At("%}")) {
      pos_ += 2;
    } else {
      return pos_ = saved, false;
    }
    const size_t begin = pos_;
    for (size_t end = source_.find("{%", begin); end != std::string_view::npos; end = source_.find("{%", end + 1)) {
      pos_ = end + 2;
      const char sign = Peek() == '-' || Peek() == '+' ? source_[pos_++] : '\0';
      pos_ = SkipSpace(pos_);
      if (!At("endraw")) continue;
      pos_ = SkipSpace(pos_ + 6);
      const char end_sign = Peek() == '-' || Peek() == '+' ? source_[pos_++] : '\0';
      if (!At("%}")) continue;
      pos_ += 2;
      EmitText(begin, end, sign, false);
      EndOfTag(end_sign, false);
      return true;
    }
    FailAt(tag, "missing {% endraw %}");
  }

  void LexTag(size_t tag, bool is_print) {
    Emit(is_print ? TokenKind::kPrintBegin : TokenKind::kBlockBegin, tag, "");
    const std::string_view close = is_print ? "}}" : "%}";
    std::string open_brackets;
    for (;;) {
      pos_ = SkipSpace(pos_);
      if (pos_ >= source_.size()) FailAt(tag, fmt::format("missing \"{}\": the tag is never closed", close));
      if (open_brackets.empty()) {
        const char sign = (Peek() == '-' || (Peek() == '+' && !is_print)) && source_.substr(pos_ + 1).starts_with(close)
                              ? Peek()
                              : '\0';
        if (sign != '\0' || At(close)) {
          Emit(is_print ? TokenKind::kPrintEnd : TokenKind::kBlockEnd, pos_, "");
          pos_ += sign != '\0' ? 3 : 2;
          EndOfTag(sign, is_print);
          return;
        }
      }
      LexToken(&open_brackets);
    }
  }

  void LexToken(std::string* open_brackets) {
    const char c = Peek();
    if (IsAsciiDigit(c)) return LexNumber();
    if (c == '\'' || c == '"') return LexString(c);
    size_t end = pos_;
    if (IsIdentifierStart(DecodeChar(source_, &end))) {
      for (size_t next = end; next < source_.size() && IsIdentifierPart(DecodeChar(source_, &next));) end = next;
      Emit(TokenKind::kName, pos_, std::string(source_.substr(pos_, end - pos_)));
      pos_ = end;
      return;
    }
    LexOperator(open_brackets);
  }

  void LexOperator(std::string* open_brackets) {
    static constexpr std::array<std::string_view, 25> kOperators = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                                    "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                                    ">",  "<",  "=",  ".",  ":",  "|",  ","};
    const auto* op = std::find_if(kOperators.begin(), kOperators.end(), [&](std::string_view o) { return At(o); });
    if (op == kOperators.end()) {
      size_t end = pos_;
      DecodeChar(source_, &end);
      FailAt(pos_, fmt::format("unexpected character '{}'", source_.substr(pos_, end - pos_)));
    }
    if (*op == "(" || *op == "[" || *op == "{") {
      open_brackets->push_back(*op == "(" ? ')' : *op == "[" ? ']' : '}');
    } else if (*op == ")" || *op == "]" || *op == "}") {
      if (open_brackets->empty()) FailAt(pos_, fmt::format("unexpected '{}'", *op));
      if (open_brackets->back() != op->front())
        FailAt(pos_, fmt::format("unexpected '{}', expected '{}'", *op, open_brackets->back()));
      open_brackets->pop_back();
    }
    Emit(TokenKind::kOperator, pos_, std::string(*op));
    pos_ += op->size();
  }

  // Digits with single underscores between them, from `pos`; returns their end.
  size_t SkipDigits(size_t pos, std::string_view digits) const {
    while (pos < source_.size()) {
      const size_t next = source_[pos] == '_' ? pos + 1 : pos;
      if (next >= source_.size() || digits.find(source_[next]) == std::string_view::npos) break;
      pos = next + 1;
    }
    return pos;
  }

  void LexNumber() {
    static constexpr std::string_view kDecimal = "0123456789";
    const size_t begin = pos_;
    TokenKind kind = TokenKind::kInteger;
    size_t end = begin;
    const char base = source_[begin] == '0' ? static_cast<char>(Peek(1) | 0x20) : '\0';
    const std::string_view digits = base == 'x'   ? "0123456789abcdefABCDEF"
                                    : base == 'o' ? "01234567"
                                    : base == 'b' ? "01"
                                                  : "";
    if (!digits.empty() && SkipDigits(begin + 2, digits) > begin + 2) {
      end = SkipDigits(begin + 2, digits);
    } else {
      end = SkipDigits(begin, kDecimal);
      const bool after_dot = begin > 0 && source_[begin - 1] == '.';
      const auto fraction = [&](size_t at) {
        return at < source_.size() && source_[at] == '.' && at + 1 < source_.size() && IsAsciiDigit(source_[at + 1]);
      };
      if (!after_dot && fraction(end)) {
        end = SkipDigits(end + 1, kDecimal);
        kind = TokenKind::kFloat;
      }
      if (!after_dot && end < source_.size() && (source_[end] | 0x20) == 'e') {
        size_t exponent = end + 1;
        if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
        if (exponent < source_.size() && IsAsciiDigit(source_[exponent])) {
          end = SkipDigits(exponent, kDecimal);
          kind = TokenKind::kFloat;
        }
      }
    }
    std::string text(source_.substr(begin, end - begin));
    std::erase(text, '_');
    const bool plain = kind == TokenKind::kInteger && digits.empty();
    if (plain && text.size() > 1 && text[0] == '0' && text.find_first_not_of('0') != std::string::npos) {
      FailAt(begin, fmt::format("leading zeros in the number '{}'", text));
    }
    Emit(kind, begin, std::move(text));
    pos_ = end;
  }

  void LexString(char quote) {
    size_t end = pos_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) FailAt(pos_, "the string is never closed");
    std::string text;
    std::string error;
    if (!DecodeStringLiteral(source_.substr(pos_ + 1, end - pos_ - 1), &text, &error)) FailAt(pos_, error);
    Emit(TokenKind::kString, pos_, std::move(text));
    pos_ = end + 1;
  }

  std::string_view source_;
  size_t pos_ = 0;
  std::vector<Token> tokens_;
};

}  // namespace

std::string NormalizeSource(std::string_view source) {
  std::string normalized;
  normalized.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      normalized.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      normalized.push_back(source[i]);
    }
  }
  if (normalized.ends_with('\n')) normalized.pop_back();
  return normalized;
}

std::string DescribePosition(std::string_view source, uint32_t offset) {
  const std::string_view before = source.substr(0, offset);
  const size_t line_begin = before.rfind('\n') + 1;
  return fmt::format("line {}, column {}", std::count(before.begin(), before.end(), '\n') + 1,
                     CountChars(before.substr(line_begin)) + 1);
}

std::vector<Token> Tokenize(std::string_view source) { return Lexer(source).Run(); }

}  // namespace pantry::jinja
