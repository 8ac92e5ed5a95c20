// SPDX-License-Identifier: Apache-2.0
#include "cli/eval_task_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

namespace pantry {
namespace {

using Json = nlohmann::ordered_json;

double ItemsPerSecond(const TaskResult& result) {
  const auto n = static_cast<double>(static_cast<int64_t>(result.scores.size()) - result.n_skipped);
  return result.seconds > 0 ? n / result.seconds : 0.0;
}

std::string Row(std::string_view task, std::string_view items, std::string_view metric, std::string_view value,
                std::string_view interval, std::string_view speed) {
  std::string row =
      fmt::format("{:<16}  {:>12}  {:<28}  {:>19}  {:>19}  {:>8}", task, items, metric, value, interval, speed);
  row.erase(row.find_last_not_of(' ') + 1);
  return row + "\n";
}

}  // namespace

std::string TaskTableHead() { return Row("task", "items", "metric", "value", "95 % interval", "items/s"); }

std::string TaskTableRows(const TaskFile& file, const TaskResult& result) {
  const auto n_measured = static_cast<int64_t>(result.scores.size()) - result.n_skipped;
  std::string items = fmt::format("{}", n_measured);
  if (n_measured < result.n_items) items += fmt::format(" of {}", result.n_items);
  std::string task = file.name;
  std::string speed = fmt::format("{:.1f}", ItemsPerSecond(result));
  std::string rows;
  for (const Metric& metric : TaskMetrics(file, result.scores)) {
    rows += Row(task, items, metric.name, fmt::format("{:.4f} ± {:.4f}", metric.value, metric.standard_error),
                fmt::format("{:.4f} to {:.4f}", metric.low, metric.high), speed);
    task = items = speed = "";
  }
  if (rows.empty()) rows = Row(task, items, "nothing was measured", "", "", "");
  if (result.n_truncated > 0) {
    rows += fmt::format("  {} answers were cut short: the context was full\n", result.n_truncated);
  }
  if (result.is_partial()) rows += "  partial: stopped before the end\n";
  return rows;
}

std::string TaskProgressLine(const TaskFile& file, const TaskResult& result) {
  std::string line = fmt::format("{} {}/{}", file.name, result.scores.size(), result.n_items);
  const std::vector<Metric> metrics = TaskMetrics(file, result.scores);
  if (metrics.empty()) return line;
  return line + fmt::format(" · {} {:.4f} ± {:.4f} · {:.1f} items/s", metrics.back().name, metrics.back().value,
                            metrics.back().standard_error, ItemsPerSecond(result));
}

Json TaskJson(const TaskFile& file, const TaskResult& result) {
  Json metrics = Json::object();
  for (const Metric& metric : TaskMetrics(file, result.scores)) {
    metrics[metric.name] = {
        {"value", metric.value}, {"stderr", metric.standard_error}, {"ci95", {metric.low, metric.high}}};
  }
  Json skipped = Json::array();
  for (const ItemScore& score : result.scores) {
    if (score.skipped.empty()) continue;
    const TaskItem& item = file.items[score.item];
    skipped.push_back({{"id", item.id}, {"line", item.line}, {"why", score.skipped}});
  }
  Json json = {{"task", file.name},
               {"file", file.path},
               {"protocol", TaskProtocolName(file.protocol)},
               {"items", static_cast<int64_t>(result.scores.size()) - result.n_skipped},
               {"items_given", result.n_items},
               {"partial", result.is_partial()},
               {"skipped", skipped},
               {"truncated", result.n_truncated},
               {"metrics", metrics},
               {"seconds", result.seconds},
               {"items_per_s", ItemsPerSecond(result)}};
  if (file.protocol == TaskProtocol::kChoice) json["acc_norm_by"] = "characters";  // not bytes, not tokens
  return json;
}

Json ItemJson(const TaskFile& file, const ItemScore& score) {
  const TaskItem& item = file.items[score.item];
  Json json = {{"task", file.name}, {"id", item.id}, {"line", item.line}};
  if (!score.skipped.empty()) {
    json["skipped"] = score.skipped;
    return json;
  }
  if (file.protocol == TaskProtocol::kChoice) {
    json["log_likelihoods"] = score.log_likelihoods;
    json["tokens"] = score.n_tokens;
    json["answer"] = item.answer;
  } else if (file.protocol == TaskProtocol::kRolling) {
    json["log_likelihood"] = score.log_likelihoods.front();
    json["tokens"] = score.n_tokens.front();
    json["words"] = item.n_words;
    json["bytes"] = item.n_bytes;
  } else {
    json["text"] = score.text;
    json["answer"] = item.answers.front();
    if (score.is_truncated) json["truncated"] = true;  // the context was full
  }
  const std::span<const std::string_view> names = ItemMetrics(file.protocol);
  for (size_t i = 0; i < names.size(); ++i) json[std::string(names[i])] = score.values[i];
  return json;
}

Result<ItemFile> ItemFile::Create(const std::string& path) {
  PANTRY_ASSIGN_OR_RETURN(ReportFile file, ReportFile::Open(path));
  return ItemFile(std::move(file));
}

Status ItemFile::Write(const TaskFile& file, const TaskResult& result) {
  std::vector<const ItemScore*> in_order;
  for (const ItemScore& score : result.scores) in_order.push_back(&score);
  std::sort(in_order.begin(), in_order.end(), [](const auto* a, const auto* b) { return a->item < b->item; });
  for (const ItemScore* score : in_order) {
    PANTRY_RETURN_IF_ERROR(
        file_.Write(ItemJson(file, *score).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"));
  }
  return file_.Flush();
}

}  // namespace pantry
