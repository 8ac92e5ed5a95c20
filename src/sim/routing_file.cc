// SPDX-License-Identifier: Apache-2.0
#include "sim/routing_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

#include "sys/posix_error.h"

namespace pantry {
namespace {

using Json = nlohmann::json;

constexpr int64_t kVersion = 1;
constexpr int64_t kMostLayers = 4096;  // more is no model
constexpr int64_t kMostBlocks = 1 << 22;
constexpr int64_t kUnknownBlockBytes = 4096;

constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void AppendBase64(fmt::memory_buffer& text, std::span<const float> values) {
  static_assert(std::endian::native == std::endian::little);
  const std::span<const std::byte> bytes = std::as_bytes(values);
  uint32_t bits = 0;
  int n_bits = 0;
  for (const std::byte byte : bytes) {
    bits = (bits << 8) | static_cast<uint32_t>(byte);
    for (n_bits += 8; n_bits >= 6; n_bits -= 6) text.push_back(kBase64[(bits >> (n_bits - 6)) & 63]);
  }
  if (n_bits > 0) text.push_back(kBase64[(bits << (6 - n_bits)) & 63]);
}

// Sets the values to those that `text` holds; false where it does not hold exactly so many.
bool ParseBase64(std::string_view text, std::span<float> values) {
  const std::span<std::byte> bytes = std::as_writable_bytes(values);
  if (text.size() != (bytes.size() * 8 + 5) / 6) return false;
  uint32_t bits = 0;
  int n_bits = 0;
  size_t n_done = 0;
  for (const char character : text) {
    const size_t digit = kBase64.find(character);
    if (digit == std::string_view::npos) return false;
    bits = (bits << 6) | static_cast<uint32_t>(digit);
    n_bits += 6;
    if (n_bits < 8 || n_done == bytes.size()) continue;
    n_bits -= 8;
    bytes[n_done++] = static_cast<std::byte>(bits >> n_bits);
  }
  return true;
}

void AppendList(fmt::memory_buffer& text, std::string_view name, std::span<const int32_t> values) {
  const auto out = std::back_inserter(text);
  fmt::format_to(out, R"(,"{}":[)", name);
  for (size_t i = 0; i < values.size(); ++i) fmt::format_to(out, "{}{}", i == 0 ? "" : ",", values[i]);
  text.push_back(']');
}

}  // namespace

// ---- writing --------------------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<RoutingFileWriter>> RoutingFileWriter::Create(const std::string& path, Logger& log) {
  std::FILE* const file = std::fopen(path.c_str(), "we");
  if (file == nullptr) {
    return IoError("{}", PosixError(fmt::format("cannot write routing file '{}'", path), errno).message());
  }
  return std::unique_ptr<RoutingFileWriter>(new RoutingFileWriter(path, file, log));
}

void RoutingFileWriter::Begin(const RoutingHeader& header) {
  nlohmann::ordered_json json = {{"pantry_routing", kVersion},        {"model", header.model},
                                 {"first_layer", header.first_layer}, {"n_layers", header.n_layers},
                                 {"n_experts", header.n_experts},     {"n_used", header.n_used},
                                 {"ranked", header.is_ranked},        {"block_bytes", header.block_bytes}};
  fmt::format_to(std::back_inserter(text_), "{}\n",
                 json.dump(-1, ' ', false, Json::error_handler_t::replace));  // a name may not be UTF-8
  Write();
  picks_of_.assign(static_cast<size_t>(header.n_experts), 0);
  // So that a run allocates nothing: each layer may want all its experts.
  const auto n_layers = static_cast<size_t>(header.n_layers);
  lines_.reserve(n_layers);
  union_.reserve(picks_of_.size());
  experts_.reserve(n_layers * picks_of_.size());
  counts_.reserve(n_layers * picks_of_.size());
  logits_.reserve(n_layers * picks_of_.size());
}

void RoutingFileWriter::Routed(int32_t layer, int64_t n_tokens, std::span<const float> logits,
                               std::span<const int32_t> chosen) {
  if (n_tokens == 1) {
    while (!chosen.empty() && chosen.back() < 0) chosen = chosen.first(chosen.size() - 1);
    Add(layer, chosen, {}, logits);
    return;
  }
  for (const int32_t expert : chosen) {
    if (expert >= 0) ++picks_of_[static_cast<size_t>(expert)];
  }
  union_.clear();
  for (size_t i = 0; i < picks_of_.size(); ++i) {
    if (picks_of_[i] > 0) union_.push_back(static_cast<int32_t>(i));
  }
  Add(layer, union_, picks_of_, {});
  std::fill(picks_of_.begin(), picks_of_.end(), 0);
}

