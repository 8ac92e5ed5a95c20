// SPDX-License-Identifier: Apache-2.0
// Conversations from hostile clients: any bytes may come. What the template did not write itself must be marked as input.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <vector>

#include "text/chat_template.h"

namespace {

// The first: all its text is strings of its own or of the conversation, so what is not input is made of these and the known roles.
constexpr std::string_view kStrict =
    "{% for message in messages %}{{ '<|start|>' + message['role'] + '\n' + message.content.strip() + '<|end|>' + '\n' "
    "}}"
    "{% for k, v in (message.extra or {}) | dictsort %}{{ '<' + k | upper + '>' + v.split('</think>')[-1].lstrip('\n') "
    "+ '<|end|>' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>' }}{% endif %}";
constexpr std::array<std::string_view, 13> kStrictPieces = {"<|start|>", "<|end|>",  "\n",        "<",    ">",
                                                            "system",    "user",     "assistant", "tool", "developer",
                                                            "model",     "function", "ipython"};

constexpr std::array<std::string_view, 3> kTemplates = {
    "{% if tools %}{% for tool in tools %}{{ tool | tojson(indent=2) }}{{ tool.function.parameters | string }}{% "
    "endfor %}{% endif %}{{ messages }}",
    "{% set ns = namespace(last=-1) %}{% for m in messages[::-1] %}{% if m.role == 'user' and ns.last < 0 %}{% set "
    "ns.last = loop.index0 %}{% endif %}"
    "{% endfor %}{% for m in messages if m.role in ['user', 'tool'] %}{{ m.content[:5] }}{{ loop.index }}{{ '%s' | "
    "format(m.content) }}{% endfor %}",
    "{% macro show(x, d=0) %}{% if x is mapping %}{% for k, v in x | items %}{{ k | title }}: {{ show(v, d + 1) | "
    "indent(2) }}{% endfor %}"
    "{% elif x is string %}{{ x | replace('a', 'b') | e }}{% elif x is iterable %}{{ x | map('string') | sort | unique "
    "| join(', ') }}"
    "{% else %}{{ x }}{{ (x | float) / 3 if x is number }}{% endif %}{% endmacro %}{{ show(messages) }}{{ show(tools) "
    "}}{{ show(documents) }}",
};

bool IsMadeOfPieces(std::string_view text) {
  while (!text.empty()) {
    size_t n_matched = 0;
    for (const std::string_view piece : kStrictPieces) {
      if (n_matched == 0 && text.starts_with(piece)) n_matched = piece.size();
    }
    if (n_matched == 0) return false;
    text.remove_prefix(n_matched);
  }
  return true;
}

std::unique_ptr<pantry::ChatTemplate> Parsed(std::string_view source) {
  auto chat_template = pantry::ChatTemplate::Parse(source);
  if (!chat_template.ok()) std::abort();
  return std::move(chat_template).value();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto strict = Parsed(kStrict);
  static const auto others = [] {
    std::vector<std::unique_ptr<pantry::ChatTemplate>> parsed;
    for (const std::string_view source : kTemplates) parsed.push_back(Parsed(source));
    return parsed;
  }();
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const auto prompt = strict->Render(json, {});
  if (prompt.ok()) {
    for (const pantry::PromptPart& part : prompt->parts) {
      if (part.text.empty() || (!part.is_input && !IsMadeOfPieces(part.text))) std::abort();
    }
  } else if (prompt.status().message().empty() || prompt.status().code() == pantry::StatusCode::kInternal) {
    std::abort();
  }
  for (const auto& chat_template : others) {
    const auto other = chat_template->Render(json, {});
    if (!other.ok() && other.status().code() == pantry::StatusCode::kInternal) std::abort();
  }
  return 0;
}
