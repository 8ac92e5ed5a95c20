// SPDX-License-Identifier: Apache-2.0
// Reads the JSON of a conversation into template values.
//
// All its strings, the keys of objects included, are marked as input: whoever wrote them must not be able to write control tokens. The one
// exception is a message's "role" when it is a well-known word: templates build control tokens from it.
// Objects keep the order of their keys; of doubled keys the last value wins, as in Python.
#pragma once

#include <string_view>

#include "base/status.h"
#include "text/jinja/heap.h"
#include "text/jinja/value.h"

namespace pantry {

// The JSON must be one object. kInvalidArgument with line and column for what is not JSON or not UTF-8, and when it nests too deeply. May throw
// jinja::TemplateError when `heap` runs out.
Result<jinja::Value> ReadConversation(std::string_view json, jinja::Heap& heap);

}  // namespace pantry
