// SPDX-License-Identifier: Apache-2.0
#include "eval/neuron_profile.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "eval/expert_recorder.h"
#include "eval/neuron_recorder.h"
#include "eval/observed_text.h"

namespace pantry {
namespace {

using KeepGoing = std::function<bool(int64_t n_done, int64_t n_total)>;

template <typename Recorder>
Status ReadWindows(Engine& engine, Session& session, const ObservedText& windows, Recorder& recorder,
                   const std::function<bool(int64_t n_done)>& keep_going) {
  const auto at_window = [&](size_t i) {
    if (i == 1 && !recorder.heard_all_layers()) return SilentNeurons(engine.shape());
    if constexpr (requires { recorder.BeginText(); }) recorder.BeginText();
    return OkStatus();
  };
  return windows.Read(engine, session, 0, windows.n(), recorder, at_window, keep_going);
}

}  // namespace

Status NeuronProfileOptions::Validate() const {
  PANTRY_RETURN_IF_ERROR(ObservedTextOptions::Validate(kLeastTokens, kLeastTokens));
  if (!(sparsity > 0) || sparsity > NeuronProfile::kMostSparsity) {
    return InvalidArgumentError("--sparsity {}: expected more than 0, up to {}", sparsity,
                                NeuronProfile::kMostSparsity);
  }
  return OkStatus();
}

Result<NeuronProfile> ProfileNeurons(Engine& engine, std::string_view text, const NeuronProfileOptions& options,
                                     const KeepGoing& keep_going) {
  PANTRY_RETURN_IF_ERROR(options.Validate());
  const ModelShape& shape = engine.shape();
  if (shape.has_experts() && !shape.gates_by_relu()) {
    return UnsupportedError(
        "the neurons of the model's experts all do something, and a profile is of those that rest; which experts run "
        "tells 'pantry run --routing-trace'");
  }
  PANTRY_ASSIGN_OR_RETURN(const ObservedText windows, ObservedText::Cut(engine, text, options.n_ctx, options.max_tokens,
                                                                        NeuronProfileOptions::kLeastTokens));
  PANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, engine.NewSession(options.session()));
  const bool reads_twice = !shape.gates_by_relu();
  const auto n_tokens = static_cast<int64_t>(windows.tokens.size());
  const auto of_pass = [&](int64_t n_before) -> std::function<bool(int64_t)> {
    if (!keep_going) return {};
    return
        [&, n_before](int64_t n_done) { return keep_going(n_before + n_done, reads_twice ? 2 * n_tokens : n_tokens); };
  };

  NeuronProfile profile;
  profile.model = shape.name;
  profile.activation = shape.activation;
  profile.n_tokens = n_tokens;
  profile.sparsity = reads_twice ? static_cast<float>(options.sparsity) : 0;
  profile.n_neurons = shape.n_neurons();
  profile.n_experts = shape.n_experts;
  profile.layers.resize(static_cast<size_t>(shape.n_layers));
  PANTRY_ASSIGN_OR_RETURN(profile.weights, NormsHash(engine.file()));

  if (shape.has_experts()) {
    ExpertRecorder recorder(shape);
    PANTRY_RETURN_IF_ERROR(ReadWindows(engine, *session, windows, recorder, of_pass(0)));
    for (int32_t i = 0; i < shape.n_layers; ++i) {
      profile.layers[static_cast<size_t>(i)] = recorder.Layer(i, n_tokens);
    }
    return profile;
  }
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
