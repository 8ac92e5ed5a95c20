// SPDX-License-Identifier: Apache-2.0
#include "eval/neuron_profile.h"

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "eval/neuron_recorder.h"
#include "eval/text_windows.h"

namespace pantry {
namespace {

using KeepGoing = std::function<bool(int64_t n_done, int64_t n_total)>;

// Observes while it lives.
class Listening {
 public:
  Listening(Engine& engine, NeuronObserver& observer) : engine_(engine) { engine_.ObserveNeurons(&observer); }
  ~Listening() { engine_.ObserveNeurons(nullptr); }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;

 private:
  Engine& engine_;
};

// Windows as they are fed, one behind the other.
struct Windows {
  std::vector<TokenId> tokens;
  size_t length = 0;
  size_t n() const { return tokens.size() / length; }
  std::span<const TokenId> At(size_t i) const { return std::span(tokens).subspan(i * length, length); }
};

Result<Windows> CutWindows(const Engine& engine, std::string_view text, const NeuronProfileOptions& options) {
  const Tokenizer& tokenizer = engine.tokenizer();
  const std::vector<TokenId> all = tokenizer.Encode(text, EncodeOptions{});
  PANTRY_RETURN_IF_ERROR(CheckTokens(all, engine.shape().n_vocab));
  const auto n_all = static_cast<int64_t>(all.size());
  if (n_all < NeuronProfileOptions::kLeastTokens) {
    return InvalidArgumentError("the text has {} tokens, a profile needs {} at least; use a longer text", n_all,
                                NeuronProfileOptions::kLeastTokens);
  }
  Windows windows;
  windows.length = static_cast<size_t>(std::min({options.n_ctx, options.max_tokens, n_all}));
  const size_t n_there = all.size() / windows.length;
  const size_t n = std::min(n_there, static_cast<size_t>(options.max_tokens) / windows.length);
  for (size_t i = 0; i < n; ++i) {
    const auto begin = all.begin() + static_cast<ptrdiff_t>(i * n_there / n * windows.length);
    windows.tokens.insert(windows.tokens.end(), begin, begin + static_cast<ptrdiff_t>(windows.length));
    if (tokenizer.adds_bos()) windows.tokens[i * windows.length] = tokenizer.bos();
  }
  return windows;
}

Status ReadWindows(Engine& engine, Session& session, const Windows& windows, NeuronRecorder& recorder,
                   const KeepGoing& keep_going) {
  const Listening listening(engine, recorder);
  for (size_t i = 0; i < windows.n(); ++i) {
    session.Truncate(0);
    recorder.BeginText();
    const auto begin = static_cast<int64_t>(i * windows.length);
    KeepGoing in_window;
    if (keep_going) in_window = [&](int64_t n_done, int64_t) { return keep_going(begin + n_done, 0); };
    PANTRY_RETURN_IF_ERROR(session.Feed(windows.At(i), in_window));
    if (i == 0 && !recorder.heard_all_layers()) {
      return UnsupportedError("models of architecture '{}' do not tell yet what their neurons do",
                              engine.shape().architecture);
    }
  }
  return OkStatus();
}

}  // namespace

Status NeuronProfileOptions::Validate() const {
  if (max_tokens < kLeastTokens) {
    return InvalidArgumentError("--n-tokens {}: expected {} tokens or more", max_tokens, kLeastTokens);
  }
  if (n_ctx < kLeastTokens) {
    return InvalidArgumentError("--ctx-size {}: expected a window of {} tokens or more", n_ctx, kLeastTokens);
  }
  if (!(sparsity > 0) || sparsity > NeuronProfile::kMostSparsity) {
    return InvalidArgumentError("--sparsity {}: expected more than 0, up to {}", sparsity,
                                NeuronProfile::kMostSparsity);
  }
  return OkStatus();
}

SessionOptions NeuronProfileOptions::session() const {
  SessionOptions session;
  session.n_ctx = std::min(n_ctx, max_tokens);
  session.n_batch = n_batch;
  return session;
}

Result<NeuronProfile> ProfileNeurons(Engine& engine, std::string_view text, const NeuronProfileOptions& options,
                                     const KeepGoing& keep_going) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  const ModelShape& shape = engine.shape();
  if (shape.has_experts()) {
    return UnsupportedError(
        "the model has experts, and profiles are of dense networks; which experts run tells 'pantry run "
        "--routing-trace'");
  }
  PANTRY_ASSIGN_OR_RETURN(const Windows windows, CutWindows(engine, text, options));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, engine.NewSession(options.session()));
  const bool reads_twice = !shape.gates_by_relu();
  const auto n_tokens = static_cast<int64_t>(windows.tokens.size());
  const auto of_pass = [&](int64_t n_before) -> KeepGoing {
    if (!keep_going) return {};
    return [&, n_before](int64_t n_done, int64_t) {
      return keep_going(n_before + n_done, reads_twice ? 2 * n_tokens : n_tokens);
    };
  };

  NeuronProfile profile;
  profile.model = shape.name;
  profile.activation = shape.activation;
  profile.n_tokens = n_tokens;
  profile.sparsity = reads_twice ? static_cast<float>(options.sparsity) : 0;
  profile.n_neurons = shape.n_ff;
  profile.layers.resize(static_cast<size_t>(shape.n_layers));
  PANTRY_ASSIGN_OR_RETURN(profile.weights, NormsHash(engine.file()));

  std::vector<FiringGates> firing(profile.layers.size(), FiringGates::Positive());
  if (reads_twice) {
    NeuronRecorder sizes(shape, firing);
    PANTRY_RETURN_IF_ERROR(ReadWindows(engine, *session, windows, sizes, of_pass(0)));
    for (int32_t i = 0; i < shape.n_layers; ++i) {
      NeuronProfile::Layer layer;
      layer.thresholds = sizes.Thresholds(i);
      firing[static_cast<size_t>(i)] = FiringGates::OfSilu(layer.ThresholdFor(options.sparsity));
    }
  }
  NeuronRecorder recorder(shape, firing);
  PANTRY_RETURN_IF_ERROR(ReadWindows(engine, *session, windows, recorder, of_pass(reads_twice ? n_tokens : 0)));
  for (int32_t i = 0; i < shape.n_layers; ++i) profile.layers[static_cast<size_t>(i)] = recorder.Layer(i);
  return profile;
}

}  // namespace pantry
