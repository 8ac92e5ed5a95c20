// SPDX-License-Identifier: Apache-2.0
#include "eval/tasks/answer_match.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <map>

#include "text/unicode.h"

namespace pantry {
namespace {

constexpr std::string_view kSpace = " \t\n\r\f\v";

bool IsPunctuation(uint32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNumeral(char c) { return IsDigit(c) || c == '.' || c == ','; }

std::string_view Strip(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::map<std::string, int, std::less<>> CountWords(std::string_view text, int& n_words) {
  std::map<std::string, int, std::less<>> counts;
  const std::string words = PlainWords(text);
  for (std::string_view rest = words; !rest.empty();) {
    const size_t length = std::min(rest.find_first_of(kSpace), rest.size());
    if (length > 0) {
      ++counts[std::string(rest.substr(0, length))];
      ++n_words;
    }
    rest.remove_prefix(std::min(length + 1, rest.size()));
  }
  return counts;
}

// The length of -?[0-9.,]+ at the beginning of `text`; 0 where it does not match.
size_t NumberLength(std::string_view text) {
  const size_t sign = text.starts_with('-') ? 1 : 0;
  size_t n = sign;
  while (n < text.size() && IsNumeral(text[n])) ++n;
  return n > sign ? n : 0;
}

// The length of (-?[$0-9.,]{2,})|(-?[0-9]+) at the beginning of `text`; 0 where it does not match.
size_t FlexibleLength(std::string_view text) {
  const size_t sign = text.starts_with('-') ? 1 : 0;
  size_t n = sign;
  while (n < text.size() && (IsNumeral(text[n]) || text[n] == '$')) ++n;
  if (n >= sign + 2) return n;
  return n == sign + 1 && IsDigit(text[sign]) ? n : 0;
}

}  // namespace

std::span<const std::string_view> AnswerMetrics(TaskProtocol protocol) {
  static constexpr std::array<std::string_view, 2> kWords = {"exact_match", "f1"};
  static constexpr std::array<std::string_view, 2> kNumbers = {"exact_match,strict-match",
                                                               "exact_match,flexible-extract"};
  PANTRY_CHECK(IsGeneration(protocol));
  return protocol == TaskProtocol::kTriviaQa ? kWords : kNumbers;
}

std::span<const std::string_view> AnswerStops(TaskProtocol protocol) {
  static constexpr std::array<std::string_view, 3> kTriviaQa = {"\n", ".", ","};
  static constexpr std::array<std::string_view, 3> kGsm8k = {"Question:", "</s>", "<|im_end|>"};
  static constexpr std::array<std::string_view, 3> kGsm8kCot = {"Q:", "</s>", "<|im_end|>"};
  PANTRY_CHECK(IsGeneration(protocol));
  if (protocol == TaskProtocol::kTriviaQa) return kTriviaQa;
  return protocol == TaskProtocol::kGsm8k ? kGsm8k : kGsm8kCot;
}

std::string PlainWords(std::string_view text) {
  std::string out;
  for (std::string_view rest = Strip(text); !rest.empty();) {
    const Utf8Character cut = CutUtf8Character(rest);
    const std::string_view character = rest.substr(0, cut.n_bytes);
    rest.remove_prefix(cut.n_bytes);
    if (cut.state != Utf8State::kValid) {
      out += character;
      continue;
    }
    const uint32_t code_point = DecodeUtf8(character);
    if (IsPunctuation(code_point)) continue;
    AppendUtf8(static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code_point))), out);
  }
  return std::string(Strip(out));
}

double WordF1(std::string_view a, std::string_view b) {
  int n_a = 0;
  int n_b = 0;
  const auto in_a = CountWords(a, n_a);
  const auto in_b = CountWords(b, n_b);
  if (n_a + n_b == 0) return 1;
  int n_common = 0;
  for (const auto& [word, count] : in_a) {
    if (const auto found = in_b.find(word); found != in_b.end()) n_common += std::min(count, found->second);
  }
  return 2.0 * n_common / (n_a + n_b);
}

std::string_view StrictNumber(std::string_view text, bool cot) {
  const std::string_view lead = cot ? "The answer is " : "#### ";
  for (size_t at = text.find(lead); at != std::string_view::npos; at = text.find(lead, at + 1)) {
    const std::string_view rest = text.substr(at + lead.size());
    size_t n = NumberLength(rest);
    // With examples the pattern ends in "any character but a newline", for which the number gives up its last one if it must.
    if (cot && n > 0 && (n == rest.size() || rest[n] == '\n')) n = NumberLength(rest.substr(0, n - 1));
    if (n > 0) return rest.substr(0, n);
  }
  return {};
}

std::string_view FlexibleNumber(std::string_view text) {
  std::string_view last;
  while (!text.empty()) {
    const size_t n = FlexibleLength(text);
    if (n > 0) last = text.substr(0, n);
    text.remove_prefix(std::max<size_t>(n, 1));
  }
  return last;
}

std::string PlainNumber(std::string_view text) {
  if (const size_t marks = text.rfind("#### "); marks != std::string_view::npos) text.remove_prefix(marks + 5);
  std::string out;
  for (const char c : Strip(text)) {
    if (c != ',' && c != '$') out += c;
  }
  if (out.ends_with('.')) out.pop_back();
  return out;
}

std::vector<double> JudgeAnswer(TaskProtocol protocol, std::string_view text, std::span<const std::string> answers) {
  PANTRY_CHECK(IsGeneration(protocol) && !answers.empty());
  double first = 0;
  double second = 0;
  for (const std::string& answer : answers) {
    if (protocol == TaskProtocol::kTriviaQa) {
      if (PlainWords(text) == PlainWords(answer)) first = 1;
      second = std::max(second, WordF1(text, answer));
      continue;
    }
    const std::string_view strict = StrictNumber(text, protocol == TaskProtocol::kGsm8kCot);
    const std::string_view flexible = FlexibleNumber(text);
    if (!strict.empty() && PlainNumber(strict) == PlainNumber(answer)) first = 1;
    if (!flexible.empty() && PlainNumber(flexible) == PlainNumber(answer)) second = 1;
  }
  return {first, second};
}

}  // namespace pantry
