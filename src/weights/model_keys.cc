// SPDX-License-Identifier: Apache-2.0
#include "weights/model_keys.h"

namespace pantry {

Status ModelKeys::ReadInt(std::string_view suffix, int64_t min, int64_t max, int32_t* out) const {
  PANTRY_ASSIGN_OR_RETURN(const int64_t value, metadata_.GetInt(Key(suffix)));
  if (value < min || value > max) {
    return CorruptionError("metadata key '{}' is {}, expected {} to {}", Key(suffix), value, min, max);
  }
  *out = static_cast<int32_t>(value);
  return OkStatus();
}

Result<double> ModelKeys::ReadFloat(std::string_view suffix, double min, double max) const {
  PANTRY_ASSIGN_OR_RETURN(const double value, metadata_.GetFloat(Key(suffix)));
  if (!(value >= min && value <= max)) {
    return CorruptionError("metadata key '{}' is {}, expected {} to {}", Key(suffix), value, min, max);
  }
  return value;
}

Status ModelKeys::ReadPerLayer(std::string_view suffix, int64_t max, int32_t* out) const {
  const MetadataValue* found = metadata_.Find(Key(suffix));
  if (found == nullptr || found->type != MetadataType::kArray) return ReadInt(suffix, 1, max, out);
  PANTRY_ASSIGN_OR_RETURN(const MetadataArray* array, metadata_.GetArray(Key(suffix)));
  if (array->integers.size() != static_cast<size_t>(shape_.n_layers)) {
    return CorruptionError("metadata key '{}': expected {} integers, one per layer, found {} of {}", Key(suffix),
                           shape_.n_layers, array->size(), MetadataTypeName(array->element_type));
  }
  for (const int64_t value : array->integers) {
    if (value == array->integers[0]) continue;
    return UnsupportedError(
        "metadata key '{}' differs between layers ({} and {}); models whose layers differ are not supported by this "
        "version",
        Key(suffix), array->integers[0], value);
  }
  if (array->integers[0] < 1 || array->integers[0] > max) {
    return CorruptionError("metadata key '{}' is {}, expected 1 to {}", Key(suffix), array->integers[0], max);
  }
  *out = static_cast<int32_t>(array->integers[0]);
  return OkStatus();
}

}  // namespace pantry
