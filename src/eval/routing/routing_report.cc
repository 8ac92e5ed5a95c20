// SPDX-License-Identifier: Apache-2.0
#include "eval/routing/routing_report.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>
#include <set>

namespace pantry {
namespace {

std::string Quoted(std::string_view text) {
  if (text.find_first_of(",\"\n\r") == std::string_view::npos) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + '"';
}

std::string Number(double value) { return std::isfinite(value) ? fmt::format("{}", value) : std::string(); }
std::string Percent(double value) { return std::isfinite(value) ? fmt::format("{:.2f}%", 100 * value) : "-"; }

}  // namespace

std::string RoutingCsv(const RoutingSweep& sweep, const RoutingReportHead& head) {
  std::string csv =
      "version,model,text,ctx_size,windows,tokens,policy,value,cache_share,cache_experts,miss_rate,lifetime_tokens,ppl,"
      "ppl_stderr,ppl_cost,ppl_cost_stderr,agreement,gate_mass,excess_kl\n";
  const std::string of_all = fmt::format("{},{},{},{},{},{}", Quoted(head.version), Quoted(head.model),
                                         Quoted(head.text), sweep.n_ctx, sweep.n_windows, sweep.n_tokens);
  for (const RoutingRow& row : sweep.rows) {
    csv += fmt::format("{},{},{}", of_all, row.policy, Number(row.value));
    csv += fmt::format(",{},{}", Number(row.cache_share), row.capacity);
    for (const double number : {row.miss_rate, row.lifetime, row.ppl, row.ppl_stderr, row.cost, row.cost_stderr,
                                row.agreement, row.gate_mass, row.excess_kl}) {
      csv += ',' + Number(number);
    }
    csv += '\n';
  }
  return csv;
}

std::string RoutingTable(const RoutingSweep& sweep) {
  std::string table = fmt::format("{:<18} {:>6} {:>8} {:>9} {:>9} {:>9} {:>8} {:>9} {:>9} {:>9}\n", "policy", "cache",
                                  "misses", "lifetime", "perplex.", "cost", "±", "agreement", "gate mass", "excess KL");
  for (const RoutingRow& row : sweep.rows) {
    const bool has_value = row.policy != "exact" && row.policy != "belady";
    const std::string name = has_value ? fmt::format("{}:{}", row.policy, row.value) : row.policy;
    const std::string ppl = std::isfinite(row.ppl) ? fmt::format("{:.4f}", row.ppl) : "-";
    const std::string lifetime = std::isfinite(row.lifetime) ? fmt::format("{:.1f}", row.lifetime) : "-";
    const std::string excess_kl = std::isfinite(row.excess_kl) ? fmt::format("{:.5f}", row.excess_kl) : "-";
    table += fmt::format("{:<18} {:>5.0f}% {:>8} {:>9} {:>9} {:>9} {:>8} {:>9} {:>9} {:>9}\n", name,
                         100 * row.cache_share, Percent(row.miss_rate), lifetime, ppl, Percent(row.cost),
                         Percent(row.cost_stderr), Percent(row.agreement), Percent(row.gate_mass), excess_kl);
  }
  return table;
}

std::string CostFitText(const RoutingSweep& sweep) {
  std::set<std::string> policies;
  for (const RoutingRow& row : sweep.rows) {
    if (row.gate_mass < 1 && FitCost({row}).n_rows > 0) policies.insert(row.policy);
  }
  std::string text;
  for (const std::string& policy : policies) {
    const CostFit fit = FitCost(sweep.rows, policy);
    text += fmt::format("{}: cost = {:.3f} x gate mass lost (R² {:.3f}, largest error {}, {} rows)\n", policy,
                        fit.slope, fit.r_squared, Percent(fit.largest_error), fit.n_rows);
  }
  return text;
}

}  // namespace pantry
