// SPDX-License-Identifier: Apache-2.0
#include "cli/flag_value.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cmath>
#include <limits>

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
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (begin != end && *begin == '+') ++begin;
  const auto [rest, error] = std::from_chars(begin, end, value);
  return error == std::errc() && rest == end && !std::isnan(value);
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
  if (!IsaSupported(isa)) {
    return InvalidArgumentError("this CPU does not run '{}'; the best it runs is '{}'", text, IsaName(BestIsa()));
  }
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
