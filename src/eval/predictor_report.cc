// SPDX-License-Identifier: Apache-2.0
// The figures of trained predictors for people and programs.
#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>

#include "eval/predictor_training.h"

namespace pantry {
namespace {

using Network = PredictorFile::Network;

// Networks taken together, each weighing as much as any other.
struct Means {
  double rank = 0, recall = 0, density = 0, true_share = 0;
  int64_t n_bytes = 0;
  int64_t n_without = 0;  // predictors
};

Means MeansOf(std::span<const Network> networks) {
  Means means;
  double n_firing = 0, n_found = 0;
  for (const Network& network : networks) {
    means.rank += std::max(network.rank, 0);
    means.density += network.density;
    n_firing += network.true_share;
    n_found += static_cast<double>(network.true_share) * network.recall;
    means.n_bytes += network.n_bytes();
    means.n_without += network.has_predictor() ? 0 : 1;
  }
  const auto n = static_cast<double>(networks.size());
  means.rank /= n;
  means.density /= n;
  means.true_share = n_firing / n;
  means.recall = n_firing > 0 ? n_found / n_firing : 1;
  return means;
}

void AppendRow(std::string_view layer, std::span<const Network> networks, std::string* table) {
  const Means means = MeansOf(networks);
  fmt::format_to(std::back_inserter(*table), "{:>5} {:>7.4g} {:>7.2f} {:>9.1f} {:>6.1f} {:>10} {:>9}\n", layer,
                 means.rank, 100 * means.recall, 100 * means.density, 100 * means.true_share, means.n_bytes,
                 means.n_without);
}

}  // namespace

std::string PredictorTable(const PredictorFile& file) {
  std::string table = "layer    rank  recall predicted  fires      bytes  exact\n";
  const std::span<const Network> all(file.networks);
  const auto n = static_cast<size_t>(file.n_networks);
  for (size_t layer = 0; layer < static_cast<size_t>(file.n_layers); ++layer) {
    AppendRow(std::to_string(layer), all.subspan(layer * n, n), &table);
  }
  AppendRow("all", all, &table);
  return table +
         "rank: mean; recall: % of what fires that is predicted; predicted, fires: % of the neurons; all of "
         "them on the part of the text\nthat was held back. exact: networks without a predictor, since computing "
         "every gate reads no more.\n";
}

std::string PredictorJson(const TrainedPredictors& trained) {
  using Json = nlohmann::ordered_json;
  const PredictorFile& file = trained.file;
  Json json = {{"model", file.model},
               {"tokens", file.n_tokens},
               {"recall_wanted", file.recall},
               {"neurons", file.n_neurons},
               {"networks", Json::array()}};
  for (size_t i = 0; i < file.networks.size(); ++i) {
    const Network& network = file.networks[i];
    Json tried = Json::array();
    for (const RankTried& rank : trained.tried[i]) {
      tried.push_back(
          {{"rank", rank.rank}, {"predicted_share", rank.density}, {"bytes_per_token", rank.bytes_per_token}});
    }
    json["networks"].push_back({{"layer", static_cast<int64_t>(i) / file.n_networks},
                                {"expert", static_cast<int64_t>(i) % file.n_networks},
                                {"rank", network.has_predictor() ? Json(network.rank) : Json()},
                                {"recall", network.recall},
                                {"predicted_share", network.density},
                                {"firing_share", network.true_share},
                                {"bytes", network.n_bytes()},
                                {"tried", std::move(tried)}});
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace pantry
