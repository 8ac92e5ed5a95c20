// SPDX-License-Identifier: Apache-2.0
// `pantry run`: answers one prompt (-p, -f, standard input), or chats on a terminal.
#include <unistd.h>

#include <optional>
#include <utility>

#include "cli/answer.h"
#include "cli/chat.h"
#include "cli/flag_value.h"
#include "cli/interrupt.h"
#include "cli/known_machine.h"
#include "cli/model_path.h"
#include "cli/model_settings.h"
#include "cli/open_engine.h"
#include "cli/pack_beside.h"
#include "cli/pack_hint.h"
#include "cli/repl.h"
#include "cli/verbs.h"

namespace pantry {
namespace {

// The text of a file as a prompt: the newline that ends the file is the editor's, not the user's.
Result<std::string> ReadPrompt(const std::string& path) {
  PANTRY_ASSIGN_OR_RETURN(std::string text, ReadWholeFile(path));
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

std::string Join(std::string first, const std::string& second) {
  if (first.empty()) return second;
  return std::move(first) + "\n" + second;
}

// -p and -f together, else standard input where that is not a terminal. Nothing: a chat is meant.
Result<std::optional<std::string>> PromptOf(const Invocation& invocation) {
  const CliOptions& options = invocation.options;
  const bool given = invocation.Given("--prompt") || invocation.Given("--file");
  if (!given && (isatty(STDIN_FILENO) == 1 || options.interactive)) return std::optional<std::string>();
  if (!given) {
    PANTRY_ASSIGN_OR_RETURN(std::string text, ReadPrompt("-"));
    if (text.empty()) return InvalidArgumentError("standard input is empty; give a prompt with -p or -f");
    return std::optional(std::move(text));
  }
  std::string prompt = options.escape ? Unescape(options.prompt) : options.prompt;
  if (!options.file.empty()) {
    PANTRY_ASSIGN_OR_RETURN(const std::string text, ReadPrompt(options.file));
    prompt = Join(std::move(prompt), text);
  }
  return std::optional(std::move(prompt));
}

Result<std::string> SystemPromptOf(const CliOptions& options) {
  if (options.system_file.empty()) return options.system_prompt;
  PANTRY_ASSIGN_OR_RETURN(const std::string text, ReadPrompt(options.system_file));
  return Join(options.system_prompt, text);
}

Result<nlohmann::ordered_json> TemplateVariablesOf(const CliOptions& options) {
  if (options.chat_template_kwargs.empty()) return nlohmann::ordered_json::object();
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(options.chat_template_kwargs, nullptr, false);
  if (!json.is_object()) {
    return InvalidArgumentError(
        "--chat-template-kwargs: expected a JSON object such as '{{\"enable_thinking\": false}}', found '{}'",
        options.chat_template_kwargs);
  }
  if (json.contains("messages")) {
    return InvalidArgumentError("--chat-template-kwargs: \"messages\" is the conversation itself and cannot be set");
  }
  return json;
}

// What only the loaded model can tell.
Status CheckLogitBias(const SamplingOptions& sampling, int32_t n_vocab) {
  for (const auto& [token, bias] : sampling.logit_bias) {
    if (token >= n_vocab) {
      return InvalidArgumentError("--logit-bias: token {} does not exist; the model has 0 to {}", token, n_vocab - 1);
    }
  }
  return OkStatus();
}

// The template to use, null for raw text. `own` is the one given by flags, or null.
Result<const ChatTemplate*> ChooseTemplate(const CliOptions& options, const ChatTemplate* own, const Engine& engine) {
  if (options.conversation == false) return nullptr;
  const ChatTemplate* chosen = own != nullptr ? own : engine.chat_template();
  if (chosen == nullptr && options.conversation == true) {
    return InvalidArgumentError("this model has no chat template. Give one with --chat-template-file, or use --no-cnv");
  }
  return chosen;
}

void WarnOfUselessFlags(VerbContext& context, bool is_chat) {
  const std::string_view needs_template[] = {"--system-prompt", "--system-prompt-file", "--chat-template",
                                             "--chat-template-file", "--chat-template-kwargs"};
  for (const std::string_view flag : needs_template) {
    if (!is_chat && context.invocation.Given(flag)) {
      context.console.Warning("{}: no effect here because the prompt is continued as raw text", flag);
    }
  }
  if (is_chat && context.options().parse_special) {
    context.console.Warning("--parse-special: no effect here because the chat template places the control tokens");
  }
}

Result<GenerateResult> AnswerOnce(const CliOptions& options, const Engine& engine, Chat* chat, Answerer& answerer,
                                  const std::string& prompt) {
  PANTRY_ASSIGN_OR_RETURN(const GenerateOptions generate, GenerateOptionsOf(options));
  if (chat == nullptr) {
    const EncodeOptions encode{.add_special = true, .parse_special = options.parse_special};
    return answerer.Answer(engine.tokenizer().Encode(prompt, encode), generate);
  }
  return chat->Say(prompt, answerer, generate);
}

}  // namespace

Status RunVerb(VerbContext& context) {
  Invocation& invocation = context.invocation;
  PANTRY_ASSIGN_OR_RETURN(const std::string model, ModelOf(invocation));
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(invocation));
  CliOptions& options = invocation.options;
  // Everything that can be wrong with flags is found before the model is loaded.
  PANTRY_RETURN_IF_ERROR(GenerateOptionsOf(options).status());
  PANTRY_ASSIGN_OR_RETURN(const SessionOptions session_options, SessionOptionsOf(options));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<ChatTemplate> own_template, ChatTemplateOf(invocation));
  PANTRY_ASSIGN_OR_RETURN(nlohmann::ordered_json variables, TemplateVariablesOf(options));
  PANTRY_ASSIGN_OR_RETURN(const std::string system_prompt, SystemPromptOf(options));
  PANTRY_ASSIGN_OR_RETURN(const std::optional<std::string> prompt, PromptOf(invocation));

