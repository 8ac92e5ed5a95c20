// SPDX-License-Identifier: Apache-2.0
#include "eval/routing/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "eval/html_page.h"

namespace pantry {
namespace {

constexpr double kWidth = 560, kHeight = 360;
constexpr double kLeft = 64, kRight = 16, kTop = 64, kBottom = 48;

// One axis: from numbers to places.
class Axis {
 public:
  Axis(double begin, double end) : begin_(begin), end_(end) {}
  void Include(double value) {
    if (!std::isfinite(value)) return;
    least_ = is_empty_ ? value : std::min(least_, value);
    most_ = is_empty_ ? value : std::max(most_, value);
    is_empty_ = false;
  }
  // To be called when all is included.
  void Round() {
    if (is_empty_) most_ = 1;
    if (most_ - least_ < 1e-9 * std::max(1.0, std::abs(most_))) {
      least_ -= 0.5;
      most_ += 0.5;
    }
    const double rough = (most_ - least_) / 5, power = std::pow(10, std::floor(std::log10(rough)));
    const double digit = rough / power;
    step_ = power * (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10);
    const double margin = 0.03 * (most_ - least_);
    least_ -= margin;
    most_ += margin;
  }
  double Place(double value) const { return begin_ + (value - least_) / (most_ - least_) * (end_ - begin_); }
  std::vector<double> Ticks() const {
    std::vector<double> ticks;
    for (double i = std::ceil(least_ / step_); i * step_ <= most_; ++i) ticks.push_back(i * step_);
    return ticks;
  }
  std::string Text(double value, bool is_share) const {
    const double shown = is_share ? value * 100 : value, step = is_share ? step_ * 100 : step_;
    const int n_digits = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
    return fmt::format("{:.{}f}{}", shown + 0.0, n_digits, is_share ? "%" : "");
  }

 private:
  double begin_, end_;
  double least_ = 0, most_ = 0, step_ = 1;
  bool is_empty_ = true;
};

bool IsDrawn(const PlotPoint& point) { return std::isfinite(point.x) && std::isfinite(point.y); }

void DrawSeries(const PlotSeries& series, const Axis& x, const Axis& y, std::string& svg) {
  const auto out = std::back_inserter(svg);
  std::string path;
  for (const PlotPoint& point : series.points) {
    if (IsDrawn(point)) path += fmt::format("{:.1f},{:.1f} ", x.Place(point.x), y.Place(point.y));
  }
  if (series.is_joined) {
    fmt::format_to(out, "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\"/>\n", path,
                   series.color);
  }
  for (const PlotPoint& point : series.points) {
    if (!IsDrawn(point)) continue;
    fmt::format_to(out, "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.4\" fill=\"{}\"><title>{}</title></circle>\n",
                   x.Place(point.x), y.Place(point.y), series.color, HtmlText(point.label));
  }
}

void DrawAxes(const SvgPlot& plot, const Axis& x, const Axis& y, std::string& svg) {
  const auto out = std::back_inserter(svg);
  constexpr double kFloor = kHeight - kBottom, kEnd = kWidth - kRight;
  for (const double tick : x.Ticks()) {
    fmt::format_to(out, "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" class=\"grid\"/>", x.Place(tick),
                   kTop, kFloor);
    fmt::format_to(out, "<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", x.Place(tick), kFloor + 16,
                   x.Text(tick, plot.x_is_share));
  }
  for (const double tick : y.Ticks()) {
    fmt::format_to(out, "<line y1=\"{0:.1f}\" y2=\"{0:.1f}\" x1=\"{1}\" x2=\"{2}\" class=\"grid\"/>", y.Place(tick),
                   kLeft, kEnd);
    fmt::format_to(out, "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", kLeft - 6, y.Place(tick) + 4,
                   y.Text(tick, plot.y_is_share));
  }
  fmt::format_to(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", (kLeft + kEnd) / 2, kHeight - 10,
                 HtmlText(plot.x_label));
  fmt::format_to(out, "<text transform=\"translate(14 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                 (kTop + kFloor) / 2, HtmlText(plot.y_label));
}

// Names beside dots of their colours, in two rows at most.
void DrawLegend(const SvgPlot& plot, std::string& svg) {
  const size_t n_columns = std::max<size_t>(4, (plot.series.size() + 1) / 2);
  for (size_t i = 0; i < plot.series.size(); ++i) {
    const double left =
        kLeft + static_cast<double>(i % n_columns) * (kWidth - kLeft - kRight) / static_cast<double>(n_columns);
    const size_t line = i / n_columns;
    const double at = 34 + 16 * static_cast<double>(line);
    fmt::format_to(std::back_inserter(svg),
                   "<circle cx=\"{:.1f}\" cy=\"{}\" r=\"4\" fill=\"{}\"/><text x=\"{:.1f}\" y=\"{}\">{}</text>\n",
                   left + 4, at, plot.series[i].color, left + 12, at + 4, HtmlText(plot.series[i].name));
  }
}

}  // namespace

std::string SvgPlot::Render() const {
  Axis x(kLeft, kWidth - kRight), y(kHeight - kBottom, kTop);
  for (const PlotSeries& one : series) {
    for (const PlotPoint& point : one.points) {
      if (!IsDrawn(point)) continue;
      x.Include(point.x);
      y.Include(point.y);
    }
  }
  for (const PlotMark& mark : marks) x.Include(mark.x);
  x.Round();
  y.Round();
  std::string svg =
      fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n", kWidth, kHeight, HtmlText(title));
  fmt::format_to(std::back_inserter(svg), "<text x=\"{}\" y=\"16\" class=\"title\">{}</text>\n", kLeft,
                 HtmlText(title));
  DrawAxes(*this, x, y, svg);
  for (const PlotMark& mark : marks) {
    if (!std::isfinite(mark.x)) continue;
    fmt::format_to(std::back_inserter(svg),
                   "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" class=\"mark\"/>"
                   "<text x=\"{3:.1f}\" y=\"{4}\" class=\"note\">{5}</text>\n",
                   x.Place(mark.x), kTop, kHeight - kBottom, x.Place(mark.x) + 3, kTop + 10, HtmlText(mark.name));
  }
  for (const PlotSeries& one : series) DrawSeries(one, x, y, svg);
  DrawLegend(*this, svg);
  return svg + "</svg>\n";
}

}  // namespace pantry
