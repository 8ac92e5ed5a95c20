// SPDX-License-Identifier: Apache-2.0
// What a routing sweep found, as text: a table for people, CSV for tools, a page of charts that needs nothing but itself.
#pragma once

#include <string>
#include <string_view>

#include "eval/routing/routing_sweep.h"

namespace pantry {

struct RoutingReportHead {
  std::string model;    // its name
  std::string text;     // what it read
  std::string version;  // of pantry
};

// A line of names, then one for each row; what is not known is left empty. Numbers have all their digits.
std::string RoutingCsv(const RoutingSweep& sweep, const RoutingReportHead& head);
// Aligned columns.
std::string RoutingTable(const RoutingSweep& sweep);
// How perplexity's cost follows from gate mass, in a sentence for each policy.
std::string CostFitText(const RoutingSweep& sweep);
// A page for a browser: Pareto curves for each cache size, lifetimes, ranks, cost against gate mass, and the table.
std::string RoutingHtml(const RoutingSweep& sweep, const RoutingReportHead& head);

}  // namespace pantry
