// SPDX-License-Identifier: Apache-2.0
#include "cli/repl.h"

#include <cstdint>
#include <utility>

#include "base/units.h"
#include "cli/flag_value.h"
#include "cli/interrupt.h"
#include "cli/model_path.h"
#include "cli/open_engine.h"
#include "weights/gguf/gguf_cursor.h"

namespace pantry {
namespace {

constexpr std::string_view kQuotes = "\"\"\"";

constexpr std::string_view kReplHelp =
    "/help              this list\n"
    "/exit, /bye        leave (Ctrl-D too)\n"
    "/clear             forget the conversation\n"
    "/regen             write the last answer again\n"
    "/system TEXT       set the system message and start over; without TEXT: none\n"
    "/set NAME VALUE    change a setting, e.g. /set temperature 0.7; without NAME: list them\n"
    "/show              the model and how it runs\n"
    "/stats             tokens, speed, memory, context used\n"
    "/save N, /load N   keep this conversation under a name, take one up again\n"
    "/file PATH         put the text of a file before the next message\n"
    "/multiline         on: a blank line ends a message\n"
    "\"\"\" ... \"\"\"        a message over several lines\n"
    "Ctrl-C stops an answer; at the prompt, twice leaves.\n";

std::string Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(" \t") + 1 - begin));
}

bool IsSetting(const Flag& flag) {
  return (flag.group == "Sampling" || flag.group == "Answer") &&
         flag.names.find("logit-bias") == std::string_view::npos;
}

}  // namespace

Repl::Repl(VerbContext& context, Engine& engine, Session& session, Answerer& answerer, Chat* chat)
    : context_(context),
      engine_(engine),
      session_(session),
      answerer_(answerer),
      chat_(chat),
      editor_(HistoryFile(context.invocation.environment)),
      options_(context.options()) {}

Status Repl::Run(const std::string& first_prompt) {
  PANTRY_ASSIGN_OR_RETURN(const GenerateOptions checked, GenerateOptionsOf(options_));
  first_seed_ = checked.sampling.seed;
  if (chat_ == nullptr) context_.console.Warning("{}: each line is continued as raw text", WhyNoChat());
  context_.console.Note("/help lists the commands, Ctrl-D leaves");
  if (!first_prompt.empty()) {
    PANTRY_RETURN_IF_ERROR(Send(first_prompt));
    if (options_.single_turn) return OkStatus();
  }
  bool interrupted_before = false;
  std::string message;
  for (;;) {
    const LineEvent event = ReadMessage(message);
    if (event == LineEvent::kEnd) {
      context_.console.Plain("\n");
      return OkStatus();
    }
    if (event == LineEvent::kInterrupt) {
      if (interrupted_before) return CancelledError("interrupted");
      interrupted_before = true;
      ClearInterrupt();
      context_.console.Plain("(Ctrl-C again or Ctrl-D leaves)\n");
      continue;
    }
    interrupted_before = false;
    if (Trim(message).empty()) continue;
    if (message.starts_with('/') && message.find('\n') == std::string::npos) {
      if (Command(message) == Next::kLeave) return OkStatus();
      continue;
    }
    PANTRY_RETURN_IF_ERROR(Send(message));
    if (options_.single_turn) return OkStatus();
  }
}

std::string_view Repl::WhyNoChat() const {
  return options_.conversation == false ? "--no-cnv is given" : "this model has no chat template";
}

LineEvent Repl::ReadMessage(std::string& message) {
  const LineEvent event = editor_.Read(">>> ", message);
  if (event != LineEvent::kLine) return event;
  LineEvent end = LineEvent::kLine;
  if (message.starts_with(kQuotes)) {
    end = ReadQuoted(message);
  } else if (multiline_ && !message.starts_with('/')) {
    end = ReadToBlankLine(message);
  }
  if (message.find('\n') == std::string::npos) editor_.AddToHistory(message);
  return end;
}

LineEvent Repl::ReadQuoted(std::string& message) {
  message.erase(0, kQuotes.size());
  std::string line;
  while (!message.ends_with(kQuotes)) {
    const LineEvent event = editor_.Read("... ", line);
    if (event != LineEvent::kLine) return event;
    message += '\n';
    message += line;
  }
  message.erase(message.size() - kQuotes.size());
  if (message.starts_with('\n')) message.erase(0, 1);
  if (message.ends_with('\n')) message.pop_back();
  return LineEvent::kLine;
}

