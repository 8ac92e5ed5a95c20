// SPDX-License-Identifier: Apache-2.0
#include "engine/c_api_options.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace pantry {
namespace {

// Options of a caller whose header may be older (shorter) or newer (longer) than this library. `name` is for messages.
template <typename Options>
Status ReadOptions(const Options* from, const char* name, Options& to) {
  static_assert(std::is_trivially_copyable_v<Options>);
  if (from == nullptr) return OkStatus();
  if (from->size < sizeof(size_t)) {
    return InvalidArgumentError("{}: size is {}; fill the struct in with its _init function", name, from->size);
  }
  const auto* bytes = reinterpret_cast<const unsigned char*>(from);
  for (size_t i = sizeof(Options); i < from->size; ++i) {
    if (bytes[i] != 0) {
      return UnsupportedError("{}: a field at byte {} is set that this version does not know", name, i);
    }
  }
  std::memcpy(static_cast<void*>(&to), from, std::min(from->size, sizeof(Options)));
  to.size = sizeof(Options);
  return OkStatus();
}

// Defaults for a caller whose struct has `size` bytes.
template <typename Options>
void WriteDefaults(Options defaults, Options* to, size_t size) {
  if (to == nullptr || size < sizeof(size_t)) return;
  std::memset(static_cast<void*>(to), 0, size);
  defaults.size = size;
  std::memcpy(static_cast<void*>(to), &defaults, std::min(size, sizeof(Options)));
}

pantry_engine_options DefaultEngineOptions() {
  return {sizeof(pantry_engine_options), 0, nullptr, nullptr, nullptr, nullptr, 0, 0, 0, nullptr, nullptr};
}

pantry_session_options DefaultSessionOptions() {
  const SessionOptions defaults;
  return {sizeof(pantry_session_options), defaults.n_ctx, defaults.n_batch, nullptr};
}

pantry_sampling DefaultSampling() {
  const SamplingOptions d;
  return {sizeof(pantry_sampling),
          d.temperature,
          d.top_k,
          d.top_p,
          d.min_p,
          d.typical_p,
          d.repeat_penalty,
          d.repeat_last_n,
          d.presence_penalty,
          d.frequency_penalty,
          d.seed};
}

pantry_generate_options DefaultGenerateOptions() {
  return {sizeof(pantry_generate_options), nullptr, -1, nullptr, 0, false, nullptr};
}

SamplingOptions ToSamplingOptions(const pantry_sampling& from) {
  SamplingOptions to;
  to.temperature = from.temperature;
  to.top_k = from.top_k;
  to.top_p = from.top_p;
  to.min_p = from.min_p;
  to.typical_p = from.typical_p;
  to.repeat_penalty = from.repeat_penalty;
  to.repeat_last_n = from.repeat_last_n;
  to.presence_penalty = from.presence_penalty;
  to.frequency_penalty = from.frequency_penalty;
  to.seed = from.seed;
  return to;
}

}  // namespace

Status RequireNotNull(const void* pointer, const char* name) {
  return pointer != nullptr ? OkStatus() : InvalidArgumentError("{} is NULL", name);
}

Result<pantry_engine_options> ReadEngineOptions(const pantry_engine_options* from) {
  pantry_engine_options options = DefaultEngineOptions();
  PANTRY_RETURN_IF_ERROR(ReadOptions(from, "pantry_engine_options", options));
  return options;
}

Result<EngineOptions> ToEngineOptions(const pantry_engine_options& from) {
  EngineOptions to;
  to.n_threads = from.n_threads;
  if (from.isa != nullptr) {
    PANTRY_ASSIGN_OR_RETURN(to.isa, ParseIsa(from.isa));
  }
  to.memory_bytes = from.memory_bytes;
  to.session.n_ctx = from.n_ctx;
  if (from.n_batch != 0) to.session.n_batch = from.n_batch;
  if (from.expert_policy != nullptr) {
    PANTRY_ASSIGN_OR_RETURN(to.expert_policy.policy, ParseExpertPolicy(from.expert_policy));
  }
  if (from.neuron_policy != nullptr) {
    PANTRY_ASSIGN_OR_RETURN(to.neuron_prior_strength, ParseNeuronPolicy(from.neuron_policy));
  }
  return to;
}

Result<SessionOptions> ToSessionOptions(const pantry_session_options* from) {
  pantry_session_options options = DefaultSessionOptions();
  PANTRY_RETURN_IF_ERROR(ReadOptions(from, "pantry_session_options", options));
  SessionOptions to;
  to.n_ctx = options.n_ctx;
  to.n_batch = options.n_batch;
  if (options.kv_type != nullptr) {
    PANTRY_ASSIGN_OR_RETURN(to.k_type, ParseKvType(options.kv_type));
    to.v_type = to.k_type;
  }
  return to;
}

Result<pantry_generate_options> ReadGenerateOptions(const pantry_generate_options* from) {
  pantry_generate_options options = DefaultGenerateOptions();
  PANTRY_RETURN_IF_ERROR(ReadOptions(from, "pantry_generate_options", options));
  return options;
}

Result<GenerateOptions> ToGenerateOptions(const pantry_generate_options& options) {
  pantry_sampling sampling = DefaultSampling();
  PANTRY_RETURN_IF_ERROR(ReadOptions(options.sampling, "pantry_sampling", sampling));
  GenerateOptions to;
  to.sampling = ToSamplingOptions(sampling);
  to.max_tokens = options.max_tokens;
  to.ignore_eos = options.ignore_eos;
  if (options.n_stop > 0) PANTRY_RETURN_IF_ERROR(RequireNotNull(options.stop, "stop"));
  for (size_t i = 0; i < options.n_stop; ++i) {
    PANTRY_RETURN_IF_ERROR(RequireNotNull(options.stop[i], "a stop text"));
    to.stop.emplace_back(options.stop[i]);
  }
  return to;
}

}  // namespace pantry

extern "C" {

void pantry_engine_options_init(pantry_engine_options* options, size_t size) {
  pantry::WriteDefaults(pantry::DefaultEngineOptions(), options, size);
}
void pantry_session_options_init(pantry_session_options* options, size_t size) {
  pantry::WriteDefaults(pantry::DefaultSessionOptions(), options, size);
}
void pantry_sampling_init(pantry_sampling* sampling, size_t size) {
  pantry::WriteDefaults(pantry::DefaultSampling(), sampling, size);
}
void pantry_generate_options_init(pantry_generate_options* options, size_t size) {
  pantry::WriteDefaults(pantry::DefaultGenerateOptions(), options, size);
}

}  // extern "C"
