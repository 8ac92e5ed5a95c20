// SPDX-License-Identifier: Apache-2.0
// An Engine is a loaded model with everything needed to talk to it: tokenizer, chat template, threads. A Session is one timeline on it.
//
// This is the door for cli, server, eval and the C API; no tensor type passes through it.
// Threads: an Engine is immutable after Open() but owns one thread pool, so sessions of one engine run one at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/logger.h"
#include "base/neuron_observer.h"
#include "base/routing_observer.h"
#include "base/status.h"
#include "base/strong_id.h"
#include "compute/kernels/attention/attention.h"
#include "engine/expert_router.h"
#include "engine/predicted_neurons.h"
#include "engine/resting_neurons.h"
#include "engine/weight_stream.h"
#include "io/open_block_reader.h"
#include "models/model.h"
#include "policy/neurons/neuron_prior.h"
#include "policy/planner/memory_plan.h"
#include "residency/cache/eviction_policy.h"
#include "sys/isa.h"
#include "sys/thread_pool.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"
#include "weights/gguf/gguf_file.h"

namespace pantry {

struct SessionOptions {
  int64_t n_ctx = 0;      // positions; 0: the model's, cut to what memory allows (and said so)
  int32_t n_batch = 512;  // tokens computed together in prefill
  KvType k_type = KvType::kF16;
  KvType v_type = KvType::kF16;
  bool all_logits = false;  // FeedAll() will be called: its memory is planned, too
  int32_t n_sessions = 1;   // of these options that will be open together, in one scratch: memory is planned for all
  Status Validate() const;
};

enum class StreamMode : uint8_t {
  kAuto,  // experts, or the layers of a model without, come from the file where they do not fit in the budget
  kOn,    // always
  kOff,   // never: a model that does not fit is refused
};

struct EngineOptions {
  int32_t n_threads = 0;   // 0: physical cores this process may use
  std::optional<Isa> isa;  // unset: the best this CPU runs
  // Of the whole process; 0: a model with experts, or one that does not fit, gets kAutoMemoryShare of what is available, others all of it.
  int64_t memory_bytes = 0;
  StreamMode stream = StreamMode::kAuto;
  DiskAccess disk_access = DiskAccess::kAuto;  // of a streamed run
  bool sparse = true;                          // networks that gate by ReLU compute only what fires; the same results
  bool lookahead = true;                       // likewise: WeightStreamOptions'
  std::optional<PolicyOptions> cache_policy;   // likewise; unset: what WeightStream chooses
  SparsityOptions sparsity;                    // whether neurons of SiLU networks rest: other results
  PredictorOptions predictor;                  // likewise: whether it is guessed which of ReLU networks fire
  ExpertPolicyOptions expert_policy;  // likewise: whether what is in memory may run in place of what a router chose
  double neuron_prior_strength = 0;   // likewise: how strongly neurons in memory are preferred; 0: not
  SessionOptions session;             // what memory is planned for
  Status Validate() const;
};

class Session;
struct ContextPlan;
struct SessionScratch;

// A token, a part of a prompt, or a token of each of several sessions that was computed; then the position is the first one's.
struct RunReport {
  int64_t first_position = 0;
  int64_t n_tokens = 0;
  int64_t us = 0;
};
using RunObserver = std::function<void(const RunReport& run)>;

// What sessions of such options take, known before anything is loaded: for the planner. A position is one of each of them.
int64_t SessionScratchBytes(const ModelShape& shape, const SessionOptions& options);
int64_t SessionKvBytesPerPosition(const ModelShape& shape, const SessionOptions& options);

// What an engine is made of; for tests that bring a model of their own.
struct EngineParts {
  std::unique_ptr<GgufFile> file;  // may be null: file() must not be called then
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;  // may be null
  std::unique_ptr<Model> model;
  std::unique_ptr<WeightStream> stream;         // null: all weights are in memory
  std::unique_ptr<ExpertRouter> router;         // null: experts run as their routers choose
  std::unique_ptr<RestingNeurons> resting;      // null: all neurons run
  std::unique_ptr<PredictedNeurons> predicted;  // null: every gate is computed
  std::unique_ptr<NeuronPrior> neuron_prior;    // null: all neurons run that fire
  std::optional<MemoryPlan> memory_plan;        // where there is a budget
  const Clock* clock = nullptr;                 // must outlive the engine; null: a SteadyClock
};

class Engine {
 public:
  // Opens and loads `path`. Errors as GgufFile::Open and Model::Load; kOutOfBudget before anything is read when the weights cannot fit
  // (PlanMemory() where there is a budget). `log` must outlive the engine.
  static Result<std::unique_ptr<Engine>> Open(const std::string& path, const EngineOptions& options, Logger& log,
                                              const LoadProgress& progress);
  // The same from a table of contents that is open already, whatever its bytes come from.
  static Result<std::unique_ptr<Engine>> Open(std::unique_ptr<GgufFile> file, const EngineOptions& options, Logger& log,
                                              const LoadProgress& progress);
  static std::unique_ptr<Engine> FromParts(EngineParts parts, Logger& log);
  ~Engine();

