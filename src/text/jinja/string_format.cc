// SPDX-License-Identifier: Apache-2.0
// "%s" % x and "{}".format(x).
#include <algorithm>
#include <cmath>

#include "text/jinja/error.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/format.h"
#include "text/jinja/operators.h"
#include "text/jinja/unicode.h"

namespace pantry::jinja {
namespace {

bool IsAsciiDigit(char c) { return c >= '0' && c <= '9'; }

// Digits at *pos; -1 when there are none.
int64_t ReadNumber(std::string_view text, size_t* pos) {
  if (*pos >= text.size() || !IsAsciiDigit(text[*pos])) return -1;
  int64_t number = 0;
  while (*pos < text.size() && IsAsciiDigit(text[*pos])) {
    number = number * 10 + (text[(*pos)++] - '0');
    if (number > kMaxFormatWidth) Fail("a width in a format exceeds {}", kMaxFormatWidth);
  }
  return number;
}

struct Padding {
  int64_t width;  // in characters
  char align;     // '<', '>', '^', or '=' (between sign and digits)
  std::string_view fill;
  bool is_input;
};

void AppendPadded(MarkedText* out, const MarkedText& text, const Padding& padding) {
  const char align = padding.align;
  const int64_t n_missing = std::max<int64_t>(0, padding.width - static_cast<int64_t>(CountChars(text.bytes())));
  const int64_t n_left = align == '<' ? 0 : align == '^' ? n_missing / 2 : n_missing;
  const auto pad = [&](int64_t n) {
    for (int64_t i = 0; i < n; ++i) out->Append(padding.fill, padding.is_input);
  };
  size_t sign_bytes = 0;
  if (align == '=' && !text.empty() && (text.bytes()[0] == '-' || text.bytes()[0] == '+' || text.bytes()[0] == ' '))
    sign_bytes = 1;
  out->AppendSlice(text, 0, sign_bytes);
  pad(n_left);
  out->AppendSlice(text, sign_bytes, text.size());
  pad(n_missing - n_left);
}

MarkedText FirstChars(const MarkedText& text, int64_t n) {
  return n < 0 ? text : text.Slice(0, ByteOfChar(text.bytes(), static_cast<size_t>(n)));
}

class PercentFormatter {
 public:
  PercentFormatter(Heap& heap, const MarkedText& format, const Value& arguments)
      : heap_(heap), format_(format), arguments_(arguments) {}

  MarkedText Run() {
    const std::string_view text = format_.bytes();
    size_t literal = 0;
    for (size_t percent = text.find('%'); percent != std::string_view::npos; percent = text.find('%', literal)) {
      out_.AppendSlice(format_, literal, percent);
      literal = FormatOne(percent + 1);
    }
    out_.AppendSlice(format_, literal, text.size());
    if (arguments_.is_flavor(Flavor::kTuple)
            ? n_used_ < arguments_.items().size()
            : n_used_ == 0 && !by_name_ && !arguments_.is_dict() && !arguments_.is_list_or_tuple()) {
      Fail("not all arguments converted during string formatting");
    }
    return std::move(out_);
  }

 private:
  Value NextArgument() {
    if (arguments_.is_flavor(Flavor::kTuple) ? n_used_ >= arguments_.items().size() : n_used_ > 0)
      Fail("not enough arguments for format string");
    ++n_used_;
    return arguments_.is_flavor(Flavor::kTuple) ? arguments_.items()[n_used_ - 1] : arguments_;
  }

  // One conversion, from behind its "%"; returns where it ends.
  size_t FormatOne(size_t pos) {
    heap_.Spend(1);
    const std::string_view text = format_.bytes();
    std::optional<Value> argument;
    if (pos < text.size() && text[pos] == '(') {
      const size_t close = text.find(')', pos);
      if (close == std::string_view::npos) Fail("incomplete format key");
      if (!arguments_.is_dict()) Fail("format requires a mapping");
      const std::string_view key = text.substr(pos + 1, close - pos - 1);
      const Value* value = Find(heap_, arguments_.dict(), key);
      if (!value) Fail("the mapping of a format has no key '{}'", key);
      argument = *value;
      by_name_ = true;
      pos = close + 1;
    }
    NumberSpec spec;
    char align = '>';
    bool zero = false;
    for (; pos < text.size() && std::string_view("-+ 0#").find(text[pos]) != std::string_view::npos; ++pos) {
      if (text[pos] == '-') align = '<';
      if (text[pos] == '+') spec.sign = '+';
      if (text[pos] == ' ' && spec.sign == '-') spec.sign = ' ';
      if (text[pos] == '0') zero = true;
      if (text[pos] == '#') spec.alternate = true;
    }
    const int64_t width = ReadStarOrNumber(&pos);
    if (pos < text.size() && text[pos] == '.') {
      ++pos;
      spec.precision = static_cast<int>(std::max<int64_t>(ReadStarOrNumber(&pos), 0));
    }
    if (pos >= text.size()) Fail("incomplete format");
    const char type = text[pos++];
    if (type == '%') {
      out_.Append("%", false);
      return pos;
    }
    const Value value = argument ? *argument : NextArgument();
    const MarkedText converted = Convert(type, value, spec);
    const bool is_number = type != 's' && type != 'r' && type != 'a' && type != 'c';
    zero = zero && is_number && align != '<';
    AppendPadded(&out_, converted, {width, zero ? '=' : align, zero ? "0" : " ", format_.AnyInput()});
    return pos;
  }

