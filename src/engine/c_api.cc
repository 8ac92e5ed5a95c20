// SPDX-License-Identifier: Apache-2.0
// The C API: converts arguments and errors, catches what might be thrown, and decides nothing.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "engine/c_api_options.h"
#include "engine/engine.h"
#include "engine/generate.h"
#include "pantry/pantry.h"

namespace {

using pantry::OkStatus;
using pantry::RequireNotNull;
using pantry::Result;
using pantry::Status;
using pantry::StatusCode;
using pantry::TokenId;

class CallbackLogger final : public pantry::Logger {
 public:
  CallbackLogger(void (*on_log)(void*, int, const char*), void* user) : on_log_(on_log), user_(user) {}
  void Write(pantry::LogLevel level, std::string_view line) override {
    if (on_log_ != nullptr) on_log_(user_, static_cast<int>(level), std::string(line).c_str());
  }

 private:
  void (*on_log_)(void*, int, const char*);
  void* user_;
};

// The engine with the logger that it refers to.
struct LoadedEngine {
  CallbackLogger log;
  std::unique_ptr<pantry::Engine> engine;
};

}  // namespace

struct pantry_engine {
  std::shared_ptr<LoadedEngine> loaded;
  const pantry::Engine& get() const { return *loaded->engine; }
};

struct pantry_session {
  std::shared_ptr<LoadedEngine> loaded;
  std::unique_ptr<pantry::Session> session;  // goes before the engine
};

namespace {

// Bytes of `text` that fit in `capacity`, without cutting a UTF-8 character.
size_t WholeCharacters(std::string_view text, size_t capacity) {
  if (text.size() <= capacity) return text.size();
  size_t end = capacity;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return end;
}

pantry_code Report(pantry_code code, std::string_view message, pantry_error* out) {
  if (out == nullptr) return code;
  out->code = code;
  const size_t n = WholeCharacters(message, sizeof(out->message) - 1);
  std::copy_n(message.data(), n, out->message);
  out->message[n] = '\0';
  return code;
}

pantry_code Report(const Status& status, pantry_error* out) {
  static_assert(static_cast<int>(StatusCode::kInternal) == PANTRY_INTERNAL, "the codes are the same numbers");
  return Report(static_cast<pantry_code>(status.code()), status.message(), out);
}

// Runs `body` and turns its status, or what it throws, into a code.
template <typename Body>
pantry_code Guarded(pantry_error* out, Body&& body) {
  try {
    return Report(body(), out);
  } catch (const std::bad_alloc&) {
    return Report(PANTRY_OUT_OF_BUDGET, "the system has no memory left", out);
  } catch (const std::exception& error) {
    return Report(PANTRY_INTERNAL, error.what(), out);
  } catch (...) {
    return Report(PANTRY_INTERNAL, "unknown exception", out);
  }
}

template <typename T>
pantry_code CopyOut(const T* items, size_t n, const char* what, T* out, size_t capacity, size_t* n_out,
                    pantry_error* error) {
  *n_out = n;
  if (n > capacity || (out == nullptr && n > 0)) {
    return Report(PANTRY_BUFFER_TOO_SMALL, fmt::format("{} {}, room for {}", n, what, out == nullptr ? 0 : capacity),
                  error);
  }
  std::copy_n(items, n, out);
  return Report(OkStatus(), error);
}

// An array of messages becomes a conversation that asks for an answer. What is no JSON stays as it is: rendering says why.
std::string ToConversation(std::string_view json) {
  const size_t first = json.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || json[first] != '[' || !nlohmann::json::accept(json)) return std::string(json);
  return fmt::format(R"({{"messages": {}, "add_generation_prompt": true}})", json);
}

