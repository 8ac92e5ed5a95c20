// SPDX-License-Identifier: Apache-2.0
// ModelKeys reads the metadata keys of a model's architecture into its shape, each within its bounds. Errors name the key.
// Threads: thread-compatible.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "weights/gguf/metadata.h"
#include "weights/model_shape.h"

namespace pantry {

class ModelKeys {
 protected:
  explicit ModelKeys(const Metadata& metadata) : metadata_(metadata) {}

  std::string Key(std::string_view suffix) const { return fmt::format("{}.{}", shape_.architecture, suffix); }
  // The value of an integer key that must lie in [min, max].
  Status ReadInt(std::string_view suffix, int64_t min, int64_t max, int32_t* out) const;
  // The same where the key may be absent: *out keeps its value then.
  Status ReadOptionalInt(std::string_view suffix, int64_t min, int64_t max, int32_t* out) const {
    return metadata_.Has(Key(suffix)) ? ReadInt(suffix, min, max, out) : OkStatus();
  }
  // A number in [min, max]; NaN is not.
  template <typename T>
  Status ReadOptionalFloat(std::string_view suffix, double min, double max, T* out) const {
    if (!metadata_.Has(Key(suffix))) return OkStatus();
    PANTRY_ASSIGN_OR_RETURN(const double value, ReadFloat(suffix, min, max));
    *out = static_cast<T>(value);
    return OkStatus();
  }
  // One number, or an array of one per layer that must all be equal.
  Status ReadPerLayer(std::string_view suffix, int64_t max, int32_t* out) const;

  const Metadata& metadata_;
  ModelShape shape_;

 private:
  Result<double> ReadFloat(std::string_view suffix, double min, double max) const;
};

}  // namespace pantry
