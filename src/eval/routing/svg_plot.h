// SPDX-License-Identifier: Apache-2.0
// An SvgPlot is a chart of lines and points as SVG text, to be put into a page: no script, no style sheet of its own, nothing fetched.
//
// Axes begin and end where the points do, a little beyond. Every point says in a tooltip what it is.
#pragma once

#include <string>
#include <vector>

namespace pantry {

struct PlotPoint {
  double x = 0;
  double y = 0;
  std::string label;
};

struct PlotSeries {
  std::string name;
  std::string color;
  std::vector<PlotPoint> points;  // joined in this order; those that are not finite are left out
  bool is_joined = true;
};

// A dashed vertical line.
struct PlotMark {
  std::string name;
  double x = 0;
};

struct SvgPlot {
  std::string title;
  std::string x_label;
  std::string y_label;
  bool x_is_share = false;  // written as a percentage
  bool y_is_share = false;
  std::vector<PlotSeries> series;
  std::vector<PlotMark> marks;

  std::string Render() const;
};

}  // namespace pantry
