// SPDX-License-Identifier: Apache-2.0
// A DeviceProfile as JSON. One Visit() per struct names the fields for both directions.
#include <nlohmann/json.hpp>
#include <set>

#include "sim/device_profile.h"

namespace pantry {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostItems = 4096;

template <typename V>
void Visit(auto& device, V& visit) {
  visit("name", device.name);
  visit("n_cores", device.n_cores);
  visit("dram_read_bytes_per_s", device.dram_read_bytes_per_s);
  visit("int8_ops_per_s", device.int8_ops_per_s);
  visit("f32_flops", device.f32_flops);
  visit("dram_bytes_per_s", device.dram_bytes_per_s);
  visit("flash", device.flash);
  visit("flash_depth", device.flash_depth);
  visit.Perhaps("flash_most_bytes_per_s", device.flash_most_bytes_per_s);
  visit("flash_returns_together", device.flash_returns_together);
  visit("flash_busy_share", device.flash_busy_share);
  visit("kick_us", device.kick_us);
  visit("read_cpu_us", device.read_cpu_us);
  visit("wake_us", device.wake_us);
  visit("place_bytes_per_s", device.place_bytes_per_s);
  visit("copy_bytes_per_s", device.copy_bytes_per_s);
  visit("step_us", device.step_us);
  visit.Perhaps("row_bytes_per_s", device.row_bytes_per_s);
  visit("fresh_bytes_per_s", device.fresh_bytes_per_s);
  visit("memory_share", device.memory_share);
  visit("arithmetic_share", device.arithmetic_share);
  visit("flash_share", device.flash_share);
  visit("second", device.second);
  visit("sources", device.sources);
}

struct Writer {
  Json json;
  void Perhaps(const char* name, double value) { json[name] = value; }
  template <typename T>
  void operator()(const char* name, const T& value) {
    json[name] = value;
  }
  void operator()(const char* name, const std::vector<ThreadRate>& rates) {
    json[name] = Json::array();
    for (const ThreadRate& rate : rates) json[name].push_back({{"n_cores", rate.n_threads}, {"per_s", rate.per_s}});
  }
  void operator()(const char* name, const std::vector<DiskRate>& cells) {
    json[name] = Json::array();
    for (const DiskRate& cell : cells) {
      json[name].push_back(
          {{"block_bytes", cell.block_bytes}, {"queue_depth", cell.queue_depth}, {"bytes_per_s", cell.bytes_per_s}});
    }
  }
  void operator()(const char* name, const std::optional<SecondExecutor>& second) {
    if (!second) return;
    json[name] = {{"name", second->name},
                  {"dram_bytes_per_s", second->dram_bytes_per_s},
                  {"int8_ops_per_s", second->int8_ops_per_s}};
  }
};

// Fills a struct from an object, whose members must all be asked for; the first thing that is wrong stays in `status`.
class Fields {
 public:
  Fields(const Json& json, std::string place) : json_(json), place_(std::move(place)) {
    if (!json.is_object()) status_ = CorruptionError("{}: expected an object", place_.empty() ? "the file" : place_);
  }

  // REQUIRES: called last.
  Status End() {
    if (!status_.ok()) return status_;
    for (const auto& [name, value] : json_.items()) {
      if (!known_.contains(name)) return CorruptionError("'{}' is not a field", Where(name));
    }
    return OkStatus();
  }

