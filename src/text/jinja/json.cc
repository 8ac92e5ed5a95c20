// SPDX-License-Identifier: Apache-2.0
// json.dumps(), as chat templates expect of the filter tojson.
#include "text/jinja/error.h"
#include "text/jinja/format.h"
#include "text/jinja/merge_sort.h"
#include "text/jinja/unicode.h"

namespace pantry::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(Heap& heap, const JsonOptions& options) : heap_(heap), options_(options) {}

  MarkedText Write(const Value& value) {
    WriteValue(value, 0);
    // Brackets and commas that the conversation chose are the conversation's too.
    if (out_.AnyInput()) out_.MarkAllInput();
    return std::move(out_);
  }

 private:
  void Put(std::string_view text) { out_.Append(text, false); }
  void BreakLine(int level) {
    if (!options_.indent) return;
    Put("\n");
    for (int i = 0; i < level; ++i) Put(*options_.indent);
  }

  void WriteValue(const Value& value, int level) {
    heap_.Spend(1);
    switch (value.type()) {
      case Type::kNone: return Put("null");
      case Type::kBool: return Put(value.boolean() ? "true" : "false");
      case Type::kInt: return Put(fmt::format_int(value.integer()).str());
      case Type::kFloat: return WriteFloat(value.number());
      case Type::kString: return WriteString(value.text());
      case Type::kDict: return WriteDict(value.dict(), level);
      case Type::kSequence:
        if (value.is_list_or_tuple()) return WriteList(value.items(), level);
        [[fallthrough]];
      default: Fail("Object of type {} is not JSON serializable", TypeName(value));
    }
  }

  void WriteFloat(double number) {
    const std::string text = FormatFloat(number);
    Put(text == "nan" ? "NaN" : text == "inf" ? "Infinity" : text == "-inf" ? "-Infinity" : text);
  }

  void WriteList(const std::vector<Value>& items, int level) {
    if (items.empty()) return Put("[]");
    Put("[");
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) Put(options_.item_separator);
      BreakLine(level + 1);
      WriteValue(items[i], level + 1);
    }
    BreakLine(level);
    Put("]");
  }

  void WriteDict(const DictObject& dict, int level) {
    if (dict.entries.empty()) return Put("{}");
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (options_.sort_keys) {
      MergeSort(&entries, [&](const auto* a, const auto* b) { return Compare(heap_, a->first, b->first, "<") < 0; });
    }
    Put("{");
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) Put(options_.item_separator);
      BreakLine(level + 1);
      WriteKey(entries[i]->first);
      Put(options_.key_separator);
      WriteValue(entries[i]->second, level + 1);
    }
    BreakLine(level);
    Put("}");
  }

  void WriteKey(const Value& key) {
    if (key.is_string()) return WriteString(key.text());
    if (!key.is_number() && !key.is_none()) Fail("keys must be str, int, float, bool or None, not {}", TypeName(key));
    Put("\"");
    WriteValue(key, 0);
    Put("\"");
  }

  void WriteString(const MarkedText& text) {
    heap_.SpendBytes(4 * text.size());
    Put("\"");
    for (CharReader reader(text); reader.Next();) out_.Append(Escape(reader.code_point, reader.bytes), reader.is_input);
    Put("\"");
  }

  // The escape for one character, or its own bytes. The view lives until the next call.
  std::string_view Escape(char32_t c, std::string_view bytes) {
    switch (c) {
      case '"': return "\\\"";
      case '\\': return "\\\\";
      case '\n': return "\\n";
      case '\r': return "\\r";
      case '\t': return "\\t";
      case '\b': return "\\b";
      case '\f': return "\\f";
      default: break;
    }
    if (c >= 0x20 && (c < 0x7F || !options_.ensure_ascii)) return bytes;
    const auto code = static_cast<uint32_t>(c);
    if (c < 0x10000) {
      escape_ = fmt::format("\\u{:04x}", code);
    } else {
      escape_ = fmt::format("\\u{:04x}\\u{:04x}", 0xD7C0 + (code >> 10), 0xDC00 + (code & 0x3FF));
    }
    return escape_;
  }

  Heap& heap_;
  const JsonOptions& options_;
  MarkedText out_;
  std::string escape_;
};

}  // namespace

MarkedText ToJson(Heap& heap, const Value& value, const JsonOptions& options) {
  return JsonWriter(heap, options).Write(value);
}

}  // namespace pantry::jinja