LineEvent Repl::ReadToBlankLine(std::string& message) {
  std::string line;
  for (;;) {
    const LineEvent event = editor_.Read("... ", line);
    if (event != LineEvent::kLine) return event;
    if (line.empty()) return LineEvent::kLine;
    message += '\n';
    message += line;
  }
}

Result<GenerateOptions> Repl::NextOptions() {
  PANTRY_ASSIGN_OR_RETURN(GenerateOptions options, GenerateOptionsOf(options_));
  // The same settings and lines give the same chat, but /regen must not repeat itself.
  options.sampling.seed =
      (options_.seed >= 0 ? static_cast<uint64_t>(options_.seed) : first_seed_) + static_cast<uint64_t>(n_asked_++);
  return options;
}

// Errors that the user can mend are shown and the chat goes on; only a lost standard output ends it.
Status Repl::Send(const std::string& text) {
  const std::string whole = std::exchange(attachment_, "") + text;
  PANTRY_ASSIGN_OR_RETURN(const GenerateOptions options, NextOptions());
  Result<GenerateResult> result = InternalError("not asked");
  if (chat_ != nullptr) {
    result = chat_->Say(whole, answerer_, options);
  } else {
    const EncodeOptions encode{.add_special = true, .parse_special = options_.parse_special};
    result = answerer_.Answer(engine_.tokenizer().Encode(whole, encode), options);
  }
  ClearInterrupt();
  if (result.status().code() == StatusCode::kIoError) return result.status();
  Report(result);
  return OkStatus();
}

void Repl::Report(const Result<GenerateResult>& result) {
  const bool is_full = result.ok() ? result->stop_reason == StopReason::kContextFull
                                   : result.status().code() == StatusCode::kOutOfBudget;
  const std::string_view advice = chat_ != nullptr ? "/clear forgets the conversation and makes room" : "";
  if (!result.ok()) {
    const bool advises = is_full && !advice.empty();
    context_.console.Error(
        fmt::format("{}{}{}", result.status().message(), advises ? "; " : "", advises ? advice : ""));
  } else if (is_full && !advice.empty()) {
    context_.console.Note(advice);
  }
}

Status Repl::Regenerate() {
  if (chat_ == nullptr) return InvalidArgumentError("/regen needs a conversation; {}", WhyNoChat());
  PANTRY_ASSIGN_OR_RETURN(const GenerateOptions options, NextOptions());
  const Status status = chat_->Regenerate(answerer_, options).status();
  ClearInterrupt();
  return status;
}

Repl::Next Repl::Command(const std::string& line) {
  const size_t space = std::min(line.find_first_of(" \t"), line.size());
  const std::string name = line.substr(0, space);
  if (name == "/exit" || name == "/bye" || name == "/quit") return Next::kLeave;
  const Status status = DoCommand(name, Trim(line.substr(space)));
  if (!status.ok()) context_.console.Error(status.message());
  return context_.output.reader_gone() ? Next::kLeave : Next::kGoOn;
}

Status Repl::DoCommand(const std::string& name, const std::string& argument) {
  const bool about_chat = name == "/clear" || name == "/system" || name == "/save" || name == "/load";
  if (about_chat && chat_ == nullptr) return InvalidArgumentError("{} needs a conversation; {}", name, WhyNoChat());
  if (name == "/help" || name == "/?") {
    context_.console.Plain(kReplHelp);
  } else if (name == "/clear") {
    chat_->Clear();
    session_.Truncate(0);
  } else if (name == "/regen") {
    return Regenerate();
  } else if (name == "/system") {
    chat_->Clear();
    chat_->SetSystem(argument);
  } else if (name == "/set") {
    return Set(argument);
  } else if (name == "/show") {
    Show();
  } else if (name == "/stats") {
    Stats();
  } else if (name == "/save" || name == "/load") {
    PANTRY_ASSIGN_OR_RETURN(const std::string path, ChatPath(argument));
    PANTRY_RETURN_IF_ERROR(name == "/save" ? chat_->Save(path) : chat_->Load(path));
    context_.console.Plain(
        fmt::format("{} messages {} {}\n", chat_->n_messages(), name == "/save" ? "saved in" : "loaded from", path));
  } else if (name == "/file") {
    return AttachFile(argument);
  } else if (name == "/multiline") {
    multiline_ = !multiline_;
    context_.console.Plain(multiline_ ? "multi-line: a blank line ends a message\n" : "multi-line: off\n");
  } else {
    return InvalidArgumentError("unknown command '{}'. See: /help", name);
  }
  return OkStatus();
}