Result<std::vector<TokenId>> RenderChat(const pantry::Engine& engine, std::string_view json) {
  const pantry::ChatTemplate* chat_template = engine.chat_template();
  if (chat_template == nullptr) return pantry::NotFoundError("the model has no chat template that can be used");
  const pantry::Tokenizer& tokenizer = engine.tokenizer();
  pantry::RenderOptions options;
  options.variables["bos_token"] = tokenizer.TokenText(tokenizer.bos());
  options.variables["eos_token"] = tokenizer.TokenText(tokenizer.eos());
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  options.now_unix_seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  PANTRY_ASSIGN_OR_RETURN(const pantry::RenderedPrompt prompt, chat_template->Render(ToConversation(json), options));
  return EncodePrompt(tokenizer, prompt);
}

// Joins a token with the text that it made certain.
struct TokenCallback {
  pantry_on_token on_token;
  void* user;
  std::string text;

  pantry::GenerateCallbacks Callbacks() {
    pantry::GenerateCallbacks callbacks;
    if (on_token == nullptr) return callbacks;
    callbacks.on_text = [this](std::string_view more) {
      text += more;
      return true;
    };
    callbacks.on_token = [this](TokenId token) { return Call(token); };
    return callbacks;
  }
  bool Call(TokenId token) {
    const std::string now = std::exchange(text, {});
    return on_token(user, token, now.c_str(), now.size());
  }
  void Finish() {
    if (!text.empty()) Call(pantry::kNoToken);
  }
};

void WriteResult(const pantry::GenerateResult& from, pantry_generate_result* to) {
  const auto reason = static_cast<pantry_stop_reason>(from.stop_reason);
  const pantry_generate_result result = {
      to->size,        reason,         from.n_prompt,      from.n_cached, static_cast<int64_t>(from.tokens.size()),
      from.prefill_us, from.decode_us, from.first_token_us};
  std::memcpy(static_cast<void*>(to), &result, std::min(to->size, sizeof(result)));
}

void WriteFigures(pantry::Engine& engine, pantry_stream_figures* to) {
  pantry_stream_figures figures = {};
  figures.size = to->size;
  figures.budget_bytes = engine.memory_plan() != nullptr ? engine.memory_plan()->budget_bytes : -1;
  figures.weight_kept = 1;
  if (const pantry::WeightStream* const stream = engine.stream()) {
    const pantry::WeightStreamStats stats = stream->stats();
    figures.cache_bytes = stream->cache_bytes();
    figures.n_demanded = stats.cache.n_demanded;
    figures.n_hits = stats.cache.n_hits;
    figures.n_late = stats.cache.n_late;
    figures.bytes_read = stats.bytes_read();
    figures.wait_us = stats.stream.wait_us;
  }
  if (pantry::ExpertRouter* const router = engine.router()) {
    const pantry::RoutingCounts& counts = router->chooser().counts();
    figures.n_picks = counts.n_picks;
    figures.n_agreed = counts.n_agreed;
    figures.weight_kept = counts.gate_mass();
    figures.excess_kl = counts.mean_excess_kl();
  }
  std::memcpy(static_cast<void*>(to), &figures, std::min(to->size, sizeof(figures)));
}

Status OpenEngine(const char* path, const pantry_engine_options* from, pantry_engine** engine) {
  PANTRY_RETURN_IF_ERROR(RequireNotNull(engine, "engine"));
  *engine = nullptr;
  PANTRY_RETURN_IF_ERROR(RequireNotNull(path, "path"));
  PANTRY_ASSIGN_OR_RETURN(const pantry_engine_options options, pantry::ReadEngineOptions(from));
  PANTRY_ASSIGN_OR_RETURN(const pantry::EngineOptions engine_options, pantry::ToEngineOptions(options));
  auto loaded = std::make_shared<LoadedEngine>(LoadedEngine{CallbackLogger(options.on_log, options.user), nullptr});
  pantry::LoadProgress progress;
  if (options.on_progress != nullptr) {
    progress = [&options](int64_t done, int64_t total) { return options.on_progress(options.user, done, total); };
  }
  PANTRY_ASSIGN_OR_RETURN(loaded->engine, pantry::Engine::Open(path, engine_options, loaded->log, progress));
  *engine = new pantry_engine{std::move(loaded)};
  return OkStatus();
}

