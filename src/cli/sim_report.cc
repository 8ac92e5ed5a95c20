// SPDX-License-Identifier: Apache-2.0
#include "cli/sim_report.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/units.h"

namespace pantry {
namespace {

using Json = nlohmann::ordered_json;

double Ratio(double a, double b) { return b > 0 ? a / b : 0; }
double Of(int64_t n) { return static_cast<double>(n); }

std::string Row(std::string_view name, const std::string& text) { return fmt::format("{:<12}{}\n", name, text); }

bool IsStreamed(const SimRunReport& run) { return run.options.cache_bytes > 0; }
double PerToken(const SimRunReport& run, double amount) { return Ratio(amount, Of(run.report.n_tokens)); }
double FlashBytesPerS(const SimRunReport& run) {
  return 1e6 * Ratio(Of(run.report.reader.bytes_read), run.report.flash_busy_us);
}

std::string MemoryText(const SimRunReport& run) {
  if (!IsStreamed(run)) return "all weights in memory";
  const double all = run.model.block_bytes();
  return fmt::format("streaming: a cache of {}, {:.0f} % of {} of {}", FormatBytes(run.options.cache_bytes),
                     100 * Ratio(Of(run.options.cache_bytes), all), FormatBytes(static_cast<int64_t>(all)),
                     run.model.is_rotation() ? "layers" : "experts");
}

std::string SpeedText(const SimReport& report) {
  return fmt::format("{:.2f} tok/s over {} tokens; a token takes {:.1f} ms (90 %: {:.1f}, 99 %: {:.1f})",
                     report.tok_per_s(), report.n_decoded, report.RunUs(0.5) / 1e3, report.RunUs(0.9) / 1e3,
                     report.RunUs(0.99) / 1e3);
}

std::string HitsText(const SimRunReport& run) {
  const CacheStats& cache = run.report.cache;
  const auto percent = [&](int64_t n) { return 100 * Ratio(Of(n), Of(cache.n_demanded)); };
  std::string text = fmt::format("{:.1f} % in memory, {:.1f} % on their way, {:.1f} % missing", percent(cache.n_hits),
                                 percent(cache.n_late), percent(cache.n_misses));
  if (cache.n_guesses > 0) {
    text += fmt::format("; {} guesses, {:.0f} % used", cache.n_guesses,
                        100 * Ratio(Of(cache.n_guesses_used), Of(cache.n_guesses)));
  }
  return text;
}

bool HasExpertPolicy(const SimRunReport& run) { return IsStreamed(run) && !run.options.expert_policy.is_exact(); }

std::string ExpertsText(const SimRunReport& run) {
  const ExpertPolicySpec& policy = run.options.expert_policy.policy;
  const RoutingCounts& counts = run.report.routing;
  if (counts.n_choices == 0) return fmt::format("{}: nothing to choose", ExpertPolicyText(policy));
  std::string text = fmt::format("{}: {:.1f} % of the router's picks, {:.1f} % of their weight",
                                 ExpertPolicyText(policy), 100 * counts.agreement(), 100 * counts.gate_mass());
  if (policy.kind == ExpertPolicyKind::kAuto) text += fmt::format("; strength {:.2f} at the end", run.report.strength);
  return text;
}

// The sums as in a line of --stats (run_stats.h), the shares as eval has them.
Json ExpertsJson(const SimRunReport& run) {
  const RoutingCounts& counts = run.report.routing;
  return {{"policy", ExpertPolicyText(run.options.expert_policy.policy)},
          {"strength", run.report.strength},
          {"picks", counts.n_picks},
          {"agreed", counts.n_agreed},
          {"choices", counts.n_choices},
          {"weight_kept", counts.share_kept},
          {"agreement", counts.agreement()},
          {"gate_mass", counts.gate_mass()},
          {"excess_kl", counts.mean_excess_kl()}};
}

std::string DiskText(const SimRunReport& run) {
  const SimReport& report = run.report;
  return fmt::format("{} a token in {:.0f} transfers; busy {:.0f} % of the time, {:.2f} GB/s then",
                     FormatBytes(static_cast<int64_t>(PerToken(run, Of(report.reader.bytes_read)))),
                     PerToken(run, Of(report.reader.n_transfers)), 100 * Ratio(report.flash_busy_us, report.wall_us),
                     FlashBytesPerS(run) / 1e9);
}

std::string TimeText(const SimReport& report) {
  std::vector<std::pair<double, TimeUse>> uses;
  for (size_t i = 0; i < kTimeUses; ++i) uses.emplace_back(report.time_us[i], static_cast<TimeUse>(i));
  std::sort(uses.begin(), uses.end(),
            [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });
  std::vector<std::string> parts;
  for (const auto& [us, use] : uses) {
    if (us > 0) parts.push_back(fmt::format("{:.1f} % {}", 100 * Ratio(us, report.wall_us), TimeUseName(use)));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

int32_t Cores(const SimRunReport& run) { return run.options.n_cores > 0 ? run.options.n_cores : run.device.n_cores; }

std::string_view ReportedPolicy(const SimRunReport& run) {
  if (run.model.is_rotation()) return PolicyName(PolicyKind::kRotation);
  return run.options.knows_future ? "belady" : PolicyName(run.options.policy.kind);
}

// Of the policy, after so many tokens a use counts half; 0: it has none.
double HalfLife(const SimRunReport& run) {
  if (run.model.is_rotation() || run.options.knows_future) return 0;
  const PolicyOptions& policy = run.options.policy;
  return policy.half_life_tokens > 0 ? policy.half_life_tokens : DefaultHalfLife(policy.kind);
}

}  // namespace

std::string SimText(const SimRunReport& run) {
  std::string text = Row("simulated", fmt::format("{} on {}, {} core{}", run.model.name, run.device.name, Cores(run),
                                                  Cores(run) == 1 ? "" : "s"));
  text += Row("memory", MemoryText(run));
  text += Row("speed", SpeedText(run.report));
  if (IsStreamed(run)) {
    text += Row("blocks", HitsText(run));
    if (HasExpertPolicy(run)) text += Row("experts", ExpertsText(run));
    text += Row("disk", DiskText(run));
  }
  text += Row("computing", fmt::format("reads {} of memory a token, {:.1f} GB/s",
                                       FormatBytes(static_cast<int64_t>(PerToken(run, run.report.memory_bytes))),
                                       Ratio(run.report.memory_bytes, run.report.wall_us) / 1e3));
  return text + Row("time", TimeText(run.report));
}

std::string SimJson(const SimRunReport& run) {
  const SimReport& report = run.report;
  const CacheStats& cache = report.cache;
  Json json = {{"model", run.model.name},
               {"device", run.device.name},
               {"n_cores", Cores(run)},
               {"is_streamed", IsStreamed(run)},
               {"cache_bytes", run.options.cache_bytes},
               {"block_bytes", run.model.block_bytes()},
               {"policy", ReportedPolicy(run)},
               {"half_life_tokens", HalfLife(run)},
               {"n_tokens", report.n_tokens},
               {"n_decoded", report.n_decoded},
               {"tok_per_s", report.tok_per_s()},
               {"wall_us", report.wall_us},
               {"token_us", {{"p50", report.RunUs(0.5)}, {"p90", report.RunUs(0.9)}, {"p99", report.RunUs(0.99)}}}};
  for (size_t i = 0; i < kTimeUses; ++i) {
    json["time_us"][std::string(TimeUseName(static_cast<TimeUse>(i)))] = report.time_us[i];
  }
  json["memory_bytes_read"] = report.memory_bytes;
  if (IsStreamed(run)) {
    json["cache"] = {{"hits", cache.n_hits},
                     {"late", cache.n_late},
                     {"misses", cache.n_misses},
                     {"missed_bytes", cache.missed_bytes},
                     {"evictions", cache.n_evicted},
                     {"guesses", cache.n_guesses},
                     {"guesses_used", cache.n_guesses_used}};
    json["disk"] = {
        {"bytes_read", report.reader.bytes_read},
        {"transfers", report.reader.n_transfers},
        {"busy_us", report.flash_busy_us},
        {"seen_busy_us", report.reader.busy_us},  // as --stats of a run has it: until a read is seen to have ended
        {"bytes_per_s_when_busy", FlashBytesPerS(run)}};
    if (HasExpertPolicy(run)) json["expert_policy"] = ExpertsJson(run);
    json["wait_us"] = report.stream.wait_us;
    json["place_us"] = report.stream.place_us;
  }
  json["device_profile"] = Json::parse(ToJson(run.device));  // to be changed and given to --device
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string AblationText(std::span<const AblationStep> steps) {
  const bool is_published = !steps.empty() && steps.front().published_tok_per_s > 0;
  const auto published = [&](const std::string& column) { return is_published ? fmt::format("{:>16}", column) : ""; };
  std::string text =
      fmt::format("{:<16}{:>9}{}{:>9}{:>8}  {}\n", "", "tok/s", published("published"), "found", "disk", "time");
  for (const AblationStep& step : steps) {
    const SimReport& report = step.report;
    text += fmt::format("{:<16}{:>9.2f}{}{:>7.1f} %{:>6.0f} %  {}\n", step.name, report.tok_per_s(),
                        published(fmt::format("{:.2f}{}", step.published_tok_per_s, step.is_derived ? " derived" : "")),
                        100 * step.found, 100 * Ratio(report.flash_busy_us, report.wall_us), TimeText(report));
  }
  return text;
}

std::string AblationJson(std::span<const AblationStep> steps) {
  Json json = Json::array();
  for (const AblationStep& step : steps) {
    json.push_back({{"step", step.name},
                    {"tok_per_s", step.report.tok_per_s()},
                    {"found", step.found},
                    {"bytes_read", step.report.reader.bytes_read},
                    {"n_tokens", step.report.n_tokens}});
    if (step.published_tok_per_s <= 0) continue;
    json.back()[step.is_derived ? "derived_tok_per_s" : "published_tok_per_s"] = step.published_tok_per_s;
  }
  return json.dump(2) + "\n";
}

std::string SensitivityHeader(std::span<const AblationStep> steps) {
  std::string text = fmt::format("{:<22}", "");
  for (const AblationStep& step : steps) text += fmt::format("{:>15}", step.name);
  return text + "\n";
}

std::string SensitivityText(const NeuronSensitivity& row, double factor) {
  std::string text = fmt::format("{:<16}{:>+4.0f} %", row.constant, 100 * (factor - 1));
  for (const double change : row.change) text += fmt::format("{:>+13.1f} %", 100 * change);
  return text + "\n";
}

}  // namespace pantry
