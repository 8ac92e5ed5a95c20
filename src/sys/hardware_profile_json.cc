// SPDX-License-Identifier: Apache-2.0
// A HardwareProfile as JSON. One Visit() per struct names the fields for both directions, so that what is written can be read.
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>
#include <utility>

#include "sys/hardware_profile.h"

namespace pantry {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxListItems = 4096;  // more is no machine

template <typename Struct, typename V>
  requires std::is_same_v<std::remove_const_t<Struct>, CacheProfile>
void Visit(Struct& s, V& visit) {
  visit("name", s.name);
  visit("bytes", s.bytes);
  visit("n_instances", s.n_instances);
  visit("shared_by", s.shared_by);
}

template <typename Struct, typename V>
  requires std::is_same_v<std::remove_const_t<Struct>, ThreadRate>
void Visit(Struct& s, V& visit) {
  visit("n_threads", s.n_threads);
  visit("per_s", s.per_s);
}

template <typename Struct, typename V>
  requires std::is_same_v<std::remove_const_t<Struct>, MemoryProfile>
void Visit(Struct& s, V& visit) {
  visit("total_bytes", s.total_bytes);
  visit("available_bytes", s.available_bytes);
  visit("swap_bytes", s.swap_bytes);
  visit("cgroup_limit_bytes", s.cgroup_limit_bytes);
  visit("page_bytes", s.page_bytes);
  visit("huge_page_bytes", s.huge_page_bytes);
  visit("huge_pages", s.huge_pages);
}

template <typename Struct, typename V>
  requires std::is_same_v<std::remove_const_t<Struct>, PressureProfile>
void Visit(Struct& s, V& visit) {
  visit("cpu", s.cpu);
  visit("memory", s.memory);
  visit("io", s.io);
}

template <typename Struct, typename V>
  requires std::is_same_v<std::remove_const_t<Struct>, DiskRate>
void Visit(Struct& s, V& visit) {
  visit("block_bytes", s.block_bytes);
  visit("queue_depth", s.queue_depth);
  visit("bytes_per_s", s.bytes_per_s);
  visit("latency_us", s.latency_us);
}

template <typename Struct, typename V>
  requires std::is_same_v<std::remove_const_t<Struct>, DiskProfile>
void Visit(Struct& s, V& visit) {
  visit("path", s.path);
  visit("file_bytes", s.file_bytes);
  visit("filesystem", s.filesystem);
  visit("device", s.device);
  visit("direct", s.direct);
  visit("sequential_bytes_per_s", s.sequential_bytes_per_s);
  visit("random", s.random);
  visit("measured_at", s.measured_at);
}

template <typename Struct, typename V>
  requires std::is_same_v<std::remove_const_t<Struct>, HardwareProfile>
void Visit(Struct& s, V& visit) {
  visit("measured_at", s.measured_at);
  visit("pantry_version", s.pantry_version);
  visit("cpu_name", s.cpu_name);
  visit("architecture", s.architecture);
  visit("isas", s.isas);
  visit("n_logical_cpus", s.n_logical_cpus);
  visit("n_physical_cores", s.n_physical_cores);
  visit("n_usable_cpus", s.n_usable_cpus);
  visit("n_usable_cores", s.n_usable_cores);
  visit("cpu_quota", s.cpu_quota);
  visit("n_numa_nodes", s.n_numa_nodes);
  visit("caches", s.caches);
  visit("memory", s.memory);
  visit("pressure", s.pressure);
  visit("dram_read_bytes_per_s", s.dram_read_bytes_per_s);
  visit("int8_ops_per_s", s.int8_ops_per_s);
  visit("f32_flops", s.f32_flops);
  visit("handoff_ns", s.handoff_ns);
  visit("disk", s.disk);
}

// A number or a text, which JSON has too.
template <typename T>
concept Plain = std::is_arithmetic_v<T> || std::is_same_v<T, std::string>;

struct Writer {
  Json json = Json::object();

  template <typename T>
  void operator()(const char* name, const T& value) {
    json[name] = Of(value);
  }

  static Json Of(const Plain auto& value) { return value; }
  template <typename T>
  static Json Of(const std::vector<T>& list) {
    Json out = Json::array();
    for (const T& item : list) out.push_back(Of(item));
    return out;
  }
  template <typename T>
  static Json Of(const std::optional<T>& value) {
    return value ? Of(*value) : Json();
  }
  template <typename T>
  static Json Of(const T& value) {
    Writer writer;
    Visit(value, writer);
    return std::move(writer.json);
  }
};

// Fills a struct; the first thing that is wrong stays in `status`.
struct Reader {
  const Json& json;
  std::string place;  // "disk.random[3]", "" for the whole
  Status status;