  Result<std::unique_ptr<Session>> NewSession(const SessionOptions& options);
  int n_sessions() const { return n_sessions_->load(); }  // that are open

  // Computes with n_threads from now on (0: physical cores), also in sessions that are open. Results do not change.
  Status SetThreads(int32_t n_threads);

  // `observer` is told of every run of any session from now on, after it succeeded; empty: nobody.
  void ObserveRuns(RunObserver observer) { run_observer_ = std::move(observer); }
  const RunObserver& run_observer() const { return run_observer_; }

  // `chooser` says from now on which experts run, in place of EngineOptions::expert_policy; null: that holds again. Borrowed.
  void SetExpertChooser(ExpertChooser* chooser) { expert_chooser_ = chooser; }
  ExpertChooser* expert_chooser() const {
    return expert_chooser_ == nullptr && parts_.router != nullptr ? &parts_.router->chooser() : expert_chooser_;
  }

  // `observer` is told which experts run in every run from now on, also in one that fails afterwards; null: nobody. Borrowed.
  void ObserveRouting(RoutingObserver* observer) { routing_observer_ = observer; }
  RoutingObserver* routing_observer() const { return routing_observer_; }

  // The same for gate and up of the dense layers' neurons.
  void ObserveNeurons(NeuronObserver* observer) { neuron_observer_ = observer; }
  NeuronObserver* neuron_observer() const { return neuron_observer_; }

  const GgufFile& file() const { return *parts_.file; }
  const ModelShape& shape() const { return parts_.model->shape(); }
  const Tokenizer& tokenizer() const { return *parts_.tokenizer; }
  // Null: the model has none, or it does not parse (a warning said so).
  const ChatTemplate* chat_template() const { return parts_.chat_template.get(); }
  const Model& model() const { return *parts_.model; }
  WeightStream* stream() { return parts_.stream.get(); }             // null in a resident run
  ExpertRouter* router() { return parts_.router.get(); }             // null: experts run as their routers choose
  RestingNeurons* resting() { return parts_.resting.get(); }         // null: all neurons run
  PredictedNeurons* predicted() { return parts_.predicted.get(); }   // null: every gate is computed
  NeuronPrior* neuron_prior() { return parts_.neuron_prior.get(); }  // null: all neurons run that fire
  // Whether answers depend on what is in memory, and so on what was computed before.
  bool depends_on_cache() const { return parts_.router != nullptr || parts_.neuron_prior != nullptr; }
  // How the budget is divided; null where there is none.
  const MemoryPlan* memory_plan() const { return parts_.memory_plan ? &*parts_.memory_plan : nullptr; }
  ThreadPool& pool() { return *parts_.pool; }
  const Clock& clock() const { return parts_.clock != nullptr ? *parts_.clock : steady_clock_; }
  Logger& log() { return log_; }

