// SPDX-License-Identifier: Apache-2.0
// How the text of a flag or environment variable becomes a field of CliOptions, and back.
//
// Errors say what the value should look like and what came; the caller adds which flag it was.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/options.h"

namespace pantry {

Status SetField(std::string& field, std::string_view text);
Status SetField(bool& field, std::string_view text);  // 1/0, true/false, on/off, yes/no
Status SetField(std::optional<bool>& field, std::string_view text);
Status SetField(int32_t& field, std::string_view text);
Status SetField(int64_t& field, std::string_view text);
Status SetField(float& field, std::string_view text);
Status SetField(KvType& field, std::string_view text);
Status SetField(std::optional<Isa>& field, std::string_view text);
Status SetField(std::vector<std::string>& field, std::string_view text);                // appends
Status SetField(std::vector<std::pair<TokenId, float>>& field, std::string_view text);  // appends "ID+B" or "ID-B"
Status SetField(NumberList& field, std::string_view text);  // replaces the default, else appends

std::string FormatField(const std::string& field);
std::string FormatField(bool field);
std::string FormatField(const std::optional<bool>& field);
std::string FormatField(int32_t field);
std::string FormatField(int64_t field);
std::string FormatField(float field);
std::string FormatField(KvType field);
std::string FormatField(const std::optional<Isa>& field);
std::string FormatField(const std::vector<std::string>& field);
std::string FormatField(const std::vector<std::pair<TokenId, float>>& field);
std::string FormatField(const NumberList& field);

// "a\n" with a backslash -> a newline: \n \t \r \\ \" \' ; others stay as they are.
std::string Unescape(std::string_view text);

}  // namespace pantry
