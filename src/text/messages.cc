// SPDX-License-Identifier: Apache-2.0
#include "text/messages.h"

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

// Receives the parser's events; builds values from the inside out.
class Reader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Reader(jinja::Heap& heap) : heap_(heap) {}
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
  bool string(string_t& value) override { return Add(heap_.String(jinja::MarkedText(value, true))); }
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

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& exception) override {
    constexpr size_t kMaxShown = 300;  // it quotes what it read last, which may be megabytes
    error = fmt::format("byte {}: {}", position, std::string_view(exception.what()).substr(0, kMaxShown));
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
  bool Add(jinja::Value value) {
    if (open_.empty()) {
      root = std::move(value);
    } else {
      open_.back().values.push_back(std::move(value));
    }
    return true;
  }

  jinja::Heap& heap_;
  std::vector<Container> open_;
};

}  // namespace

Result<jinja::Value> ReadConversation(std::string_view json, jinja::Heap& heap) {
  Reader reader(heap);
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &reader))
    return InvalidArgumentError("conversation: not valid JSON: {}", reader.error);
  if (!reader.root.is_dict())
    return InvalidArgumentError("conversation: expected a JSON object with \"messages\", found {}",
                                TypeName(reader.root));
  return reader.root;
}

}  // namespace pantry
