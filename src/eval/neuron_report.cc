// SPDX-License-Identifier: Apache-2.0
#include "eval/neuron_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "eval/html_page.h"

namespace pantry {
namespace {

using Layer = NeuronProfile::Layer;

// Mean over layers.
Layer MeanOf(const NeuronProfile& profile) {
  Layer mean;
  std::array<std::array<double, NeuronProfile::kHeatColumns>, NeuronProfile::kBatches.size()> heat = {};
  const auto n = static_cast<float>(profile.layers.size());
  for (const Layer& layer : profile.layers) {
    for (size_t b = 0; b < heat.size(); ++b) {
      mean.active_share[b] += layer.active_share[b] / n;
      for (size_t i = 0; i < heat[b].size(); ++i) heat[b][i] += static_cast<double>(layer.heat[b][i]) / n;
    }
    mean.up_share += layer.up_share / n;
    mean.refire_share += layer.refire_share / n;
  }
  for (size_t b = 0; b < heat.size(); ++b) {
    for (size_t i = 0; i < heat[b].size(); ++i) mean.heat[b][i] = static_cast<uint8_t>(std::lround(heat[b][i]));
  }
  return mean;
}

// Share of the neurons that fire at `least` of tokens or more.
double ShareAbove(const Layer& layer, double least) {
  const auto n = std::ranges::count_if(layer.frequency, [=](uint16_t f) { return f >= least * 65535; });
  return static_cast<double>(n) / static_cast<double>(std::max<size_t>(layer.frequency.size(), 1));
}

std::string Percent(double share) { return fmt::format("{:.1f}", 100 * share); }

// The cells of a table's line, as `ProfileTable` and the page have them.
constexpr std::array<std::string_view, 13> kColumns = {"layer", "b=1",  "2",      "4",     "8",     "16",   "32",
                                                       "hot",   "dead", "up > 0", "again", "t(30)", "t(50)"};
using Cells = std::array<std::string, kColumns.size()>;
Cells CellsOf(std::string name, const Layer& layer, bool has_experts) {
  Cells cells = {std::move(name), Percent(layer.active_share[0])};
  const bool is_one_layer = !layer.frequency.empty();
  cells[7] = is_one_layer ? Percent(ShareAbove(layer, 0.5)) : "";
  cells[8] = is_one_layer ? Percent(1 - ShareAbove(layer, 0.5 / 65535)) : "";
  if (has_experts) return cells;  // whose gates of single tokens are all that was counted
  for (size_t b = 1; b < NeuronProfile::kBatches.size(); ++b) cells[1 + b] = Percent(layer.active_share[b]);
  cells[9] = Percent(layer.up_share);
  cells[10] = Percent(layer.refire_share);
  cells[11] = is_one_layer ? fmt::format("{:.4f}", layer.ThresholdFor(0.3)) : "";
  cells[12] = is_one_layer ? fmt::format("{:.4f}", layer.ThresholdFor(0.5)) : "";
  return cells;
}

// Of each layer, and of all.
std::vector<Cells> LinesOf(const NeuronProfile& profile) {
  const bool has_experts = profile.n_experts > 0;
  std::vector<Cells> lines;
  for (const Layer& layer : profile.layers) lines.push_back(CellsOf(std::to_string(lines.size()), layer, has_experts));
  lines.push_back(CellsOf("all", MeanOf(profile), has_experts));
  return lines;
}

constexpr std::string_view kLegendOfExperts =
    "b=1: % of a chosen expert's neurons that fire for a token; hot: of all neurons, those that fire at half of the "
    "tokens or more; dead: never.\n";
constexpr std::string_view kLegend =
    "b=1 .. 32: % of the neurons that fire in a batch of so many tokens; hot: fire at half of the tokens or more; "
    "dead: never;\nup > 0: of those that fire, how many have a positive up; again: fire at the next token, too; t(30): "
    "30 % "
    "of |act(gate)| are smaller.\n";

std::string_view LegendOf(const NeuronProfile& profile) { return profile.n_experts > 0 ? kLegendOfExperts : kLegend; }

constexpr std::string_view kStyle = R"(
.maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr)); gap: 1rem; }
svg text { font-size: 11px; } svg .title { font-size: 13px; }
td, th { padding: .1rem .6rem; }
)";

// From cold to hot; dark to light stays readable without colours, too.
std::string ColorOf(uint8_t heat) {
  struct Stop {
    double at;
    std::array<double, 3> rgb;
  };
  constexpr std::array<Stop, 5> kStops = {
      {{0, {20, 11, 52}}, {0.25, {87, 16, 110}}, {0.5, {188, 55, 84}}, {0.75, {249, 142, 9}}, {1, {252, 255, 164}}}};
  const double at = heat / 255.0;
  size_t i = 1;
  while (i + 1 < kStops.size() && kStops[i].at < at) ++i;
  const double part = (at - kStops[i - 1].at) / (kStops[i].at - kStops[i - 1].at);
  const auto mix = [&](size_t c) { return std::lround((1 - part) * kStops[i - 1].rgb[c] + part * kStops[i].rgb[c]); };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2));
}

