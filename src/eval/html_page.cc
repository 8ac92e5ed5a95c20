// SPDX-License-Identifier: Apache-2.0
#include "eval/html_page.h"

#include <fmt/format.h>

namespace pantry {
namespace {

constexpr std::string_view kStyle = R"(
:root { color-scheme: light dark; --ink: #1b1b1b; --faint: #8886; --page: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --page: #16181c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); } svg .title { font-weight: 600; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { text-align: right; border-bottom: 1px solid var(--faint); }
)";

}  // namespace

std::string HtmlText(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&': safe += "&amp;"; break;
      case '<': safe += "&lt;"; break;
      case '>': safe += "&gt;"; break;
      case '"': safe += "&quot;"; break;
      default: safe += c;
    }
  }
  return safe;
}

std::string BeginHtmlPage(std::string_view title, std::string_view heading, std::string_view style) {
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width\"><title>{}</title><style>{}{}</style></head>"
      "<body>\n<h1>{}</h1>\n",
      title, kStyle, style, heading);
}

}  // namespace pantry