  // That files of earlier versions lack: it keeps its default.
  void Perhaps(const char* name, double& value) { Number(name, value, false); }
  void operator()(const char* name, double& value) { Number(name, value, true); }
  void Number(const char* name, double& value, bool is_required) {
    const Json* const found = Find(name, is_required);
    if (found == nullptr) return;
    if (found->is_number()) value = found->get<double>();
    else Expected(name, "a number");
  }
  void operator()(const char* name, int64_t& value) {
    const Json* const found = Find(name, true);
    if (found == nullptr) return;
    const bool is_small = found->is_number_integer() &&
                          !(found->is_number_unsigned() && found->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX));
    if (is_small) value = found->get<int64_t>();
    else Expected(name, "a whole number");
  }
  void operator()(const char* name, int32_t& value) {
    int64_t wide = value;
    (*this)(name, wide);
    if (wide >= 0 && wide <= INT32_MAX) value = static_cast<int32_t>(wide);
    else Expected(name, "a whole number from 0 to 2147483647");
  }
  void operator()(const char* name, std::string& value) {
    const Json* const found = Find(name, true);
    if (found == nullptr) return;
    if (found->is_string()) value = found->get<std::string>();
    else Expected(name, "a text");
  }
  void operator()(const char* name, std::vector<ThreadRate>& rates) {
    List(name, rates, [](Fields& fields, ThreadRate& rate) {
      fields("n_cores", rate.n_threads);
      fields("per_s", rate.per_s);
    });
  }
  void operator()(const char* name, std::vector<DiskRate>& cells) {
    List(name, cells, [](Fields& fields, DiskRate& cell) {
      fields("block_bytes", cell.block_bytes);
      fields("queue_depth", cell.queue_depth);
      fields("bytes_per_s", cell.bytes_per_s);
    });
  }
  void operator()(const char* name, std::optional<SecondExecutor>& second) {
    const Json* const found = Find(name, false);
    if (found == nullptr) return;
    Fields fields(*found, Where(name));
    second.emplace();
    fields("name", second->name);
    fields("dram_bytes_per_s", second->dram_bytes_per_s);
    fields("int8_ops_per_s", second->int8_ops_per_s);
    status_ = fields.End();
  }
  void operator()(const char* name, std::map<std::string, std::string>& texts) {
    const Json* const found = Find(name, false);
    if (found == nullptr) return;
    if (!found->is_object()) return Expected(name, "an object");
    for (const auto& [key, text] : found->items()) {
      if (!text.is_string()) return Expected(name, "texts");
      texts[key] = text.get<std::string>();
    }
  }

 private:
  std::string Where(std::string_view name) const {
    return place_.empty() ? std::string(name) : fmt::format("{}.{}", place_, name);
  }
  void Expected(const char* name, const char* what) {
    if (status_.ok()) status_ = CorruptionError("'{}': expected {}", Where(name), what);
  }
  const Json* Find(const char* name, bool is_required) {
    known_.insert(name);
    if (!status_.ok()) return nullptr;
    const auto found = json_.find(name);
    if (found != json_.end()) return &*found;
    if (is_required) status_ = CorruptionError("'{}' is missing", Where(name));
    return nullptr;
  }
  template <typename T, typename ReadItem>
  void List(const char* name, std::vector<T>& list, const ReadItem& read) {
    const Json* const found = Find(name, true);
    if (found == nullptr) return;
    if (!found->is_array() || found->size() > kMostItems) return Expected(name, "a list of at most 4096");
    for (size_t i = 0; i < found->size() && status_.ok(); ++i) {
      Fields fields((*found)[i], fmt::format("{}[{}]", Where(name), i));
      if (fields.status_.ok()) read(fields, list.emplace_back());
      status_ = fields.End();
    }
  }

  const Json& json_;
  const std::string place_;
  std::set<std::string> known_ = {"pantry_device"};
  Status status_;
};

Status Read(std::string_view text, DeviceProfile& device) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return CorruptionError("not a JSON object");
  const auto schema = json.find("pantry_device");
  if (schema == json.end() || !schema->is_number_integer()) return CorruptionError("'pantry_device' is missing");
  if (*schema != DeviceProfile::kSchema) {
    return UnsupportedError("version {}, expected {}", schema->dump(), DeviceProfile::kSchema);
  }
  Fields fields(json, "");
  Visit(device, fields);
  PANTRY_RETURN_IF_ERROR(fields.End());
  // In code an empty list is arithmetic that costs nothing; in a file it is a mistake.
  if (device.int8_ops_per_s.empty()) return CorruptionError("'int8_ops_per_s' is empty");
  if (device.f32_flops.empty()) return CorruptionError("'f32_flops' is empty");
  const Status valid = device.Validate();
  return valid.ok() ? valid : CorruptionError("{}", valid.message());
}

}  // namespace

std::string ToJson(const DeviceProfile& device) {
  Writer writer;
  writer.json["pantry_device"] = DeviceProfile::kSchema;
  Visit(device, writer);
  return writer.json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<DeviceProfile> DeviceProfileFromJson(std::string_view json, std::string_view origin) {
  DeviceProfile device;
  const Status status = Read(json, device);
  if (status.ok()) return device;
  return Status(status.code(), fmt::format("device profile '{}': {}", origin, status.message()));
}

}  // namespace pantry
