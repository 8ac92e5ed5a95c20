// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/format.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja/error.h"
#include "text/jinja/unicode.h"

namespace pantry::jinja {
namespace {

// Namespaces may hold themselves.
constexpr int kMaxReprDepth = 300;

class ReprWriter {
 public:
  explicit ReprWriter(Heap& heap) : heap_(heap) {}

  MarkedText Write(const Value& value) {
    WriteValue(value, 0);
    if (out_.AnyInput() && !value.is_string()) out_.MarkAllInput();
    return std::move(out_);
  }

 private:
  void Put(std::string_view text) { out_.Append(text, false); }

  void WriteValue(const Value& value, int depth) {
    heap_.Spend(1);
    if (depth > kMaxReprDepth) FailOutOfBudget("values nest deeper than {}", kMaxReprDepth);
    switch (value.type()) {
      case Type::kUndefined: return Put("Undefined");
      case Type::kNone: return Put("None");
      case Type::kBool: return Put(value.boolean() ? "True" : "False");
      case Type::kInt: return Put(fmt::format_int(value.integer()).str());
      case Type::kFloat: return Put(FormatFloat(value.number()));
      case Type::kString: return WriteString(value.text());
      case Type::kSequence: return WriteSequence(value, depth);
      case Type::kDict:
        Put("{");
        for (const auto& entry : value.dict().entries) {
          if (&entry != &value.dict().entries.front()) Put(", ");
          WriteValue(entry.first, depth + 1);
          Put(": ");
          WriteValue(entry.second, depth + 1);
        }
        return Put("}");
      case Type::kFunction:
        return Put(fmt::format("<{} '{}'>", value.function().builtin ? "function" : "Macro", value.function().name));
      case Type::kLoop: return Put("<LoopContext>");
      case Type::kNamespace:
        Put("<Namespace {");
        for (const auto& attribute : value.name_space().attributes) {
          if (&attribute != &value.name_space().attributes.front()) Put(", ");
          Put("'" + attribute.first + "': ");
          WriteValue(attribute.second, depth + 1);
        }
        return Put("}>");
    }
  }

  void WriteSequence(const Value& value, int depth) {
    const auto& items = value.items();
    const auto list = [&](std::string_view open, std::string_view close) {
      Put(open);
      for (size_t i = 0; i < items.size(); ++i) {
        if (i > 0) Put(", ");
        WriteValue(items[i], depth + 1);
      }
      Put(close);
    };
    switch (value.sequence().flavor) {
      case Flavor::kList: return list("[", "]");
      case Flavor::kTuple: return list("(", items.size() == 1 ? ",)" : ")");
      case Flavor::kRange: return WriteRange(items);
      case Flavor::kGenerator: return Put("<generator object>");
      case Flavor::kDictKeys: return list("dict_keys([", "])");
      case Flavor::kDictValues: return list("dict_values([", "])");
      case Flavor::kDictItems: return list("dict_items([", "])");
    }
  }

  void WriteRange(const std::vector<Value>& items) {
    const int64_t first = items.empty() ? 0 : items.front().integer();
    const int64_t step = items.size() < 2 ? 1 : items[1].integer() - first;
    const int64_t stop = items.empty() ? 0 : items.back().integer() + (step > 0 ? 1 : -1);
    Put(step == 1 ? fmt::format("range({}, {})", first, stop) : fmt::format("range({}, {}, {})", first, stop, step));
  }

  void WriteString(const MarkedText& text) {
    heap_.SpendBytes(text.size());
    const char quote =
        text.bytes().find('\'') != std::string_view::npos && text.bytes().find('"') == std::string_view::npos ? '"'
                                                                                                              : '\'';
    Put({&quote, 1});
    for (CharReader reader(text); reader.Next();) {
      const char32_t c = reader.code_point;
      if (c == static_cast<char32_t>(quote) || c == '\\') {
        out_.Append("\\", reader.is_input);
        out_.Append(reader.bytes, reader.is_input);
      } else if (c == '\n' || c == '\r' || c == '\t') {
        out_.Append(c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t", reader.is_input);
      } else if (!IsPrintable(c)) {
        const auto code = static_cast<uint32_t>(c);
        out_.Append(c < 0x100     ? fmt::format("\\x{:02x}", code)
                    : c < 0x10000 ? fmt::format("\\u{:04x}", code)
                                  : fmt::format("\\U{:08x}", code),
                    reader.is_input);
      } else {
        out_.Append(reader.bytes, reader.is_input);
      }
    }
    Put({&quote, 1});
  }

  Heap& heap_;
  MarkedText out_;
};

}  // namespace

std::string FormatFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto scientific = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  std::string text(buffer, scientific.ptr);
  const int exponent = std::stoi(text.substr(text.find('e') + 1));
  if (exponent < -4 || exponent >= 16)
    return text;  // "1e+16", "1.5e-05": two digits of exponent at least, as Python has it
  const auto fixed = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed);
  text.assign(buffer, fixed.ptr);
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

MarkedText ToText(Heap& heap, const Value& value) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return {};
  return Repr(heap, value);
}

MarkedText Repr(Heap& heap, const Value& value) { return ReprWriter(heap).Write(value); }

std::string ReprText(Heap& heap, const Value& value) { return std::string(Repr(heap, value).bytes()); }

std::string FormatNumber(const Value& value, const NumberSpec& spec) {
  const bool is_float_type = std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos;
  std::string digits;
  bool negative = false;
  if (is_float_type) {
    const double number = value.number();
    negative = std::signbit(number) && !std::isnan(number);
    const double magnitude = std::fabs(number) * (spec.type == '%' ? 100 : 1);
    const int precision = spec.precision < 0 ? 6 : spec.precision;
    switch (spec.type) {
      case 'e': digits = fmt::format("{:.{}e}", magnitude, precision); break;
      case 'E': digits = fmt::format("{:.{}E}", magnitude, precision); break;
      case 'g':
        digits = spec.alternate ? fmt::format("{:#.{}g}", magnitude, precision)
                                : fmt::format("{:.{}g}", magnitude, precision);
        break;
      case 'G': digits = fmt::format("{:.{}G}", magnitude, precision); break;
      case '%': digits = fmt::format("{:.{}f}%", magnitude, precision); break;
      default: digits = fmt::format("{:.{}f}", magnitude, precision); break;
    }
  } else {
    const int64_t integer = value.integer();
    negative = integer < 0;
    const uint64_t magnitude = negative ? 0 - static_cast<uint64_t>(integer) : static_cast<uint64_t>(integer);
    switch (spec.type) {
      case 'x': digits = fmt::format("{}{:x}", spec.alternate ? "0x" : "", magnitude); break;
      case 'X': digits = fmt::format("{}{:X}", spec.alternate ? "0X" : "", magnitude); break;
      case 'o': digits = fmt::format("{}{:o}", spec.alternate ? "0o" : "", magnitude); break;
      case 'b': digits = fmt::format("{}{:b}", spec.alternate ? "0b" : "", magnitude); break;
      default:
        digits = fmt::format("{}", magnitude);
        // Only % formatting gives an integer a precision: zeros in front.
        if (static_cast<int>(digits.size()) < spec.precision)
          digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
    }
  }
  if (spec.group) {
    size_t end = std::min(digits.find_first_not_of("0123456789"), digits.size());
    while (end > 3) digits.insert(end -= 3, ",");
  }
  return (negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign)) + digits;
}

}  // namespace pantry::jinja