// `counts`: by expert, or none.
void RoutingFileWriter::Add(int32_t layer, std::span<const int32_t> experts, std::span<const int32_t> counts,
                            std::span<const float> logits) {
  if (file_ == nullptr) return;
  if (!lines_.empty() && lines_.back().layer >= layer) ForgetLines();  // the run before did not end
  for (const int32_t expert : experts) {
    experts_.push_back(expert);
    counts_.push_back(counts.empty() ? 0 : counts[static_cast<size_t>(expert)]);
  }
  logits_.insert(logits_.end(), logits.begin(), logits.end());
  lines_.push_back({layer, experts_.size(), logits_.size()});
}

void RoutingFileWriter::ForgetLines() {
  lines_.clear();
  experts_.clear();
  counts_.clear();
  logits_.clear();
}

void RoutingFileWriter::EndRun(int64_t n_tokens) {
  if (file_ == nullptr) return;
  size_t begin = 0, logits_begin = 0;
  for (const Line& line : lines_) {
    fmt::format_to(std::back_inserter(text_), R"({{"t":{},"n":{},"layer":{})", n_tokens_, n_tokens, line.layer);
    const size_t n = line.end - begin;
    AppendList(text_, "experts", std::span(experts_).subspan(begin, n));
    if (n > 0 && counts_[begin] > 0) AppendList(text_, "counts", std::span(counts_).subspan(begin, n));
    if (line.logits_end > logits_begin) {
      fmt::format_to(std::back_inserter(text_), R"(,"logits":")");
      AppendBase64(text_, std::span(logits_).subspan(logits_begin, line.logits_end - logits_begin));
      text_.push_back('"');
    }
    text_.push_back('}');
    text_.push_back('\n');
    begin = line.end;
    logits_begin = line.logits_end;
  }
  ForgetLines();
  n_tokens_ += n_tokens;
  Write();
}

void RoutingFileWriter::Write() {
  if (file_ == nullptr) return;
  const bool is_written =
      std::fwrite(text_.data(), 1, text_.size(), file_.get()) == text_.size() && std::fflush(file_.get()) == 0;
  text_.clear();
  if (is_written) return;
  log_.Warning("routing file '{}': {}; no more is recorded", path_, std::strerror(errno));
  file_.reset();
}

// ---- reading --------------------------------------------------------------------------------------------------------------------

namespace {

// A value as a message shows it. What may be nested, however deep, is named only: printing or copying it would recurse.
std::string Shown(const Json& value) {
  return value.is_structured() ? value.type_name() : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// A whole number within [least, most].
Result<int64_t> NumberOf(const Json& value, const char* name, int64_t least, int64_t most) {
  const bool is_small = value.is_number_integer() &&
                        (!value.is_number_unsigned() || value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX));
  if (!is_small || value.get<int64_t>() < least || value.get<int64_t>() > most) {
    return CorruptionError("'{}': expected a number from {} to {}, found {}", name, least, most, Shown(value));
  }
  return value.get<int64_t>();
}

// An object's.
Result<int64_t> Number(const Json& object, const char* name, int64_t least, int64_t most) {
  const auto found = object.find(name);
  if (found == object.end()) return CorruptionError("'{}' is missing", name);
  return NumberOf(*found, name, least, most);
}

Status ReadHeader(const Json& json, RecordedRouting& out) {
  if (!json.is_object() || !json.contains("pantry_routing")) {
    return CorruptionError("not a routing file: its first line has no 'pantry_routing'");
  }
  PANTRY_ASSIGN_OR_RETURN(const int64_t version, Number(json, "pantry_routing", 0, INT64_MAX));
  if (version != kVersion) return UnsupportedError("version {}, expected {}", version, kVersion);
  RoutingHeader& header = out.header;
  const auto model = json.find("model");
  if (model != json.end() && model->is_string()) header.model = model->get<std::string>();
  const auto ranked = json.find("ranked");
  header.is_ranked = ranked != json.end() && ranked->is_boolean() && ranked->get<bool>();
  PANTRY_ASSIGN_OR_RETURN(const int64_t n_layers, Number(json, "n_layers", 1, kMostLayers));
  PANTRY_ASSIGN_OR_RETURN(const int64_t n_experts, Number(json, "n_experts", 1, kMostBlocks / n_layers));
  header.n_layers = static_cast<int32_t>(n_layers);
  header.n_experts = static_cast<int32_t>(n_experts);
  PANTRY_ASSIGN_OR_RETURN(const int64_t first_layer, Number(json, "first_layer", 0, kMostLayers));
  PANTRY_ASSIGN_OR_RETURN(const int64_t n_used, Number(json, "n_used", 1, header.n_experts));
  header.first_layer = static_cast<int32_t>(first_layer);
  header.n_used = static_cast<int32_t>(n_used);

  const auto sizes = json.find("block_bytes");
  if (sizes != json.end() && sizes->is_array() && !sizes->empty()) {
    if (sizes->size() != static_cast<size_t>(header.n_layers)) {
      return CorruptionError("'block_bytes' has {} sizes, but there are {} layers", sizes->size(), header.n_layers);
    }
    for (const Json& size : *sizes) {
      PANTRY_ASSIGN_OR_RETURN(const int64_t bytes, NumberOf(size, "block_bytes", 1, UINT32_MAX));
      header.block_bytes.push_back(bytes);
    }
  }
  for (int32_t layer = 0; layer < header.n_layers; ++layer) {
    const int64_t bytes =
        header.block_bytes.empty() ? kUnknownBlockBytes : header.block_bytes[static_cast<size_t>(layer)];
    out.blocks.insert(out.blocks.end(), static_cast<size_t>(header.n_experts), BlockInfo{layer, bytes});
  }
  return OkStatus();
}

class EventReader {
 public:
  explicit EventReader(RecordedRouting& out) : out_(out) {}

