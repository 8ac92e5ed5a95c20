// SPDX-License-Identifier: Apache-2.0
#include "text/messages.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/unicode.h"

namespace pantry {
namespace {

// Tool schemas nest a dozen levels; the heap's own limit on nested values is higher.
constexpr size_t kMaxDepth = 100;

constexpr std::array<std::string_view, 8> kKnownRoles = {"system",    "user",  "assistant", "tool",
                                                         "developer", "model", "function",  "ipython"};

// What the parser's exception says, in our words; `found_bytes` is the length of what it read in vain.
std::string WhatIsWrong(const nlohmann::detail::exception& exception, size_t last_token_bytes, size_t* found_bytes) {
  *found_bytes = 1;
  constexpr int kNumberOverflow = 406;
  if (exception.id == kNumberOverflow) {
    *found_bytes = last_token_bytes;
    return "this number is too large";
  }
  std::string_view detail = exception.what();
  const size_t dash = detail.find(" - ");
  if (dash != std::string_view::npos) detail.remove_prefix(dash + 3);
  const size_t quote = detail.find("; last read: ");
  if (quote != std::string_view::npos) return std::string(detail.substr(0, quote));
  constexpr std::string_view kUnexpected = "unexpected ";
  constexpr std::string_view kExpected = "; expected ";
  const size_t expected = detail.find(kExpected);
  if (!detail.starts_with(kUnexpected) || expected == std::string_view::npos) return "a value is wanted here";
  const std::string_view found = detail.substr(kUnexpected.size(), expected - kUnexpected.size());
  if (found == "end of input") *found_bytes = 0;
  if (found.ends_with("literal")) *found_bytes = last_token_bytes;
  return fmt::format("expected {}, found {}", detail.substr(expected + kExpected.size()), found);
}

// "line 1, column 5" of a byte; columns count characters.
std::string Place(std::string_view json, size_t offset) {
  const std::string_view before = json.substr(0, offset);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
  const auto column = 1 + std::count_if(before.begin() + static_cast<std::ptrdiff_t>(line_begin), before.end(),
                                        [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
  return fmt::format("line {}, column {}", line, column);
}

// Receives the parser's events; builds values from the inside out.
class Reader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  Reader(std::string_view json, jinja::Heap& heap) : json_(json), heap_(heap) {}
  jinja::Value root;
  std::string error;

  bool null() override { return Add(jinja::Value::None()); }
  bool boolean(bool value) override { return Add(jinja::Value::Bool(value)); }
  bool number_integer(number_integer_t value) override { return Add(jinja::Value::Int(value)); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > INT64_MAX) return Add(jinja::Value::Float(static_cast<double>(value)));
    return Add(jinja::Value::Int(static_cast<int64_t>(value)));
  }
  bool number_float(number_float_t value, const string_t&) override { return Add(jinja::Value::Float(value)); }
  bool string(string_t& value) override { return Add(heap_.String(jinja::MarkedText(value, !IsKnownRole(value)))); }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override { return Open(true); }
  bool key(string_t& value) override {
    open_.back().keys.push_back(heap_.String(jinja::MarkedText(value, true)));
    return true;
  }
  bool end_object() override {
    Container object = Close();
    std::vector<std::pair<jinja::Value, jinja::Value>> entries;
    entries.reserve(object.values.size());
    for (size_t i = 0; i < object.values.size(); ++i)
      entries.emplace_back(std::move(object.keys[i]), std::move(object.values[i]));
    return Add(heap_.Dict(std::move(entries)));
  }
  bool start_array(std::size_t) override { return Open(false); }
  bool end_array() override { return Add(heap_.List(Close().values)); }

  // `position` is one past what was read, the end of the text included.
  bool parse_error(std::size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& exception) override {
    size_t found_bytes = 0;
    const std::string wrong = WhatIsWrong(exception, last_token.size(), &found_bytes);
    const size_t offset = std::min(position - std::min(position, found_bytes), json_.size());
    error = fmt::format("{}: not valid JSON: {}", Place(json_, offset), wrong);
    return false;
  }

 private:
  struct Container {
    bool is_object;
    std::vector<jinja::Value> keys;
    std::vector<jinja::Value> values;
  };

  bool Open(bool is_object) {
    if (open_.size() >= kMaxDepth) {
      error = fmt::format("nests deeper than {} levels", kMaxDepth);
      return false;
    }
    open_.push_back({is_object, {}, {}});
    return true;
  }
  Container Close() {
    Container container = std::move(open_.back());
    open_.pop_back();
    return container;
  }
  // Whether the string that comes next is the role of a message, and its template may trust it.
  bool IsKnownRole(std::string_view text) const {
    return open_.size() == 3 && open_[0].is_object && open_[0].keys.back().bytes() == "messages" &&
           !open_[1].is_object && open_[2].is_object && open_[2].keys.back().bytes() == "role" &&
           std::find(kKnownRoles.begin(), kKnownRoles.end(), text) != kKnownRoles.end();
  }
  bool Add(jinja::Value value) {
    if (open_.empty()) {
      root = std::move(value);
    } else {
      open_.back().values.push_back(std::move(value));
    }
    return true;
  }

  std::string_view json_;
  jinja::Heap& heap_;
  std::vector<Container> open_;
};

}  // namespace

Result<jinja::Value> ReadConversation(std::string_view json, jinja::Heap& heap) {
  Reader reader(json, heap);
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &reader))
    return InvalidArgumentError("conversation: {}", reader.error);
  if (!reader.root.is_dict())
    return InvalidArgumentError("conversation: expected a JSON object with \"messages\", found {}",
                                TypeName(reader.root));
  return reader.root;
}

}  // namespace pantry