  int64_t ReadStarOrNumber(size_t* pos) {
    if (*pos >= format_.size() || format_.bytes()[*pos] != '*') return ReadNumber(format_.bytes(), pos);
    ++*pos;
    const int64_t number = ToInt(NextArgument(), "a width in a format");
    if (number < 0 || number > kMaxFormatWidth) Fail("a width in a format must be in 0..{}", kMaxFormatWidth);
    return number;
  }

  MarkedText Convert(char type, const Value& value, NumberSpec spec) {
    switch (type) {
      case 's': return FirstChars(ToText(heap_, value), spec.precision);
      case 'r':
      case 'a': return FirstChars(Repr(heap_, value), spec.precision);
      case 'c':
        if (value.is_string() && CountChars(value.bytes()) == 1) return value.text();
        Fail("%c requires a character");
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o': {
        FailIfUndefined(value);
        const bool takes_float = type == 'd' || type == 'i' || type == 'u';
        if (!value.is_integral() && !(takes_float && value.is_number())) {
          Fail("%{} format: a number is required, not {}", type, TypeName(value));
        }
        spec.type = type == 'i' || type == 'u' ? 'd' : type;
        const Value whole = value.is_integral() ? value : Value::Int(ToInt64(value.number()));
        return {FormatNumber(whole, spec), false};
      }
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        FailIfUndefined(value);
        if (!value.is_number()) Fail("must be real number, not {}", TypeName(value));
        spec.type = type;
        return {FormatNumber(value, spec), false};
      default: Fail("unsupported format character '{}'", type);
    }
  }

  static int64_t ToInt64(double number) {
    if (!(number > -9.2e18 && number < 9.2e18)) Fail("cannot convert float {} to integer", FormatFloat(number));
    return static_cast<int64_t>(number);
  }

  Heap& heap_;
  const MarkedText& format_;
  const Value& arguments_;
  size_t n_used_ = 0;
  bool by_name_ = false;
  MarkedText out_;
};

// "{...}" replacement fields.
class BraceFormatter {
 public:
  BraceFormatter(Evaluator& evaluator, const MarkedText& format, const Args& args)
      : evaluator_(evaluator), format_(format), args_(args) {}

  MarkedText Run() {
    const std::string_view text = format_.bytes();
    for (size_t pos = 0; pos < text.size();) {
      const size_t brace = std::min(text.find_first_of("{}", pos), text.size());
      out_.AppendSlice(format_, pos, brace);
      if (brace == text.size()) break;
      if (brace + 1 < text.size() && text[brace + 1] == text[brace]) {
        out_.AppendSlice(format_, brace, brace + 1);
        pos = brace + 2;
        continue;
      }
      if (text[brace] == '}') Fail("Single '}}' encountered in format string");
      const size_t close = text.find('}', brace);
      if (close == std::string_view::npos) Fail("expected '}}' before end of string");
      FormatField(text.substr(brace + 1, close - brace - 1));
      pos = close + 1;
    }
    return std::move(out_);
  }

 private:
  void FormatField(std::string_view field) {
    evaluator_.heap().Spend(1);
    if (field.find('{') != std::string_view::npos) FailUnsupported("nested fields in str.format() are not supported");
    const size_t colon = std::min(field.find(':'), field.size());
    std::string_view name = field.substr(0, colon);
    const std::string_view spec = colon < field.size() ? field.substr(colon + 1) : std::string_view();
    char conversion = '\0';
    if (name.size() >= 2 && name[name.size() - 2] == '!') {
      conversion = name.back();
      name.remove_suffix(2);
    }
    Value value = Lookup(name);
    if (conversion == 'r') value = evaluator_.heap().String(Repr(evaluator_.heap(), value));
    if (conversion == 's') value = evaluator_.heap().String(ToText(evaluator_.heap(), value));
    ApplySpec(value, spec);
  }