  template <typename T>
  void operator()(const char* name, T& value) {
    if (!status.ok()) return;
    const std::string where = place.empty() ? name : fmt::format("{}.{}", place, name);
    const auto found = json.find(name);
    status = found == json.end() ? CorruptionError("'{}' is missing", where) : To(*found, where, value);
  }

  static Status Expected(const char* what, const std::string& where, const Json& found) {
    return CorruptionError("'{}': expected {}, found {}", where, what, found.type_name());
  }

  // Every number here is a count, a rate or -1 for unknown.
  static Status OutOfRange(const std::string& where) { return CorruptionError("'{}' is out of range", where); }

  static Status To(const Json& from, const std::string& where, std::string& to) {
    if (!from.is_string()) return Expected("a text", where, from);
    to = from.get<std::string>();
    return OkStatus();
  }
  static Status To(const Json& from, const std::string& where, bool& to) {
    if (!from.is_boolean()) return Expected("true or false", where, from);
    to = from.get<bool>();
    return OkStatus();
  }
  static Status To(const Json& from, const std::string& where, double& to) {
    if (!from.is_number()) return Expected("a number", where, from);
    to = from.get<double>();
    return std::isfinite(to) && (to >= 0 || to == -1) ? OkStatus() : OutOfRange(where);
  }
  static Status To(const Json& from, const std::string& where, int64_t& to) {
    if (!from.is_number_integer()) return Expected("a whole number", where, from);
    if (from.is_number_unsigned() && from.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return OutOfRange(where);
    to = from.get<int64_t>();
    return to >= -1 ? OkStatus() : OutOfRange(where);
  }
  static Status To(const Json& from, const std::string& where, int32_t& to) {
    int64_t wide = 0;
    PANTRY_RETURN_IF_ERROR(To(from, where, wide));
    if (wide < 0 || wide > INT32_MAX) return OutOfRange(where);
    to = static_cast<int32_t>(wide);
    return OkStatus();
  }
  template <typename T>
  static Status To(const Json& from, const std::string& where, std::vector<T>& to) {
    if (!from.is_array()) return Expected("a list", where, from);
    if (from.size() > kMaxListItems) return OutOfRange(where);
    to.clear();
    for (size_t i = 0; i < from.size(); ++i) {
      PANTRY_RETURN_IF_ERROR(To(from[i], fmt::format("{}[{}]", where, i), to.emplace_back()));
    }
    return OkStatus();
  }
  template <typename T>
  static Status To(const Json& from, const std::string& where, std::optional<T>& to) {
    to.reset();
    return from.is_null() ? OkStatus() : To(from, where, to.emplace());
  }
  template <typename T>
  static Status To(const Json& from, const std::string& where, T& to) {
    if (!from.is_object()) return Expected("an object", where, from);
    Reader reader{from, where, OkStatus()};
    Visit(to, reader);
    return reader.status;
  }
};

// RateFor() walks lists of ascending thread counts from 1 up.
Status CheckAscending(const char* name, const std::vector<ThreadRate>& rates) {
  int32_t before = 0;
  for (const ThreadRate& rate : rates) {
    if (rate.n_threads <= before) return CorruptionError("'{}': thread counts do not ascend from 1", name);
    before = rate.n_threads;
  }
  return OkStatus();
}

Status ReadProfile(std::string_view text, HardwareProfile& profile) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return CorruptionError("not a JSON object");
  const auto schema = json.find("schema");
  if (schema == json.end() || !schema->is_number_integer()) return CorruptionError("'schema' is missing");
  if (*schema != HardwareProfile::kSchema) {
    return UnsupportedError("schema {}, expected {}", schema->dump(), HardwareProfile::kSchema);
  }
  PANTRY_RETURN_IF_ERROR(Reader::To(json, "", profile));
  if (profile.n_usable_cpus < 1 || profile.n_usable_cores < 1) return CorruptionError("no usable CPU");
  PANTRY_RETURN_IF_ERROR(CheckAscending("dram_read_bytes_per_s", profile.dram_read_bytes_per_s));
  PANTRY_RETURN_IF_ERROR(CheckAscending("int8_ops_per_s", profile.int8_ops_per_s));
  return CheckAscending("f32_flops", profile.f32_flops);
}

}  // namespace

std::string ToJson(const HardwareProfile& profile) {
  Json json = {{"schema", HardwareProfile::kSchema}};
  json.update(Writer::Of(profile));
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";  // a path may not be UTF-8
}

Result<HardwareProfile> HardwareProfileFromJson(std::string_view json, std::string_view origin) {
  HardwareProfile profile;
  const Status status = ReadProfile(json, profile);
  if (status.ok()) return profile;
  return Status(status.code(),
                fmt::format("hardware profile '{}': {}. Measure anew: pantry doctor", origin, status.message()));
}

}  // namespace pantry
