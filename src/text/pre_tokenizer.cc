// SPDX-License-Identifier: Apache-2.0
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "text/pre_tokenizer.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "text/unicode.h"
#include "weights/gguf/gguf_cursor.h"

namespace pantry {
namespace {

#include "text/pre_tokenizer.inc"

template <auto free>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    free(object);
  }
};
using Code = std::unique_ptr<pcre2_code, Free<pcre2_code_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Free<pcre2_jit_stack_free>>;

constexpr size_t kJitStackBytes = size_t{64} << 20;  // address space; pages are touched only by deep patterns
constexpr uint32_t kMatchLimit = 100'000'000;        // steps; no rule set needs more than a few per byte

// PCRE2's \s differs from Unicode White_Space (it takes in U+180E), which is what the published expressions mean.
std::string ExpandWhitespace(std::string_view pattern) {
  std::string out;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '\\' || i + 1 == pattern.size()) {
      out += pattern[i];
      continue;
    }
    const char escaped = pattern[++i];
    if (escaped == 's') {
      out += "\\p{White_Space}";
    } else if (escaped == 'S') {
      out += "\\P{White_Space}";
    } else {
      out += '\\';
      out += escaped;
    }
  }
  return out;
}

// The position `n_characters` of valid UTF-8 after `pos`.
size_t SkipCharacters(std::string_view text, size_t pos, size_t n_characters) {
  for (; n_characters > 0; --n_characters) pos += CutUtf8Character(text.substr(pos)).n_bytes;
  return pos;
}

size_t CountCharacters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

}  // namespace

struct PreTokenizer::Step {
  Code code;
  bool cuts_threes = false;
};

// What one call of Split() needs to run PCRE2.
struct PreTokenizer::Matcher {
  MatchData data{pcre2_match_data_create(1, nullptr)};
  MatchContext context{pcre2_match_context_create(nullptr)};
  JitStack stack;

  struct Range {
    size_t begin = 0;
    size_t end = 0;
  };

  Matcher() {
    PANTRY_CHECK(data && context);
    pcre2_set_match_limit(context.get(), kMatchLimit);
  }

  // The first match in `text` at or after `from`. False when there is none, or PCRE2 gave up.
  bool Find(const pcre2_code* code, std::string_view text, size_t from, Range& match) {
    const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    int rc = pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, data.get(), context.get());
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !stack) {
      stack.reset(pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr));
      if (stack) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
      rc = pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, data.get(), context.get());
    }
    if (rc < 0) return false;
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data.get());
    match = {offsets[0], offsets[1]};
    return match.end > match.begin;  // no rule matches nothing
  }

  // Appends the ends of the words that `step` cuts `word` into; they are offsets of the text in which `word` begins at `base`.
  void Cut(const Step& step, std::string_view word, size_t base, std::vector<size_t>& ends) {
    size_t done = 0;
    const auto cut = [&](size_t end) {
      if (end > done) ends.push_back(base + end);
      done = std::max(done, end);
    };
    Range match;
    for (size_t from = 0; from < word.size() && Find(step.code.get(), word, from, match); from = match.end) {
      if (step.cuts_threes) {
        const size_t n_odd = CountCharacters(word.substr(match.begin, match.end - match.begin)) % 3;
        for (size_t at = SkipCharacters(word, match.begin, n_odd); at < match.end; at = SkipCharacters(word, at, 3))
          cut(at);
      } else {
        cut(match.begin);
        cut(match.end);
      }
    }
    cut(word.size());
  }
};

PreTokenizer::PreTokenizer() = default;
PreTokenizer::~PreTokenizer() = default;

std::vector<std::string_view> PreTokenizer::Names() {
  std::vector<std::string_view> names;
  for (const RuleSet& rules : kRuleSets) names.push_back(rules.name);
  return names;
}

Result<std::unique_ptr<PreTokenizer>> PreTokenizer::Create(std::string_view name, Logger& log) {
  const auto find = [](std::string_view wanted) {
    return std::find_if(std::begin(kRuleSets), std::end(kRuleSets),
                        [&](const RuleSet& rules) { return rules.name == wanted; });
  };
  const RuleSet* rules = find(name.empty() ? "default" : name);
  if (name.empty()) {
    log.Warning(
        "tokenizer: the file names no pre-tokenizer (tokenizer.ggml.pre); using 'default', answers may be worse");
  } else if (rules == std::end(kRuleSets)) {
    rules = find("gpt-2");
    log.Warning("tokenizer: unknown pre-tokenizer '{}' (tokenizer.ggml.pre); using 'gpt-2', answers may be worse",
                Printable(name, 100));
  }

  std::unique_ptr<PreTokenizer> made(new PreTokenizer());
  made->name_ = rules->name;
  made->ignores_merges_ = rules->ignores_merges;
  made->adds_bos_ = rules->adds_bos;
  for (const PatternRow& row : rules->patterns) {
    const std::string pattern = ExpandWhitespace(row.pattern);
    int error = 0;
    PCRE2_SIZE offset = 0;
    Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP, &error,
                            &offset, nullptr));
    if (!code) {
      std::array<PCRE2_UCHAR, 128> message{};
      pcre2_get_error_message(error, message.data(), message.size());
      return InternalError("pre-tokenizer '{}': {} at offset {} of {}", rules->name,
                           reinterpret_cast<const char*>(message.data()), offset, pattern);
    }
    pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // where there is no JIT the interpreter does the same, slower
    made->steps_.push_back({std::move(code), row.cuts_threes});
  }
  return made;
}

void PreTokenizer::Split(std::string_view text, std::vector<size_t>& ends) const {
  ends.clear();
  Matcher matcher;
  std::vector<size_t> words;  // of one valid stretch, before and after a step
  std::vector<size_t> cut;
  for (size_t base = 0; base < text.size();) {
    const size_t n_valid = ValidUtf8Prefix(text.substr(base));
    const size_t end = base + n_valid;
    if (n_valid == 0) {
      ends.push_back(++base);  // a byte that is no text is a word of its own
      continue;
    }
    words.assign(1, end);
    for (const Step& step : steps_) {
      cut.clear();
      size_t begin = base;
      for (const size_t word_end : words) {
        matcher.Cut(step, text.substr(begin, word_end - begin), begin, cut);
        begin = word_end;
      }
      words.swap(cut);
    }
    ends.insert(ends.end(), words.begin(), words.end());
    base = end;
  }
}

}  // namespace pantry