// Batch sizes from top to bottom, neurons from the hottest to the coldest from left to right.
std::string HeatMap(std::string_view title, const Layer& layer) {
  constexpr int kCell = 5, kRow = 18, kLeft = 30, kTop = 24;
  const int width = kLeft + kCell * static_cast<int>(NeuronProfile::kHeatColumns) + 8;
  const int height = kTop + kRow * static_cast<int>(layer.heat.size()) + 20;
  std::string svg = fmt::format(
      "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\"><text x=\"{}\" y=\"14\" class=\"title\">{}</text>\n",
      width, height, HtmlText(title), kLeft, HtmlText(title));
  const auto out = std::back_inserter(svg);
  for (size_t b = 0; b < layer.heat.size(); ++b) {
    const int y = kTop + kRow * static_cast<int>(b);
    fmt::format_to(out, "<g><title>batch of {}: {} % of the neurons active</title>", NeuronProfile::kBatches[b],
                   Percent(layer.active_share[b]));
    fmt::format_to(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>", kLeft - 5, y + 13,
                   NeuronProfile::kBatches[b]);
    for (size_t i = 0; i < layer.heat[b].size();) {  // neighbours of one colour are one rectangle
      size_t end = i + 1;
      while (end < layer.heat[b].size() && layer.heat[b][end] == layer.heat[b][i]) ++end;
      fmt::format_to(out, "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>",
                     kLeft + kCell * static_cast<int>(i), y, kCell * static_cast<int>(end - i), kRow - 1,
                     ColorOf(layer.heat[b][i]));
      i = end;
    }
    svg += "</g>\n";
  }
  fmt::format_to(out, "<text x=\"{}\" y=\"{}\">neurons, hottest first</text></svg>\n", kLeft, height - 6);
  return svg;
}

std::string PageTable(const NeuronProfile& profile) {
  std::string html = "<div class=\"wide\"><table><tr>";
  for (const std::string_view column : kColumns) html += fmt::format("<th>{}</th>", HtmlText(column));
  html += "</tr>\n";
  const auto add = [&html](const auto& cells) {
    html += "<tr>";
    for (const std::string& cell : cells) html += fmt::format("<td>{}</td>", cell);
    html += "</tr>\n";
  };
  for (const Cells& cells : LinesOf(profile)) add(cells);
  return html + "</table></div>\n";
}

std::string LayersText(const NeuronProfile& profile) {
  if (profile.n_experts == 0) return fmt::format("{} layers of {} neurons", profile.layers.size(), profile.n_neurons);
  return fmt::format("{} layers of {} experts of {} neurons", profile.layers.size(), profile.n_experts,
                     profile.n_neurons);
}

}  // namespace

std::string FiringMeans(const NeuronProfile& profile) {
  if (profile.activation != GluActivation::kSilu) return "a neuron fires where its gate is positive";
  return fmt::format("a neuron fires where |silu(gate)| is above its layer's threshold, which {:.0f} % are below",
                     100 * profile.sparsity);
}

std::string ProfileTable(const NeuronProfile& profile) {
  std::string table;
  const auto add = [&table](const auto& cells) {
    for (size_t i = 0; i < cells.size(); ++i)
      table += fmt::format("{}{:>{}}", i == 0 ? "" : " ", cells[i], i < 9 ? 5 : 7);
    table += '\n';
  };
  add(kColumns);
  for (const Cells& cells : LinesOf(profile)) add(cells);
  return table + std::string(LegendOf(profile));
}

std::string ProfileJson(const NeuronProfile& profile) {
  using Json = nlohmann::ordered_json;
  Json json = {{"model", profile.model},       {"tokens", profile.n_tokens},   {"sparsity", profile.sparsity},
               {"neurons", profile.n_neurons}, {"experts", profile.n_experts}, {"batches", NeuronProfile::kBatches},
               {"layers", Json::array()}};
  for (const Layer& layer : profile.layers) {
    json["layers"].push_back({{"active_share", layer.active_share},
                              {"hot_share", ShareAbove(layer, 0.5)},
                              {"dead_share", 1 - ShareAbove(layer, 0.5 / 65535)},
                              {"up_share", layer.up_share},
                              {"refire_share", layer.refire_share},
                              {"thresholds", layer.thresholds}});
    if (profile.n_experts > 0) json["layers"].back()["use"] = layer.use;
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string ProfileHtml(const NeuronProfile& profile, std::string_view text, std::string_view version) {
  const std::string model = HtmlText(profile.model);
  std::string html = BeginHtmlPage("Neurons of " + model, "Which neurons of " + model + " fire", kStyle);
  fmt::format_to(std::back_inserter(html), "<p>{} tokens of {}; {}; {}.{} pantry {}.</p>\n", profile.n_tokens,
                 HtmlText(text), LayersText(profile), FiringMeans(profile),
                 profile.n_experts > 0 ? ""
                                       : " A row is a batch size, a column as many neurons as any other; light: active "
                                         "in every batch, dark: in none.",
                 HtmlText(version));
  if (profile.n_experts == 0) {
    html += "<div class=\"maps\">\n" + HeatMap("all layers", MeanOf(profile));
    for (size_t i = 0; i < profile.layers.size(); ++i) html += HeatMap(fmt::format("layer {}", i), profile.layers[i]);
    html += "</div>\n";
  }
  return html + fmt::format("<p>{}</p>\n", HtmlText(LegendOf(profile))) + PageTable(profile) + "</body></html>\n";
}

}  // namespace pantry