  const FreeMemory memory = FreeMemory::Now();
  PANTRY_ASSIGN_OR_RETURN(const EngineOptions engine_options,
                          EngineOptionsOf(options, session_options, memory.available_bytes));
  const std::string path = FileToRun(context, model, engine_options, memory);
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, OpenEngine(context, path, session_options));
  PANTRY_RETURN_IF_ERROR(TakeModelSettings(engine->file().metadata(), invocation));
  PANTRY_RETURN_IF_ERROR(CheckLogitBias(options.sampling, engine->shape().n_vocab));
  PANTRY_ASSIGN_OR_RETURN(const ChatTemplate* chat_template, ChooseTemplate(options, own_template.get(), *engine));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, engine->NewSession(session_options));
  const std::optional<RunForecast> forecast =
      ForecastOf(*engine, session_options, invocation.environment, options.profile);
  const RunForecast* const forecast_or_null = forecast ? &*forecast : nullptr;
  context.console.Note(ModeLine(*engine, session.get(), forecast_or_null));
  SuggestPacking(context, *engine, path);
  WarnOfUselessFlags(context, chat_template != nullptr);

  Answerer answerer(*engine, *session, context.console, context.output, forecast_or_null);
  std::optional<Chat> chat;
  if (chat_template != nullptr) {
    chat.emplace(*engine, *chat_template, std::move(variables));
    chat->SetSystem(system_prompt);
  }
  Chat* const chat_or_null = chat ? &*chat : nullptr;
  if (!prompt || options.interactive) {
    return Repl(context, *engine, *session, answerer, chat_or_null).Run(prompt.value_or(""));
  }
  const Result<GenerateResult> result = AnswerOnce(options, *engine, chat_or_null, answerer, *prompt);
  if (!result.ok()) return result.status();
  return result->stop_reason == StopReason::kCancelled ? CancelledError("interrupted") : OkStatus();
}

}  // namespace pantry