  Value Lookup(std::string_view name) {
    size_t end = std::min(name.find_first_of(".["), name.size());
    const std::string_view first = name.substr(0, end);
    Value value;
    size_t pos = 0;
    if (const int64_t index = ReadNumber(first, &pos); first.empty() || (index >= 0 && pos == first.size())) {
      const auto i = static_cast<size_t>(first.empty() ? n_auto_++ : index);
      if (i >= args_.positional.size()) Fail("Replacement index {} out of range for positional args tuple", i);
      value = args_.positional[i];
    } else {
      const auto it = std::find_if(args_.keywords.begin(), args_.keywords.end(),
                                   [&](const auto& keyword) { return keyword.first == first; });
      if (it == args_.keywords.end()) Fail("str.format() has no argument '{}'", first);
      value = it->second;
    }
    while (end < name.size()) {
      const bool is_attribute = name[end] == '.';
      const size_t stop = is_attribute ? std::min(name.find_first_of(".[", end + 1), name.size()) : name.find(']', end);
      if (stop == std::string_view::npos) Fail("Missing ']' in format string");
      const std::string_view part = name.substr(end + 1, stop - end - 1);
      size_t digits = 0;
      const int64_t index = is_attribute ? -1 : ReadNumber(part, &digits);
      value = is_attribute
                  ? evaluator_.GetAttribute(value, part)
                  : GetItem(evaluator_.heap(), value,
                            index >= 0 && digits == part.size() ? Value::Int(index) : evaluator_.heap().String(part));
      end = is_attribute ? stop : stop + 1;
    }
    return value;
  }

  // [[fill]align][sign][#][0][width][,][.precision][type]
  void ApplySpec(const Value& value, std::string_view spec) {
    NumberSpec number;
    std::string fill = " ";
    char align = '\0';
    size_t pos = 0;
    const auto is_align = [&](size_t at) {
      return at < spec.size() && std::string_view("<>=^").find(spec[at]) != std::string_view::npos;
    };
    if (!spec.empty()) {
      size_t after_first = 0;
      DecodeChar(spec, &after_first);
      if (is_align(after_first)) {
        fill = spec.substr(0, after_first);
        align = spec[after_first];
        pos = after_first + 1;
      } else if (is_align(0)) {
        align = spec[0];
        pos = 1;
      }
    }
    const auto take = [&](std::string_view chars) {
      return pos < spec.size() && chars.find(spec[pos]) != std::string_view::npos ? spec[pos++] : '\0';
    };
    if (const char sign = take("+- ")) number.sign = sign;
    number.alternate = take("#") != '\0';
    if (take("0") && !align) {
      align = value.is_number() ? '=' : '<';
      fill = "0";
    }
    const int64_t width = ReadNumber(spec, &pos);
    number.group = take(",") != '\0';
    if (take(".")) number.precision = static_cast<int>(ReadNumber(spec, &pos));
    const char type = take("sdxXobeEfFgG%");
    if (pos < spec.size()) Fail("Invalid format specifier '{}'", spec);
    const bool as_number = value.is_number() && type != 's' && (value.type() != Type::kBool || type != '\0');
    MarkedText text;
    if (!as_number) {
      if (type != '\0' && type != 's') Fail("Unknown format code '{}' for object of type '{}'", type, TypeName(value));
      text = FirstChars(ToText(evaluator_.heap(), value), number.precision);
    } else if (type == '\0' && value.type() == Type::kFloat && number.precision < 0) {
      text.Append(number.sign != '-' && !std::signbit(value.number()) ? number.sign + FormatFloat(value.number())
                                                                      : FormatFloat(value.number()),
                  false);
    } else {
      number.type = type != '\0' ? type : value.is_integral() ? 'd' : 'g';
      const bool needs_int = std::string_view("dxXob").find(number.type) != std::string_view::npos;
      if (needs_int && !value.is_integral()) Fail("Unknown format code '{}' for object of type 'float'", number.type);
      if (needs_int) number.precision = -1;
      text.Append(FormatNumber(value, number), false);
    }
    AppendPadded(&out_, text, {width, align ? align : as_number ? '>' : '<', fill, format_.AnyInput()});
  }

  Evaluator& evaluator_;
  const MarkedText& format_;
  const Args& args_;
  int64_t n_auto_ = 0;
  MarkedText out_;
};

}  // namespace

MarkedText FormatPercent(Heap& heap, const MarkedText& format, const Value& arguments) {
  heap.SpendBytes(format.size());
  return PercentFormatter(heap, format, arguments).Run();
}

MarkedText FormatBraces(Evaluator& evaluator, const MarkedText& format, const Args& args) {
  evaluator.heap().SpendBytes(format.size());
  return BraceFormatter(evaluator, format, args).Run();
}

}  // namespace pantry::jinja
