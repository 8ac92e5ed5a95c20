// SPDX-License-Identifier: Apache-2.0
#include "weights/profile/predictor_file.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "weights/profile/hashed_bytes.h"

namespace pantry {
namespace {

constexpr std::string_view kMagic = "PANTRYPD";
constexpr uint32_t kVersion = 1;
constexpr uint32_t kMostLayers = 1 << 16;
constexpr uint32_t kMostNetworks = 1 << 16;  // of a layer
constexpr uint64_t kMostInAll = 1 << 20;     // networks; the largest models have some ten thousand
constexpr uint32_t kMostWidth = 1 << 24;
constexpr uint32_t kMostName = 4096;
constexpr size_t kNetworkBytes = 16;

constexpr std::string_view kAgain = "make it again with 'pantry profile train'";

bool IsShare(float x) { return x >= 0 && x <= 1; }
bool IsFiniteHalf(uint16_t half) { return (half & 0x7C00) != 0x7C00; }

// What the fixed bytes say; networks are as many as there are, and empty.
struct Head {
  PredictorFile file;
  uint64_t n_networks = 0;  // in all
  uint32_t n_name = 0;

  uint64_t table_bytes() const { return kFixedBytes + n_name + kNetworkBytes * n_networks; }
  uint64_t BytesOf(int32_t rank) const {
    if (rank == PredictorFile::kNone) return 0;
    const auto n_inputs = static_cast<uint64_t>(file.n_inputs), n_neurons = static_cast<uint64_t>(file.n_neurons);
    return sizeof(float) * n_neurons + sizeof(uint16_t) * static_cast<uint64_t>(rank) * (n_inputs + n_neurons);
  }
};

Result<Head> ReadHead(std::string_view bytes, const std::string& path) {
  if (!bytes.starts_with(kMagic)) return CorruptionError("{}: not a predictor of 'pantry profile train'", path);
  ByteTaker taker(bytes.substr(kMagic.size()));
  if (const auto version = taker.Take<uint32_t>(); version != kVersion) {
    return UnsupportedError("{}: version {}, this program knows {}; {}", path, version, kVersion, kAgain);
  }
  Head head;
  PredictorFile& file = head.file;
  const auto n_layers = taker.Take<uint32_t>(), n_networks = taker.Take<uint32_t>(), n_inputs = taker.Take<uint32_t>();
  taker.Take(file.weights);
  const auto n_neurons = taker.Take<uint32_t>();
  taker.Take(file.recall);
  taker.Take(head.n_name);
  file.n_tokens = taker.Take<uint32_t>();
  const bool is_sound = n_layers <= kMostLayers && n_networks >= 1 && n_networks <= kMostNetworks &&
                        uint64_t{n_layers} * n_networks <= kMostInAll && n_inputs >= 1 && n_inputs <= kMostWidth &&
                        n_neurons >= 1 && n_neurons <= kMostWidth && IsShare(file.recall) && head.n_name <= kMostName;
  if (!is_sound) return CorruptionError("{}: its head is damaged; {}", path, kAgain);
  file.n_layers = static_cast<int32_t>(n_layers);
  file.n_networks = static_cast<int32_t>(n_networks);
  file.n_inputs = static_cast<int32_t>(n_inputs);
  file.n_neurons = static_cast<int32_t>(n_neurons);
  head.n_networks = uint64_t{n_layers} * n_networks;
  return head;
}

// Takes name and networks, still empty, from bytes [0, table_bytes()), and says how large the file is by them: at most one network's part
// more than `most_bytes`, so nothing overflows.
Result<uint64_t> TakeTable(const std::string& bytes, const std::string& path, uint64_t most_bytes, Head& head) {
  PredictorFile& file = head.file;
  file.model = bytes.substr(kFixedBytes, head.n_name);
  ByteTaker taker(std::string_view(bytes).substr(kFixedBytes + head.n_name));
  uint64_t n_bytes = head.table_bytes();
  for (uint64_t i = 0; i < head.n_networks && n_bytes <= most_bytes; ++i) {
    PredictorFile::Network& network = file.networks.emplace_back();
    taker.Take(network.rank);
    for (float* const share : {&network.recall, &network.density, &network.true_share}) taker.Take(*share);
    const bool is_sound = network.rank >= PredictorFile::kNone && network.rank <= PredictorFile::kMostRank &&
                          IsShare(network.recall) && IsShare(network.density) && IsShare(network.true_share);
    if (!is_sound) return CorruptionError("{}: network {} holds no rank and shares; {}", path, i, kAgain);
    n_bytes += head.BytesOf(network.rank);
  }
  return n_bytes;
}

}  // namespace

std::string PredictorFile::Serialize() const {
  PANTRY_CHECK(networks.size() == static_cast<size_t>(n_layers) * static_cast<size_t>(n_networks));
  const std::string_view name = std::string_view(model).substr(0, kMostName);
  ByteWriter writer;
  writer.Add(kMagic);
  writer.Add(kVersion);
  for (const int32_t count : {n_layers, n_networks, n_inputs}) writer.Add(static_cast<uint32_t>(count));
  writer.Add(weights);
  writer.Add(static_cast<uint32_t>(n_neurons));
  writer.Add(recall);
  writer.Add(static_cast<uint32_t>(name.size()));
  writer.Add(static_cast<uint32_t>(std::min<int64_t>(n_tokens, UINT32_MAX)));
  writer.FillTo(kFixedBytes);
  writer.Add(name);
  for (const Network& network : networks) {
    writer.Add(network.rank);
    for (const float share : {network.recall, network.density, network.true_share}) writer.Add(share);
  }
  for (const Network& network : networks) {
    const size_t rank = network.has_predictor() ? static_cast<size_t>(network.rank) : 0;
    PANTRY_CHECK(network.bias.size() == (network.has_predictor() ? static_cast<size_t>(n_neurons) : 0) &&
                 network.v.size() == rank * static_cast<size_t>(n_inputs) &&
                 network.u.size() == rank * static_cast<size_t>(n_neurons));
    writer.Add(network.bias);
    writer.Add(network.v);
    writer.Add(network.u);
  }
  return writer.TakeHashed();
}

Result<PredictorFile> PredictorFile::Read(const Reader& reader) {
  const std::string& path = reader.path();
  std::string bytes(kFixedBytes, '\0');
  const auto read = [&] { return reader.ReadAt(0, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()}); };
  if (reader.size() < kFixedBytes) return CorruptionError("{}: not a predictor of 'pantry profile train'", path);
  PANTRY_RETURN_IF_ERROR(read());
  PANTRY_ASSIGN_OR_RETURN(Head head, ReadHead(bytes, path));
  // The size that follows from the table comes first, so that what is allocated is as large as what the file claims to hold.
  const auto cut = [&] {
    return CorruptionError("{}: {} bytes: it is cut or damaged; {}", path, reader.size(), kAgain);
  };
  if (head.table_bytes() > reader.size()) return cut();
  bytes.resize(head.table_bytes());
  PANTRY_RETURN_IF_ERROR(read());
  PANTRY_ASSIGN_OR_RETURN(const uint64_t n_bytes, TakeTable(bytes, path, reader.size(), head));
  if (n_bytes != reader.size()) return cut();
  bytes.resize(n_bytes);
  PANTRY_RETURN_IF_ERROR(read());
  if (!IsIntact(bytes)) return CorruptionError("{}: its checksum is wrong: it is damaged; {}", path, kAgain);

  PredictorFile& file = head.file;
  ByteTaker taker(std::string_view(bytes).substr(head.table_bytes()));
  for (size_t i = 0; i < file.networks.size(); ++i) {
    Network& network = file.networks[i];
    if (!network.has_predictor()) continue;
    const auto rank = static_cast<size_t>(network.rank);
    taker.TakeMany(network.bias, static_cast<size_t>(file.n_neurons));
    taker.TakeMany(network.v, rank * static_cast<size_t>(file.n_inputs));
    taker.TakeMany(network.u, rank * static_cast<size_t>(file.n_neurons));
    const bool is_finite = std::ranges::all_of(network.bias, [](float x) { return std::isfinite(x); }) &&
                           std::ranges::all_of(network.v, IsFiniteHalf) && std::ranges::all_of(network.u, IsFiniteHalf);
    if (!is_finite) return CorruptionError("{}: network {} holds numbers that are not finite; {}", path, i, kAgain);
  }
  return std::move(file);
}

}  // namespace pantry