 private:
  Engine(EngineParts parts, Logger& log) : log_(log), parts_(std::move(parts)) {}
  Result<std::shared_ptr<SessionScratch>> ScratchFor(int64_t n_rows);
  void MakeRoomForSessions();
  Logger& log_;
  SteadyClock steady_clock_;
  EngineParts parts_;
  friend class Session;
  // Sessions count themselves out, on whatever thread that is, also when the engine has gone.
  std::shared_ptr<std::atomic<int>> n_sessions_ = std::make_shared<std::atomic<int>>(0);
  std::weak_ptr<SessionScratch> scratch_;
  RunObserver run_observer_;
  ExpertChooser* expert_chooser_ = nullptr;
  RoutingObserver* routing_observer_ = nullptr;
  NeuronObserver* neuron_observer_ = nullptr;
};

// A Session holds the tokens of one conversation and their KV cache.
//
// States: tokens() are computed; Feed() appends, Truncate() forgets. Feeding a prompt that begins with what is there already computes only
// the rest (prefix reuse): call ReusePrefix() first.
// All memory is taken by NewSession() (and once more by the first FeedAll() and FeedTogether()); feeding a token takes none.
// Threads: thread-compatible; see Engine.
// Invariants: (1) tokens().size() <= n_ctx(). (2) the KV cache holds exactly the positions of tokens(), also after an error.
class Session {
 public:
  ~Session();
  int64_t n_ctx() const;
  std::span<const TokenId> tokens() const;  // all computed positions

  // Keeps the longest common prefix of tokens() and `prompt` (at most prompt.size() - 1, so that logits come) and forgets the rest.
  // Returns the number of tokens kept.
  int64_t ReusePrefix(std::span<const TokenId> prompt);
  void Truncate(int64_t n_tokens);
  // Becomes what `other` is: tokens(), keys and values, logits(). So several answers share the work of one prompt. Of the first n_kept
  // positions it keeps its own keys and values. kInvalidArgument: it is of another engine, has another n_ctx() or other KV types, or not the
  // same first n_kept tokens.
  Status CopyFrom(const Session& other, int64_t n_kept = 0);

  // Computes `tokens` in batches of n_batch. logits() then hold those of the last one. kInvalidArgument when the context is too small
  // (says both numbers and the fix); kCancelled when `keep_going(n_done, n_total)` returns false, with what was computed kept.
  Status Feed(std::span<const TokenId> tokens,
              const std::function<bool(int64_t n_done, int64_t n_total)>& keep_going = {});
  // [n_vocab], of the last token; empty when nothing was fed since the session began or was cut.
  std::span<const float> logits() const;

  // As Feed(), with the logits of every token handed to `visit(index in tokens, logits [n_vocab])`, in order.
  Status FeedAll(std::span<const TokenId> tokens,
                 const std::function<void(int64_t index, std::span<const float> logits)>& visit,
                 const std::function<bool(int64_t n_done, int64_t n_total)>& keep_going = {});

  // Feeds one token to each of several sessions of an engine, which reads the weights once for all. Each then has its own logits(), the same
  // bits as if it had been fed alone; but what is lossy and acts on runs of one token only (EngineOptions' expert_policy without in_prompts,
  // neuron_prior_strength, predictor without all_rows) does not act here, so that a run of several is exact. When it fails, none has got a
  // token. kInvalidArgument: not one token for each, a session twice or of another engine, more than there is scratch for
  // (SessionOptions::n_sessions), a context that is full.
  static Status FeedTogether(std::span<Session* const> sessions, std::span<const TokenId> tokens);

  int64_t kv_bytes() const;
  int64_t scratch_bytes() const;    // shared with the engine's other sessions
  const ContextPlan& plan() const;  // why n_ctx() is what it is; policy/planner/context_plan.h

 private:
  friend class Engine;
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
  std::shared_ptr<std::atomic<int>> n_open_;
};

}  // namespace pantry
