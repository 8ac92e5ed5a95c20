// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <utility>

#include "eval/html_page.h"
#include "eval/routing/routing_report.h"
#include "eval/routing/svg_plot.h"

namespace pantry {
namespace {

// Colours that stay apart for eyes that mix up red and green (Okabe and Ito; the olive is Tol's, since their yellow is too faint for lines).
constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kColors = {{{"cache-prior", "#0072B2"},
                                                                                   {"max-rank", "#E69F00"},
                                                                                   {"cumulative", "#009E73"},
                                                                                   {"margin", "#999933"},
                                                                                   {"factor", "#56B4E9"},
                                                                                   {"drop", "#CC79A7"},
                                                                                   {"prune", "#D55E00"},
                                                                                   {"exact", "#888888"}}};
// Dearer points would press the rest together; they are in the table.
constexpr double kMostCostShown = 0.05;

constexpr std::string_view kStyle = R"(
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(480px, 100%), 1fr)); gap: 1.5rem; }
svg text { font-size: 12px; } svg .title { font-size: 14px; }
svg .grid { stroke: var(--faint); stroke-width: .5; } svg .mark { stroke: var(--ink); stroke-dasharray: 4 3; } svg .note { font-size: 11px; }
td, th { padding: .15rem .7rem; } td:first-child, th:first-child { text-align: left; }
)";

// What a choice costs. Without a model, by what it gives up.
bool IsScored(const RoutingSweep& sweep) { return !sweep.rows.empty() && std::isfinite(sweep.rows.front().cost); }
double CostOf(const RoutingRow& row) { return std::isfinite(row.cost) ? row.cost : 1 - row.gate_mass; }
std::string CostLabel(const RoutingSweep& sweep) { return IsScored(sweep) ? "rise of perplexity" : "gate mass lost"; }

std::string LabelOf(const RoutingRow& row) {
  std::string what = fmt::format("{}:{} · cache {:.0f} % · misses {:.2f} %", row.policy, row.value,
                                 100 * row.cache_share, 100 * row.miss_rate);
  if (!std::isfinite(row.ppl)) return what;
  return what + fmt::format(" · perplexity {:.4f} ({:+.2f} %)", row.ppl, 100 * row.cost);
}

// A line for each policy through the exact row, from which they all start.
std::vector<PlotSeries> PolicyLines(const RoutingSweep& sweep, int32_t capacity, double RoutingRow::* x) {
  std::vector<PlotSeries> lines;
  const auto exact = std::ranges::find_if(
      sweep.rows, [=](const RoutingRow& row) { return row.policy == "exact" && row.capacity == capacity; });
  for (const auto& [policy, color] : kColors) {
    PlotSeries line = {.name = std::string(policy), .color = std::string(color), .points = {}};
    if (policy != "exact" && exact != sweep.rows.end()) {
      line.points.push_back({.x = (*exact).*x, .y = CostOf(*exact), .label = LabelOf(*exact)});
    }
    for (const RoutingRow& row : sweep.rows) {
      if (row.policy != policy || row.capacity != capacity || CostOf(row) > kMostCostShown) continue;
      line.points.push_back({.x = row.*x, .y = CostOf(row), .label = LabelOf(row)});
    }
    if (line.points.size() > 1 || policy == "exact") lines.push_back(std::move(line));
  }
  return lines;
}

std::string ParetoCharts(const RoutingSweep& sweep, const RoutingRow& exact) {
  SvgPlot misses = {.title = fmt::format("Cache of {} of {} experts a layer", exact.capacity, sweep.layers.n_experts),
                    .x_label = "miss rate",
                    .y_label = CostLabel(sweep),
                    .x_is_share = true,
                    .y_is_share = true,
                    .series = PolicyLines(sweep, exact.capacity, &RoutingRow::miss_rate),
                    .marks = {{.name = "LRU", .x = exact.miss_rate}}};
  for (const RoutingRow& row : sweep.rows) {
    if (row.policy == "belady" && row.capacity == exact.capacity) {
      misses.marks.push_back({.name = "Belady", .x = row.miss_rate});
    }
  }
  SvgPlot lifetimes = {.title = "How long an expert stays",
                       .x_label = "tokens in the cache, mean",
                       .y_label = CostLabel(sweep),
                       .y_is_share = true,
                       .series = PolicyLines(sweep, exact.capacity, &RoutingRow::lifetime),
                       .marks = {{.name = "LRU", .x = exact.lifetime}}};
  return misses.Render() + lifetimes.Render();
}

