// SPDX-License-Identifier: Apache-2.0
// How `pantry eval tasks` says what it measured: rows of a table as tasks end, one JSON object, a file with a line for each item.
//
// Threads: one at a time.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>

#include "base/status.h"
#include "cli/report_file.h"
#include "eval/tasks/task_run.h"

namespace pantry {

std::string TaskTableHead();
// A line for each metric; the first also says the task, its items and their speed, and whether they are all.
std::string TaskTableRows(const TaskFile& file, const TaskResult& result);

// "hellaswag 120/667 · acc_norm 0.4300 ± 0.0192 · 12.3 items/s"
std::string TaskProgressLine(const TaskFile& file, const TaskResult& result);

nlohmann::ordered_json TaskJson(const TaskFile& file, const TaskResult& result);
nlohmann::ordered_json ItemJson(const TaskFile& file, const ItemScore& score);

// The file of --out: a line of JSON for each item that was reached, in the order of the task file.
class ItemFile {
 public:
  static Result<ItemFile> Create(const std::string& path);  // errors of ReportFile::Open()
  Status Write(const TaskFile& file, const TaskResult& result);
  Status Close() { return file_.Close(); }  // kIoError when anything could not be written

 private:
  explicit ItemFile(ReportFile file) : file_(std::move(file)) {}
  ReportFile file_;
};

}  // namespace pantry
