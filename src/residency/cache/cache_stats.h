// SPDX-License-Identifier: Apache-2.0
// CacheStats are counts of what a cache did, for one layer or the sum of all, since it was made or its counts were reset.
#pragma once

#include <cstdint>

namespace pantry {

struct CacheStats {
  // What was demanded, judged before the event: n_demanded = n_hits + n_late + n_misses, and likewise in bytes.
  int64_t n_demanded = 0;
  int64_t n_hits = 0;    // resident
  int64_t n_late = 0;    // being read already, for a guess or another demand
  int64_t n_misses = 0;  // absent
  int64_t demanded_bytes = 0;
  int64_t late_bytes = 0;
  int64_t missed_bytes = 0;

  int64_t n_admitted = 0;  // reads begun, of any kind
  int64_t admitted_bytes = 0;
  int64_t n_refused = 0;  // admissions for which there was no room
  int64_t n_failed = 0;
  int64_t n_evicted = 0;
  int64_t evicted_age_steps = 0;  // sum over evictions of the steps since admission: / n_evicted is the mean lifetime

  int64_t n_guesses = 0;         // admitted as guesses
  int64_t n_guesses_used = 0;    // of those: demanded before they went
  int64_t n_guesses_wasted = 0;  // of those: evicted, failed or dropped before they were demanded

  // What lies in memory now.
  int64_t n_resident = 0;
  int64_t resident_bytes = 0;  // slots, resident or being read

  // Share of the demanded blocks, or bytes, that were resident; 1 when nothing was demanded.
  double HitRate() const {
    return n_demanded > 0 ? static_cast<double>(n_hits) / static_cast<double>(n_demanded) : 1.0;
  }
  double ByteHitRate() const {
    return demanded_bytes > 0
               ? 1.0 - static_cast<double>(missed_bytes + late_bytes) / static_cast<double>(demanded_bytes)
               : 1.0;
  }

  CacheStats& operator+=(const CacheStats& other);
};

}  // namespace pantry
