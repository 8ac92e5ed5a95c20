// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_report.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/units.h"

namespace pantry {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::pair<std::string_view, BenchFormat> kFormats[] = {
    {"table", BenchFormat::kTable}, {"md", BenchFormat::kMarkdown},     {"csv", BenchFormat::kCsv},
    {"json", BenchFormat::kJson},   {"jsonl", BenchFormat::kJsonLines},
};

std::string Percent(double share) { return share < 0 ? "-" : fmt::format("{:.0f} %", 100 * share); }
Json Known(double share) { return share < 0 ? Json() : Json(share); }

// Four significant digits: 1592, 302.1, 9.876.
std::string Speed(double value) {
  return fmt::format("{:.{}f}", value, value >= 1000 ? 0 : value >= 100 ? 1 : value >= 10 ? 2 : 3);
}

std::string Billions(double value) {
  return value <= 0 ? "-" : fmt::format("{:.{}f}", value, value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

std::string Params(int64_t n_params) {
  const auto n = static_cast<double>(n_params);
  return n >= 1e9 ? fmt::format("{:.2f} B", n * 1e-9) : fmt::format("{:.2f} M", n * 1e-6);
}

Json AsJson(const std::vector<ThreadRate>& rates) {
  Json json = Json::array();
  for (const ThreadRate& rate : rates) json.push_back({{"n_threads", rate.n_threads}, {"per_s", rate.per_s}});
  return json;
}

Json MachineJson(const HardwareProfile& machine) {
  return {{"cpu", machine.cpu_name},
          {"isas", machine.isas},
          {"n_usable_cores", machine.n_usable_cores},
          {"n_usable_cpus", machine.n_usable_cpus},
          {"memory_bytes", machine.memory.total_bytes},
          {"dram_read_bytes_per_s", AsJson(machine.dram_read_bytes_per_s)},
          {"int8_ops_per_s", AsJson(machine.int8_ops_per_s)},
          {"f32_flops", AsJson(machine.f32_flops)},
          {"measured_at", machine.measured_at}};
}

Json ModelJson(const BenchModel& model) {
  const ModelCost& cost = model.cost;
  return {{"name", model.name},
          {"file", model.file},
          {"architecture", model.architecture},
          {"type", model.type},
          {"n_params", model.n_params},
          {"n_bytes", model.n_bytes},
          {"weight_bytes", model.weight_bytes},
          {"bytes_per_token", cost.layers.n_bytes + cost.output.n_bytes},
          {"macs_per_token",
           cost.layers.int8_macs + cost.layers.float_macs + cost.output.int8_macs + cost.output.float_macs}};
}

Json RunJson(const BenchSetup& setup) {
  Json json = {{"pantry", setup.version}, {"isa", setup.isa},       {"type_k", setup.k_type},
               {"type_v", setup.v_type},  {"tokens", setup.tokens}, {"attention_counted_in_gops", false}};
  if (!setup.expert_policy.empty()) json["expert_policy"] = setup.expert_policy;
  if (!setup.neuron_policy.empty()) json["neuron_policy"] = setup.neuron_policy;
  return json;
}

Json PercentilesJson(const Percentiles& figures) {
  return {{"p50", figures.p50}, {"p90", figures.p90}, {"p99", figures.p99}, {"max", figures.max}};
}

void AddHitFigures(const HitFigures& figures, const std::string& prefix, Json& json) {
  if (figures.hit_rate < 0) return;
  json[prefix + "hit_rate"] = figures.hit_rate;
  json[prefix + "hits"] = {{"p50", figures.p50}, {"p10", figures.p10}, {"p1", figures.p1}};
  json[prefix + "misses"] = PercentilesJson(figures.misses);
}

// Of single steps of generation; nothing where there were none.
void AddTokenFigures(const SpeedResult& result, Json& json) {
  if (result.tokens.empty()) return;
  const TokenFigures figures = TokenFiguresOf(result);
  json["latency_ms"] = PercentilesJson(figures.latency_ms);
  json["tok_per_s_each"] = figures.tok_per_s_each;
  const StepFigures steps = StepFiguresOf(result);
  json["step_ms"] = steps.ms;
  json["most_step_ratio"] = steps.most_ratio;
  if (steps.most_ratio_at_end > 0) json["most_step_ratio_at_end"] = steps.most_ratio_at_end;
  AddHitFigures(figures.cache, "", json);
  AddHitFigures(figures.neurons, "neuron_", json);
}

Json TestJson(const SpeedResult& result, const HardwareProfile& machine, int64_t peak_rss_bytes) {
  const SpeedFigures figures = FiguresOf(result);
  const BenchRates rates = RatesOf(result, machine);
  Json json = {{"test", SpeedTestName(result.test)},
               {"n_prompt", result.test.n_prompt},
               {"n_gen", result.test.n_gen},
               {"n_depth", result.test.n_depth},
               {"n_threads", result.test.n_threads},
               {"n_batch", result.test.n_batch},
               {"n_sequences", result.test.n_sequences},
               {"ends", result.test.ends},
               {"tok_per_s", figures.median},
               {"min", figures.min},
               {"max", figures.max},
               {"mean", figures.mean},
               {"stddev", figures.stddev},
               {"samples", figures.samples},
               {"gb_per_s", rates.gb_per_s},
               {"gops", rates.gops},
               {"dram_share", Known(rates.dram_share)},
               {"int8_share", Known(rates.int8_share)},
               {"f32_share", Known(rates.f32_share)},
               {"kv_bytes", result.kv_bytes},
               {"peak_rss_bytes", peak_rss_bytes}};
  AddTokenFigures(result, json);
  return json;
}

// A name may hold anything.
std::string CsvField(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string MarkdownField(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '|' ? ' ' : c;
  return out;
}

constexpr std::string_view kCsvHeader =
    "pantry,cpu,isa,model,file,type,n_params,n_bytes,type_k,type_v,tokens,n_prompt,n_gen,n_depth,n_threads,n_batch,n_"
    "sequences,ends,"
    "tok_per_s,min,max,mean,stddev,n_samples,gb_per_s,gops,dram_share,int8_share,f32_share,peak_rss_bytes,"
    "ms_p50,ms_p90,ms_p99,hit_rate,hits_p50,hits_p10,hits_p1,neuron_hit_rate,neuron_hits_p50,neuron_hits_p10,"
    "neuron_hits_p1\n";

std::string CsvShare(double share) { return share < 0 ? "" : fmt::format("{:.4f}", share); }

// ",0.9312,0.9501,0.8800,0.7902", or as many empty fields.
std::string CsvHits(const HitFigures& figures) {
  if (figures.hit_rate < 0) return ",,,,";
  return fmt::format(",{:.4f},{:.4f},{:.4f},{:.4f}", figures.hit_rate, figures.p50, figures.p10, figures.p1);
}

std::string CsvTokens(const SpeedResult& result) {
  if (result.tokens.empty()) return ",,," + CsvHits({}) + CsvHits({});
  const TokenFigures figures = TokenFiguresOf(result);
  const Percentiles& ms = figures.latency_ms;
  return fmt::format(",{:.3f},{:.3f},{:.3f}", ms.p50, ms.p90, ms.p99) + CsvHits(figures.cache) +
         CsvHits(figures.neurons);
}

std::string CsvRow(const BenchSetup& setup, const SpeedResult& result, int64_t peak_rss_bytes) {
  const SpeedFigures figures = FiguresOf(result);
  const BenchRates rates = RatesOf(result, setup.machine);
  const SpeedTest& test = result.test;
  return fmt::format(
      "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{:.3f},{:.3f},{:.3f},{:.3f},{:.3f},{},{:.3f},{:.1f},{},{},"
      "{},{}{}\n",
      setup.version, CsvField(setup.machine.cpu_name), setup.isa, CsvField(setup.model.name),
      CsvField(setup.model.file), setup.model.type, setup.model.n_params, setup.model.n_bytes, setup.k_type,
      setup.v_type, setup.tokens, test.n_prompt, test.n_gen, test.n_depth, test.n_threads, test.n_batch,
      test.n_sequences, test.ends ? 1 : 0, figures.median, figures.min, figures.max, figures.mean, figures.stddev,
      figures.samples.size(), rates.gb_per_s, rates.gops, CsvShare(rates.dram_share), CsvShare(rates.int8_share),
      CsvShare(rates.f32_share), peak_rss_bytes, CsvTokens(result));
}

// Milliseconds of the tokens that were generated: "9.71 10.2 14.9".
std::string Latencies(const SpeedResult& result) {
  if (result.tokens.empty()) return "-";
  const Percentiles ms = TokenFiguresOf(result).latency_ms;
  const auto figure = [](double value) {
    return fmt::format("{:.{}f}", value, value >= 100 ? 0 : value >= 10 ? 1 : 2);
  };
  return figure(ms.p50) + " " + figure(ms.p90) + " " + figure(ms.p99);
}

// The cells of a row, as table and Markdown show them.
std::array<std::string, 10> Cells(const SpeedResult& result, const HardwareProfile& machine) {
  const SpeedFigures figures = FiguresOf(result);
  const BenchRates rates = RatesOf(result, machine);
  return {SpeedTestName(result.test),
          fmt::format("{}", result.test.n_threads),
          fmt::format("{}", result.test.n_batch),
          Speed(figures.median),
          fmt::format("{} - {}", Speed(figures.min), Speed(figures.max)),
          Billions(rates.gb_per_s),
          Percent(rates.dram_share),
          Billions(rates.gops),
          Percent(rates.compute_share),
          Latencies(result)};
}
constexpr std::array<std::string_view, 10> kHeads = {"test", "threads", "batch", "tok/s",   "min - max",
                                                     "GB/s", "of DRAM", "GOPS",  "of peak", "ms/token p50 p90 p99"};
constexpr std::array<int, 10> kWidths = {24, 7, 5, 8, 17, 7, 7, 7, 7, 20};

std::string TableLine(const auto& cells) {
  std::string line = fmt::format("{:<{}}", cells[0], kWidths[0]);
  for (size_t i = 1; i < cells.size(); ++i) line += fmt::format("  {:>{}}", cells[i], kWidths[i]);
  return line + "\n";
}

std::string TableHeader(const BenchSetup& setup) {
  const BenchModel& model = setup.model;
  const HardwareProfile& machine = setup.machine;
  std::string out = fmt::format("{} · {} · {} parameters, {} · {} · KV {}\n", model.name, model.type,
                                Params(model.n_params), FormatBytes(model.n_bytes), setup.isa,
                                setup.k_type == setup.v_type ? setup.k_type : setup.k_type + "/" + setup.v_type);
  if (machine.n_usable_cores > 0) {
    out += fmt::format("{} · {} cores", machine.cpu_name.empty() ? "CPU unknown" : machine.cpu_name,
                       machine.n_usable_cores);
    if (const double rate = BestRate(machine.dram_read_bytes_per_s); rate > 0) {
      out += fmt::format(" · reads DRAM at {:.1f} GB/s", rate * 1e-9);
    }
    if (const double rate = BestRate(machine.int8_ops_per_s); rate > 0) {
      out += fmt::format(" · int8 peak {:.0f} GOPS", rate * 1e-9);
    }
    if (const double rate = BestRate(machine.f32_flops); rate > 0) {
      out += fmt::format(" · F32 peak {:.0f} GFLOPS", rate * 1e-9);
    }
    out += '\n';
  }
  return out + "\n" + TableLine(kHeads);
}

// What a row does not say of sequences that are generated together.
std::string SequencesLine(const SpeedResult& result) {
  if (result.test.n_sequences == 1 || result.tokens.empty()) return "";
  const StepFigures steps = StepFiguresOf(result);
  std::string line = fmt::format("  each sequence {} tok/s; a step takes at most {:.2f} times its neighbours",
                                 Speed(TokenFiguresOf(result).tok_per_s_each), steps.most_ratio);
  if (steps.most_ratio_at_end > 0) line += fmt::format(", {:.2f} after one ended", steps.most_ratio_at_end);
  return line + "\n";
}

// What a row does not say of a streamed run: what tokens found in memory.
std::string HitsLine(const SpeedResult& result) {
  if (result.tokens.empty()) return "";
  const TokenFigures figures = TokenFiguresOf(result);
  const auto hits = [](std::string_view of, const HitFigures& found) {
    return fmt::format("{} {:.1f} %, by token p50 p10 p1 {:.1f} {:.1f} {:.1f} %", of, 100 * found.hit_rate,
                       100 * found.p50, 100 * found.p10, 100 * found.p1);
  };
  if (figures.cache.hit_rate < 0) return "";
  const bool has_both = figures.neurons.hit_rate >= 0;
  return fmt::format("  in memory when wanted: {}{}\n", hits(has_both ? "gates" : "of all", figures.cache),
                     has_both ? "; " + hits("neurons", figures.neurons) : "");
}

std::string MarkdownHeader() {
  std::string names = "| model | type | size | params | isa |";
  std::string rules = "|---|---|---:|---:|---|";
  for (size_t i = 0; i < kHeads.size(); ++i) {
    names += fmt::format(" {} |", kHeads[i]);
    rules += i == 0 ? "---|" : "---:|";
  }
  return names + "\n" + rules + "\n";
}

std::string MarkdownRow(const BenchSetup& setup, const SpeedResult& result) {
  const BenchModel& model = setup.model;
  std::string row = fmt::format("| {} | {} | {} | {} | {} |", MarkdownField(model.name), model.type,
                                FormatBytes(model.n_bytes), Params(model.n_params), setup.isa);
  for (const std::string& cell : Cells(result, setup.machine)) row += fmt::format(" {} |", cell);
  return row + "\n";
}

// Names come from files and may not be UTF-8.
std::string Dump(const Json& json, int indent) { return json.dump(indent, ' ', false, Json::error_handler_t::replace); }

}  // namespace

Result<BenchFormat> ParseBenchFormat(std::string_view name) {
  for (const auto& [candidate, format] : kFormats) {
    if (candidate == name) return format;
  }
  return InvalidArgumentError("expected table, md, csv, json or jsonl, found '{}'", name);
}

BenchRates RatesOf(const SpeedResult& result, const HardwareProfile& machine) {
  BenchRates rates;
  const double seconds = FiguresOf(result).median_seconds;
  if (seconds <= 0) return rates;
  const double bytes_per_s = static_cast<double>(result.work.n_bytes) / seconds;
  const double int8_per_s = static_cast<double>(result.work.int8_ops) / seconds;
  const double float_per_s = static_cast<double>(result.work.float_ops) / seconds;
  rates.gb_per_s = bytes_per_s * 1e-9;
  rates.gops = (int8_per_s + float_per_s) * 1e-9;
  const double dram = RateFor(machine.dram_read_bytes_per_s, result.test.n_threads);
  const double int8 = RateFor(machine.int8_ops_per_s, result.test.n_threads);
  const double f32 = RateFor(machine.f32_flops, result.test.n_threads);
  if (dram > 0) rates.dram_share = bytes_per_s / dram;
  if (int8 > 0 && int8_per_s > 0) rates.int8_share = int8_per_s / int8;
  if (f32 > 0 && float_per_s > 0) rates.f32_share = float_per_s / f32;
  const bool is_known = (int8_per_s <= 0 || int8 > 0) && (float_per_s <= 0 || f32 > 0) && rates.gops > 0;
  if (is_known) rates.compute_share = std::max(rates.int8_share, 0.0) + std::max(rates.f32_share, 0.0);
  return rates;
}

std::string BenchReport::Begin() const {
  switch (format_) {
    case BenchFormat::kTable: return TableHeader(setup_);
    case BenchFormat::kMarkdown: return MarkdownHeader();
    case BenchFormat::kCsv: return std::string(kCsvHeader);
    default: return "";
  }
}

std::string BenchReport::Row(const SpeedResult& result, int64_t peak_rss_bytes) {
  switch (format_) {
    case BenchFormat::kTable:
      return TableLine(Cells(result, setup_.machine)) + SequencesLine(result) + HitsLine(result);
    case BenchFormat::kMarkdown: return MarkdownRow(setup_, result);
    case BenchFormat::kCsv: return CsvRow(setup_, result, peak_rss_bytes);
    default: break;
  }
  Json row = TestJson(result, setup_.machine, peak_rss_bytes);
  if (format_ == BenchFormat::kJson) {
    json_rows_.push_back(Dump(row, -1));
    return "";
  }
  row["run"] = RunJson(setup_);
  row["model"] = ModelJson(setup_.model);
  row["machine"] = MachineJson(setup_.machine);
  return Dump(row, -1) + "\n";
}

std::string BenchReport::End() const {
  if (format_ != BenchFormat::kJson) return "";
  Json json = RunJson(setup_);
  json["machine"] = MachineJson(setup_.machine);
  json["model"] = ModelJson(setup_.model);
  json["tests"] = Json::array();
  for (const std::string& row : json_rows_) json["tests"].push_back(Json::parse(row));
  return Dump(json, 2) + "\n";
}

}  // namespace pantry