Status NewSession(pantry_engine* engine, const pantry_session_options* from, pantry_session** session) {
  PANTRY_RETURN_IF_ERROR(RequireNotNull(session, "session"));
  *session = nullptr;
  PANTRY_RETURN_IF_ERROR(RequireNotNull(engine, "engine"));
  PANTRY_ASSIGN_OR_RETURN(const pantry::SessionOptions session_options, pantry::ToSessionOptions(from));
  PANTRY_ASSIGN_OR_RETURN(auto made, engine->loaded->engine->NewSession(session_options));
  *session = new pantry_session{engine->loaded, std::move(made)};
  return OkStatus();
}

// Calls `make`, which gives a Result<container>, and copies what it made to the caller's buffer.
template <typename T, typename Make>
pantry_code MakeAndCopyOut(const char* what, T* out, size_t capacity, size_t* n_out, pantry_error* error, Make&& make) {
  decltype(make()) made = pantry::InternalError("nothing was made");
  const pantry_code code = Guarded(error, [&]() -> Status {
    PANTRY_RETURN_IF_ERROR(RequireNotNull(n_out, "the place for the count"));
    *n_out = 0;
    made = make();
    return made.status();
  });
  return code != PANTRY_OK ? code : CopyOut(made->data(), made->size(), what, out, capacity, n_out, error);
}

}  // namespace