std::string RankChart(const RoutingSweep& sweep, int32_t capacity) {
  SvgPlot plot = {.title = "How much each rank matters",
                  .x_label = "rank of the expert that is replaced or left out",
                  .y_label = CostLabel(sweep),
                  .y_is_share = true,
                  .series = {},
                  .marks = {}};
  for (const auto& [policy, color] : {std::pair("replace", "#0072B2"), std::pair("leave-out", "#E69F00")}) {
    PlotSeries line = {.name = policy, .color = color, .points = {}};
    for (const RoutingRow& row : sweep.rows) {
      if (row.policy == policy && row.capacity == capacity) {
        line.points.push_back({.x = row.value, .y = CostOf(row), .label = LabelOf(row)});
      }
    }
    if (!line.points.empty()) plot.series.push_back(std::move(line));
  }
  return plot.series.empty() ? "" : plot.Render();
}

std::string MassChart(const RoutingSweep& sweep) {
  SvgPlot plot = {.title = "What gate mass costs",
                  .x_label = "gate mass lost",
                  .y_label = CostLabel(sweep),
                  .x_is_share = true,
                  .y_is_share = true,
                  .series = {},
                  .marks = {}};
  for (const auto& [policy, color] : kColors) {
    PlotSeries dots = {.name = std::string(policy), .color = std::string(color), .points = {}, .is_joined = false};
    for (const RoutingRow& row : sweep.rows) {
      if (row.policy != policy || CostOf(row) > kMostCostShown) continue;
      dots.points.push_back({.x = 1 - row.gate_mass, .y = CostOf(row), .label = LabelOf(row)});
    }
    if (!dots.points.empty()) plot.series.push_back(std::move(dots));
  }
  return plot.Render();
}

std::string TableOf(const RoutingSweep& sweep) {
  std::string html =
      "<div class=\"wide\"><table><tr><th>policy</th><th>value</th><th>cache</th><th>misses</th><th>lifetime</th>"
      "<th>perplexity</th><th>rise</th><th>±</th><th>agreement</th><th>gate mass</th>"
      "<th>excess KL</th></tr>\n";
  const auto number = [](double x, int n_digits, std::string_view unit) {
    return std::isfinite(x) ? fmt::format("{:.{}f}{}", x, n_digits, unit) : std::string("–");
  };
  const auto percent = [&number](double share) { return number(100 * share, 2, "%"); };
  for (const RoutingRow& row : sweep.rows) {
    fmt::format_to(
        std::back_inserter(html),
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>"
        "<td>{}</td><td>{}</td></tr>\n",
        HtmlText(row.policy), row.value, row.capacity, percent(row.miss_rate), number(row.lifetime, 1, ""),
        number(row.ppl, 4, ""), percent(row.cost), percent(row.cost_stderr), percent(row.agreement),
        percent(row.gate_mass), number(row.excess_kl, 5, ""));
  }
  return html + "</table></div>\n";
}

}  // namespace

std::string RoutingHtml(const RoutingSweep& sweep, const RoutingReportHead& head) {
  const std::string model = HtmlText(head.model);
  std::string html = BeginHtmlPage("Routing of " + model, "Cache-aware routing of " + model, kStyle);
  fmt::format_to(
      std::back_inserter(html),
      "<p>{} of {} windows of {} tokens of {}, {} predictions scored (the second half of each window); {} layers, "
      "{} of {} experts a token. One LRU cache a layer, empty when a window begins; misses are judged before the "
      "token. pantry {}.</p>\n<div class=\"charts\">\n",
      sweep.n_windows, sweep.n_windows_planned, sweep.n_ctx, HtmlText(head.text), sweep.n_tokens, sweep.layers.n_layers,
      sweep.layers.n_used, sweep.layers.n_experts, HtmlText(head.version));
  for (const RoutingRow& row : sweep.rows) {
    if (row.policy == "exact") html += ParetoCharts(sweep, row);
  }
  if (!sweep.rows.empty()) html += RankChart(sweep, sweep.rows.front().capacity);
  if (IsScored(sweep)) html += MassChart(sweep);
  fmt::format_to(std::back_inserter(html),
                 "</div>\n<p>Points that cost more than {:.0f} % are in the table only.</p>\n", 100 * kMostCostShown);
  fmt::format_to(std::back_inserter(html), "<pre>{}</pre>\n", HtmlText(CostFitText(sweep)));
  html += TableOf(sweep);
  html +=
      "<p>Agreement: the share of the router's own picks that ran. Gate mass: the softmax weight of what ran over that "
      "of "
      "the router's own picks. Excess KL: how much farther from the router's softmax the gates are than with exact "
      "routing, in nats.</p>\n";
  return html + "</body></html>\n";
}

}  // namespace pantry
