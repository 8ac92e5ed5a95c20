// SPDX-License-Identifier: Apache-2.0
// `pantry eval tasks`: how well a model answers the questions of task files.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/eval_task_report.h"
#include "cli/eval_verbs.h"
#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "cli/neuron_flags.h"
#include "cli/open_engine.h"
#include "eval/tasks/task_run.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {
namespace {

struct Task {
  TaskFile file;
  TaskRequests requests;
};

Result<std::vector<Task>> ReadTasks(VerbContext& context) {
  std::vector<std::string> paths = std::exchange(context.invocation.words, {});
  if (paths.empty()) {
    return InvalidArgumentError("no task files given. Try: pantry eval tasks -m MODEL.gguf TASK.jsonl...");
  }
  const CliOptions& options = context.options();
  TaskFileOptions how;
  how.limit = options.limit;
  if (!options.task.empty()) {
    PANTRY_ASSIGN_OR_RETURN(how.protocol, ParseTaskProtocol(options.task));
  }
  if (!options.prefix_file.empty()) {
    PANTRY_ASSIGN_OR_RETURN(how.prefix, ReadWholeFile(options.prefix_file));
    if (how.prefix.empty()) return InvalidArgumentError("--prefix-file: '{}' is empty", options.prefix_file);
  }
  std::vector<Task> tasks;
  for (const std::string& path : paths) {
    PANTRY_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path));
    Task task;
    PANTRY_ASSIGN_OR_RETURN(task.file, ParseTaskFile(text, path, how));
    tasks.push_back(std::move(task));
  }
  const bool uses_prefix = std::any_of(tasks.begin(), tasks.end(),
                                       [](const Task& task) { return task.file.protocol == TaskProtocol::kGsm8kCot; });
  if (!how.prefix.empty() && !uses_prefix) {
    return InvalidArgumentError("--prefix-file has no effect: none of the files is asked as gsm8k_cot");
  }
  return tasks;
}

// Encodes all items before the weights are loaded, so that memory is planned for the context they need.
Status MakeAllRequests(const std::string& model_path, std::vector<Task>& tasks, SessionOptions& session) {
  NullLogger quiet;  // what there is to say of the vocabulary is said when the model is loaded
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<GgufFile> file, GgufFile::Open(model_path));
  PANTRY_ASSIGN_OR_RETURN(const ModelShape shape, ParseModelShape(file->metadata()));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, Tokenizer::FromMetadata(file->metadata(), quiet));
  int64_t most_positions = 1;
  for (Task& task : tasks) {
    task.requests = MakeRequests(*tokenizer, task.file);
    most_positions = std::max(most_positions, task.requests.most_positions);
  }
  if (session.n_ctx > 0) return OkStatus();
  session.n_ctx = most_positions;
  if (shape.n_ctx_train > 0) session.n_ctx = std::min<int64_t>(session.n_ctx, shape.n_ctx_train);
  return OkStatus();
}

void WarnOfSkipped(Console& console, const TaskFile& file, const TaskResult& result) {
  constexpr int64_t kMostLines = 5;
  int64_t n = 0;
  for (const ItemScore& score : result.scores) {
    if (score.skipped.empty() || ++n > kMostLines) continue;
    const TaskItem& item = file.items[score.item];
    console.Write(LogLevel::kWarning, fmt::format("{}:{}: skipped: {}", file.path, item.line, score.skipped));
  }
  if (n > kMostLines) {
    console.Write(LogLevel::kWarning, fmt::format("{}: {} items were skipped; --json lists them", file.path, n));
  }
}

Result<TaskResult> Measure(VerbContext& context, Engine& engine, Session& session, const Task& task) {
  std::string line;
  size_t n_shown = SIZE_MAX;
  TaskCallbacks callbacks;
  callbacks.keep_going = [&](const TaskResult& so_far) {
    if (so_far.scores.size() != n_shown) line = TaskProgressLine(task.file, so_far);
    n_shown = so_far.scores.size();
    context.console.Progress(line);
    return !Interrupted();
  };
  context.console.Progress(fmt::format("{} 0/{}", task.file.name, task.file.items.size()));
  PANTRY_ASSIGN_OR_RETURN(TaskResult result, RunTask(engine, session, task.file, task.requests, callbacks));
  context.console.EndProgress();
  WarnOfSkipped(context.console, task.file, result);
  return result;
}

}  // namespace

Status EvalTasksVerb(VerbContext& context) {
  PANTRY_RETURN_IF_ERROR(
      RejectOtherFlags(context.invocation, "tasks", {"--limit", "--task", "--prefix-file", "--out"}));
  PANTRY_ASSIGN_OR_RETURN(const std::string path, ModelOf(context.invocation));
  PANTRY_ASSIGN_OR_RETURN(SessionOptions session_options, EvalSessionOf(context, path));
  session_options.all_logits = true;
  PANTRY_ASSIGN_OR_RETURN(std::vector<Task> tasks, ReadTasks(context));
  PANTRY_RETURN_IF_ERROR(MakeAllRequests(path, tasks, session_options));
  const CliOptions& options = context.options();
  std::optional<ItemFile> items;
  if (!options.item_file.empty()) {
    PANTRY_ASSIGN_OR_RETURN(items, ItemFile::Create(options.item_file));
  }
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(context, path, session_options));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, engine->NewSession(session_options));
  context.console.Note(ModeLine(*engine, session.get()));

  nlohmann::ordered_json json = {{"model", path}, {"ctx_size", session->n_ctx()}, {"partial", false}};
  json["tasks"] = nlohmann::ordered_json::array();
  if (!options.json) PANTRY_RETURN_IF_ERROR(context.output.Write(TaskTableHead()));
  bool is_stopped = false;
  double seconds = 0;
  for (size_t i = 0; i < tasks.size() && !is_stopped; ++i) {
    PANTRY_ASSIGN_OR_RETURN(const TaskResult result, Measure(context, *engine, *session, tasks[i]));
    is_stopped = result.is_partial() || (Interrupted() && i + 1 < tasks.size());
    seconds += result.seconds;
    if (items) PANTRY_RETURN_IF_ERROR(items->Write(tasks[i].file, result));
    json["tasks"].push_back(TaskJson(tasks[i].file, result));
    if (!options.json) PANTRY_RETURN_IF_ERROR(context.output.Write(TaskTableRows(tasks[i].file, result)));
  }
  if (items) PANTRY_RETURN_IF_ERROR(items->Close());
  context.console.Note(fmt::format("{} of {} tasks · {:.1f} s · {}{}", json["tasks"].size(), tasks.size(), seconds,
                                   MemoryFigure(engine->memory_plan()), NeuronPolicyFigures(*engine)));
  if (engine->router() != nullptr) {
    const CacheAwareRouter& chooser = engine->router()->chooser();
    context.console.Note(PolicyLine(*engine));
    json["expert_policy"] = {{"policy", ExpertPolicyText(chooser.policy())},
                             {"agreement", chooser.counts().agreement()},
                             {"gate_mass", chooser.counts().gate_mass()},
                             {"excess_kl", chooser.counts().mean_excess_kl()}};
  }
  AddNeuronPolicy(*engine, json);
  json["partial"] = is_stopped;
  if (options.json) {  // paths and ids may not be UTF-8
    const auto replace = nlohmann::ordered_json::error_handler_t::replace;
    PANTRY_RETURN_IF_ERROR(context.output.Write(json.dump(-1, ' ', false, replace) + "\n"));
  }
  return is_stopped ? CancelledError("stopped") : OkStatus();
}

}  // namespace pantry