  Status Read(const Json& json) {
    if (!json.is_object()) return CorruptionError("not a JSON object");
    const RoutingHeader& header = out_.header;
    PANTRY_ASSIGN_OR_RETURN(const int64_t token, Number(json, "t", std::max<int64_t>(token_, 0), INT64_MAX));
    PANTRY_ASSIGN_OR_RETURN(const int64_t n_tokens, Number(json, "n", 1, INT32_MAX));
    if (token == token_ && n_tokens != n_tokens_) {
      return CorruptionError("'n' is {}, in the line before of the same run {}", n_tokens, n_tokens_);
    }
    PANTRY_ASSIGN_OR_RETURN(const int64_t layer,
                            Number(json, "layer", header.first_layer, header.first_layer + header.n_layers - 1));
    const auto experts = json.find("experts");
    if (experts == json.end() || !experts->is_array()) return CorruptionError("'experts' is not a list");
    if (out_.trace.wanted.size() + experts->size() > std::numeric_limits<uint32_t>::max()) {
      return UnsupportedError("more than {} choices in all", std::numeric_limits<uint32_t>::max());
    }
    const auto index = static_cast<uint32_t>(layer - header.first_layer);
    blocks_.clear();
    for (const Json& expert : *experts) {
      if (!expert.is_number_unsigned() || expert.get<uint64_t>() >= static_cast<uint64_t>(header.n_experts)) {
        return CorruptionError("expert {}: the model has experts 0 to {}", Shown(expert), header.n_experts - 1);
      }
      blocks_.emplace_back(index * static_cast<uint32_t>(header.n_experts) + expert.get<uint32_t>());
    }
    std::sort(blocks_.begin(), blocks_.end());
    if (std::adjacent_find(blocks_.begin(), blocks_.end()) != blocks_.end()) {
      return CorruptionError("an expert occurs twice");
    }
    PANTRY_RETURN_IF_ERROR(ReadLogits(json));
    out_.trace.Add(static_cast<int>(index), token != token_, blocks_, static_cast<int32_t>(n_tokens), logits_);
    token_ = token;
    n_tokens_ = n_tokens;
    return OkStatus();
  }

 private:
  Status ReadLogits(const Json& json) {
    logits_.clear();
    const auto found = json.find("logits");
    if (found == json.end()) return OkStatus();
    logits_.resize(static_cast<size_t>(out_.header.n_experts));
    if (found->is_string() && ParseBase64(found->get_ref<const std::string&>(), logits_)) return OkStatus();
    return CorruptionError("'logits': expected {} numbers of 32 bits in base64", logits_.size());
  }

  RecordedRouting& out_;
  int64_t token_ = -1;    // of the line before
  int64_t n_tokens_ = 0;  // likewise
  std::vector<BlockId> blocks_;
  std::vector<float> logits_;
};

}  // namespace

Result<RecordedRouting> ParseRoutingTrace(std::string_view text, std::string_view origin) {
  RecordedRouting recorded;
  EventReader events(recorded);
  int64_t number = 0;
  for (size_t begin = 0, end = 0; (end = text.find('\n', begin)) != std::string_view::npos; begin = end + 1) {
    ++number;
    const Json json = Json::parse(text.substr(begin, end - begin), nullptr, false);
    const Status status = number == 1 ? ReadHeader(json, recorded) : events.Read(json);
    if (!status.ok()) return Status(status.code(), fmt::format("{}:{}: {}", origin, number, status.message()));
  }
  if (number == 0) return CorruptionError("{}: not a routing file: it has no line", origin);
  return recorded;
}

Result<RecordedRouting> ReadRoutingTrace(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), &std::fclose);
  if (file == nullptr) return PosixError(fmt::format("routing file '{}'", path), errno);
  std::string text;
  std::array<char, 1 << 16> part;
  while (const size_t n = std::fread(part.data(), 1, part.size(), file.get())) text.append(part.data(), n);
  if (std::ferror(file.get()) != 0) return PosixError(fmt::format("reading routing file '{}'", path), errno);
  return ParseRoutingTrace(text, path);
}

}  // namespace pantry
