// SPDX-License-Identifier: Apache-2.0
// Escapes in string literals: '\n', '\x41', '\u20ac', octal; an unknown one stays as written, as in Python.
#pragma once

#include <string>
#include <string_view>

namespace pantry::jinja {

// `body`: what stands between the quotes. False with `error` when an escape is malformed or names no character.
bool DecodeStringLiteral(std::string_view body, std::string* text, std::string* error);

}  // namespace pantry::jinja
