// SPDX-License-Identifier: Apache-2.0
#include "io/reader.h"

namespace pantry {

void Reader::WillReadSequentially(uint64_t, uint64_t) const {}
void Reader::DoneWith(uint64_t, uint64_t) const {}

}  // namespace pantry