Status Repl::Set(const std::string& argument) {
  const size_t space = std::min(argument.find_first_of(" \t="), argument.size());
  const std::string wanted = argument.substr(0, space);
  const std::string value = Trim(std::string_view(argument).substr(std::min(space + 1, argument.size())));
  CliOptions changed = options_;
  Status status = InvalidArgumentError("no setting '{}'. See: /set", wanted);
  std::string list;
  ForEachField(changed, [&](const Flag& flag, auto& field) {
    if (!IsSetting(flag)) return;
    list += fmt::format("{:<18} {}\n", FlagName(flag).substr(2), FormatField(field));
    for (const std::string_view name : SplitNames(flag.names)) {
      if (name.substr(name.find_first_not_of('-')) != wanted || wanted.empty()) continue;
      if constexpr (requires { field.clear(); }) field.clear();  // a list is replaced, not extended
      status = value.empty() ? InvalidArgumentError("/set {} needs a value", wanted) : SetField(field, value);
    }
  });
  if (wanted.empty()) {
    context_.console.Plain(list);
    return OkStatus();
  }
  PANTRY_RETURN_IF_ERROR(status);
  PANTRY_RETURN_IF_ERROR(GenerateOptionsOf(changed).status());
  options_ = changed;
  return OkStatus();
}

Status Repl::AttachFile(const std::string& path) {
  if (path.empty()) return InvalidArgumentError("/file needs a path");
  if (path == "-") return InvalidArgumentError("/file cannot read the terminal");
  PANTRY_ASSIGN_OR_RETURN(std::string text, ReadWholeFile(path));
  context_.console.Plain(
      fmt::format("{} goes before your next message\n", FormatBytes(static_cast<int64_t>(text.size()))));
  attachment_ += text;
  if (!attachment_.ends_with('\n')) attachment_ += '\n';
  return OkStatus();
}

void Repl::Show() {
  const ModelShape& shape = engine_.shape();
  context_.console.Plain(fmt::format("{} ({})\n{} · {} layers · width {} · vocabulary {} · trained context {}\n{}\n",
                                     Printable(shape.name, SIZE_MAX), engine_.file().path(),
                                     Printable(shape.architecture, SIZE_MAX), shape.n_layers, shape.n_embd,
                                     shape.n_vocab, shape.n_ctx_train, ModeLine(engine_, &session_)));
}

void Repl::Stats() {
  const AnswerTotals& totals = answerer_.totals();
  const auto rate = [](int64_t n, int64_t us) {
    return us > 0 ? static_cast<double>(n) * 1e6 / static_cast<double>(us) : 0.0;
  };
  context_.console.Plain(fmt::format(
      "last answer: {}\nall answers: {} · {} tok at {:.1f} tok/s · prompts {} tok at {:.1f} tok/s, {} reused\ncontext "
      "{}/{} · {}\n",
      answerer_.last_footer().empty() ? "none yet" : answerer_.last_footer(), totals.n_answers, totals.n_written,
      rate(totals.n_decoded, totals.decode_us), totals.n_prompt, rate(totals.n_prompt, totals.prefill_us),
      totals.n_cached, session_.tokens().size(), session_.n_ctx(), MemoryFigure(engine_.memory_plan())));
}

Result<std::string> Repl::ChatPath(const std::string& name) const {
  if (name.empty()) return InvalidArgumentError("give the conversation a name, e.g. /save plan");
  if (name.find('/') != std::string::npos) return name;
  const std::string folder = ChatsFolder(context_.invocation.environment);
  if (folder.empty()) return InvalidArgumentError("there is no home folder; give a path, e.g. ./{}.json", name);
  return folder + "/" + name + ".json";
}

}  // namespace pantry