extern "C" {

const char* pantry_version(void) { return PANTRY_VERSION; }

pantry_code pantry_engine_open(const char* path, const pantry_engine_options* options, pantry_engine** engine,
                               pantry_error* error) {
  return Guarded(error, [&] { return OpenEngine(path, options, engine); });
}
void pantry_engine_close(pantry_engine* engine) { delete engine; }

int32_t pantry_vocabulary_size(const pantry_engine* engine) { return engine->get().shape().n_vocab; }
int32_t pantry_trained_context(const pantry_engine* engine) { return engine->get().shape().n_ctx_train; }
bool pantry_is_end_of_generation(const pantry_engine* engine, int32_t token) {
  return engine->get().tokenizer().IsEndOfGeneration(token);
}

pantry_code pantry_tokenize(const pantry_engine* engine, const char* text, size_t n_bytes, bool add_special,
                            bool parse_special, int32_t* tokens, size_t capacity, size_t* n_tokens,
                            pantry_error* error) {
  return MakeAndCopyOut("tokens", tokens, capacity, n_tokens, error, [&]() -> Result<std::vector<TokenId>> {
    PANTRY_RETURN_IF_ERROR(RequireNotNull(engine, "engine"));
    if (n_bytes > 0) PANTRY_RETURN_IF_ERROR(RequireNotNull(text, "text"));
    return engine->get().tokenizer().Encode({text, n_bytes}, {add_special, parse_special});
  });
}

pantry_code pantry_detokenize(const pantry_engine* engine, const int32_t* tokens, size_t n_tokens, bool special,
                              char* text, size_t capacity, size_t* n_bytes, pantry_error* error) {
  const pantry_code code = MakeAndCopyOut("bytes", text, capacity, n_bytes, error, [&]() -> Result<std::string> {
    PANTRY_RETURN_IF_ERROR(RequireNotNull(engine, "engine"));
    if (n_tokens > 0) PANTRY_RETURN_IF_ERROR(RequireNotNull(tokens, "tokens"));
    return engine->get().tokenizer().Decode({tokens, n_tokens}, special);
  });
  if (code == PANTRY_OK && text != nullptr && *n_bytes < capacity) text[*n_bytes] = '\0';
  return code;
}

pantry_code pantry_render_chat(const pantry_engine* engine, const char* messages_json, size_t n_bytes, int32_t* tokens,
                               size_t capacity, size_t* n_tokens, pantry_error* error) {
  return MakeAndCopyOut("tokens", tokens, capacity, n_tokens, error, [&]() -> Result<std::vector<TokenId>> {
    PANTRY_RETURN_IF_ERROR(RequireNotNull(engine, "engine"));
    PANTRY_RETURN_IF_ERROR(RequireNotNull(messages_json, "messages_json"));
    return RenderChat(engine->get(), {messages_json, n_bytes});
  });
}

pantry_code pantry_session_new(pantry_engine* engine, const pantry_session_options* options, pantry_session** session,
                               pantry_error* error) {
  return Guarded(error, [&] { return NewSession(engine, options, session); });
}
void pantry_session_free(pantry_session* session) { delete session; }

int64_t pantry_session_context(const pantry_session* session) { return session->session->n_ctx(); }
int64_t pantry_session_n_tokens(const pantry_session* session) {
  return static_cast<int64_t>(session->session->tokens().size());
}

pantry_code pantry_feed(pantry_session* session, const int32_t* tokens, size_t n_tokens,
                        bool (*on_prompt)(void* user, int64_t n_done, int64_t n_total), void* user,
                        pantry_error* error) {
  return Guarded(error, [&]() -> Status {
    PANTRY_RETURN_IF_ERROR(RequireNotNull(session, "session"));
    if (n_tokens > 0) PANTRY_RETURN_IF_ERROR(RequireNotNull(tokens, "tokens"));
    std::function<bool(int64_t, int64_t)> keep_going;
    if (on_prompt != nullptr) {
      keep_going = [=](int64_t n_done, int64_t n_total) { return on_prompt(user, n_done, n_total); };
    }
    return session->session->Feed({tokens, n_tokens}, keep_going);
  });
}
void pantry_truncate(pantry_session* session, int64_t n_tokens) { session->session->Truncate(n_tokens); }
int64_t pantry_reuse_prefix(pantry_session* session, const int32_t* prompt, size_t n_tokens) {
  return session->session->ReusePrefix({prompt, n_tokens});
}
const float* pantry_logits(const pantry_session* session, size_t* n_logits) {
  const std::span<const float> logits = session->session->logits();
  if (n_logits != nullptr) *n_logits = logits.size();
  return logits.empty() ? nullptr : logits.data();
}

pantry_code pantry_generate(pantry_session* session, const int32_t* prompt, size_t n_tokens,
                            const pantry_generate_options* options, pantry_on_token on_token, void* user,
                            pantry_generate_result* result, pantry_error* error) {
  return Guarded(error, [&]() -> Status {
    PANTRY_RETURN_IF_ERROR(RequireNotNull(session, "session"));
    if (n_tokens > 0) PANTRY_RETURN_IF_ERROR(RequireNotNull(prompt, "prompt"));
    if (result != nullptr && result->size < sizeof(size_t)) {
      return pantry::InvalidArgumentError("pantry_generate_result: size is {}; set it to sizeof the struct",
                                          result->size);
    }
    PANTRY_ASSIGN_OR_RETURN(const pantry_generate_options read, pantry::ReadGenerateOptions(options));
    PANTRY_ASSIGN_OR_RETURN(const pantry::GenerateOptions generate, pantry::ToGenerateOptions(read));
    TokenCallback callback{on_token, user, {}};
    pantry::GenerateCallbacks callbacks = callback.Callbacks();
    if (read.on_prompt != nullptr) {
      callbacks.on_prefill = [&](int64_t n_done, int64_t n_total) { return read.on_prompt(user, n_done, n_total); };
    }
    PANTRY_ASSIGN_OR_RETURN(
        const pantry::GenerateResult made,
        pantry::Generate(*session->loaded->engine, *session->session, {prompt, n_tokens}, generate, callbacks));
    callback.Finish();
    if (result != nullptr) WriteResult(made, result);
    return OkStatus();
  });
}

pantry_code pantry_get_stream_figures(pantry_engine* engine, pantry_stream_figures* figures, pantry_error* error) {
  return Guarded(error, [&]() -> Status {
    PANTRY_RETURN_IF_ERROR(RequireNotNull(engine, "engine"));
    PANTRY_RETURN_IF_ERROR(RequireNotNull(figures, "figures"));
    if (figures->size < sizeof(size_t)) {
      return pantry::InvalidArgumentError("pantry_stream_figures: set size to its sizeof first, it is {}",
                                          figures->size);
    }
    WriteFigures(*engine->loaded->engine, figures);
    return OkStatus();
  });
}

}  // extern "C"
