// SPDX-License-Identifier: Apache-2.0
#include "cli/flag_value.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cmath>
#include <limits>

#include "base/parse_number.h"

namespace pantry {
namespace {

template <typename T>
Status SetInteger(T& field, std::string_view text) {
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (begin != end && *begin == '+') ++begin;
  T value = 0;
  const auto [rest, error] = std::from_chars(begin, end, value);
  if (error == std::errc::result_out_of_range) {
    return InvalidArgumentError("expected a whole number from {} to {}, found '{}'", std::numeric_limits<T>::min(),
                                std::numeric_limits<T>::max(), text);
  }
  if (error != std::errc() || rest != end) return InvalidArgumentError("expected a whole number, found '{}'", text);
  field = value;
  return OkStatus();
}

// Accepts "inf" too; NaN is never meant.
bool ParseFloat(std::string_view text, float& value) {
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto number = ParseNumber<float>(text);
  if (!number || std::isnan(*number)) return false;
  value = *number;
  return true;
}

// Appends "8", or the numbers of "1-8", "1-8+2" or "1-8*2".
Status AppendRange(std::string_view text, std::vector<int64_t>& values) {
  constexpr size_t kMaxValues = 1000;
  const auto expected = [&] {
    return InvalidArgumentError(
        "expected numbers such as 512 or 128,512, or ranges such as 1-8, 1-8+2 or 1-8*2, found '{}'", text);
  };
  const size_t dash = text.find('-');
  const size_t step_at = text.find_first_of("+*", dash == std::string_view::npos ? 0 : dash);
  int64_t first = 0;
  if (!SetInteger(first, text.substr(0, dash)).ok() || first < 0) return expected();
  int64_t last = first;
  int64_t step = 1;
  if (dash != std::string_view::npos) {
    if (!SetInteger(last, text.substr(dash + 1, step_at - dash - 1)).ok() || last < first) return expected();
    const bool multiplies = step_at != std::string_view::npos && text[step_at] == '*';
    const bool step_ok = step_at == std::string_view::npos || SetInteger(step, text.substr(step_at + 1)).ok();
    if (!step_ok || step < (multiplies ? 2 : 1) || (multiplies && first == 0)) return expected();
    for (int64_t value = first;; value = multiplies ? value * step : value + step) {
      if (values.size() >= kMaxValues) return InvalidArgumentError("more than {} numbers in '{}'", kMaxValues, text);
      values.push_back(value);
      if (multiplies ? value > last / step : value > last - step) return OkStatus();  // the next one is beyond `last`
    }
  }
  if (step_at != std::string_view::npos) return expected();
  if (values.size() >= kMaxValues) return InvalidArgumentError("more than {} numbers", kMaxValues);
  values.push_back(first);
  return OkStatus();
}

}  // namespace

Status SetField(std::string& field, std::string_view text) {
  field = std::string(text);
  return OkStatus();
}

Status SetField(bool& field, std::string_view text) {
  for (const std::string_view yes : {"1", "true", "on", "yes"}) {
    if (text == yes) {
      field = true;
      return OkStatus();
    }
  }
  for (const std::string_view no : {"0", "false", "off", "no", ""}) {
    if (text == no) {
      field = false;
      return OkStatus();
    }
  }
  return InvalidArgumentError("expected on or off, found '{}'", text);
}

Status SetField(std::optional<bool>& field, std::string_view text) {
  bool value = false;
  PANTRY_RETURN_IF_ERROR(SetField(value, text));
  field = value;
  return OkStatus();
}

Status SetField(int32_t& field, std::string_view text) { return SetInteger(field, text); }
Status SetField(int64_t& field, std::string_view text) { return SetInteger(field, text); }

Status SetField(float& field, std::string_view text) {
  float value = 0;
  if (!ParseFloat(text, value)) return InvalidArgumentError("expected a number, found '{}'", text);
  field = value;
  return OkStatus();
}

Status SetField(KvType& field, std::string_view text) {
  PANTRY_ASSIGN_OR_RETURN(field, ParseKvType(text));
  return OkStatus();
}

Status SetField(std::optional<Isa>& field, std::string_view text) {
  if (text == "auto") {
    field.reset();
    return OkStatus();
  }
  PANTRY_ASSIGN_OR_RETURN(const Isa isa, ParseIsa(text));
  PANTRY_RETURN_IF_ERROR(RequireIsa(isa));
  field = isa;
  return OkStatus();
}

Status SetField(std::vector<std::string>& field, std::string_view text) {
  if (text.empty()) return InvalidArgumentError("expected a text, found nothing");
  field.emplace_back(text);
  return OkStatus();
}

Status SetField(std::vector<std::pair<TokenId, float>>& field, std::string_view text) {
  const size_t sign = text.find_first_of("+-", 1);
  TokenId token = 0;
  float bias = 0;
  if (sign == std::string_view::npos || !SetInteger(token, text.substr(0, sign)).ok() || token < 0 ||
      !ParseFloat(text.substr(sign), bias)) {
    return InvalidArgumentError("expected TOKEN+BIAS or TOKEN-BIAS such as 198-2.5, found '{}'", text);
  }
  field.emplace_back(token, bias);
  return OkStatus();
}

Status SetField(NumberList& field, std::string_view text) {
  std::vector<int64_t> values;
  for (std::string_view rest = text;;) {
    const size_t comma = rest.find(',');
    PANTRY_RETURN_IF_ERROR(AppendRange(rest.substr(0, comma), values));
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  if (field.is_default) field.values.clear();
  field.is_default = false;
  field.values.insert(field.values.end(), values.begin(), values.end());
  return OkStatus();
}

std::string FormatField(const std::string& field) { return field; }
std::string FormatField(bool field) { return field ? "on" : "off"; }
std::string FormatField(const std::optional<bool>& field) { return field ? FormatField(*field) : "auto"; }
std::string FormatField(int32_t field) { return fmt::format("{}", field); }
std::string FormatField(int64_t field) { return fmt::format("{}", field); }
std::string FormatField(float field) { return fmt::format("{}", field); }
std::string FormatField(KvType field) { return std::string(KvTypeName(field)); }
std::string FormatField(const std::optional<Isa>& field) { return field ? std::string(IsaName(*field)) : "auto"; }
std::string FormatField(const std::vector<std::string>& field) { return fmt::format("{}", fmt::join(field, ", ")); }
std::string FormatField(const std::vector<std::pair<TokenId, float>>& field) {
  std::string out;
  for (const auto& [token, bias] : field) out += fmt::format("{}{}{:+}", out.empty() ? "" : ", ", token, bias);
  return out;
}
std::string FormatField(const NumberList& field) { return fmt::format("{}", fmt::join(field.values, ",")); }

std::string Unescape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    switch (text[++i]) {
      case 'n': out += '\n'; break;
      case 't': out += '\t'; break;
      case 'r': out += '\r'; break;
      case '\\': out += '\\'; break;
      case '"': out += '"'; break;
      case '\'': out += '\''; break;
      default: (out += '\\') += text[i];
    }
  }
  return out;
}

}  // namespace pantry
