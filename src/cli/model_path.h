// SPDX-License-Identifier: Apache-2.0
// Where models, chats and the history lie on this machine, and which file a model's name means.
//
// Models folder: $PANTRY_MODELS, else $XDG_DATA_HOME/pantry/models, else ~/.local/share/pantry/models. Plain files with real names.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "cli/args.h"

namespace pantry {

std::string ModelsFolder(const Environment& environment);
std::string ChatsFolder(const Environment& environment);  // saved conversations
std::string HistoryFile(const Environment& environment);  // lines typed; "" where there is no home
// What `pantry doctor` measured: $XDG_CACHE_HOME/pantry/hardware.json, else ~/.cache/pantry/hardware.json; "" where there is no home.
std::string HardwareProfileFile(const Environment& environment);

// Models that SuggestPacking() spoke of: beside the profile; "" likewise.
std::string HintedModelsFile(const Environment& environment);

// A path as it is, else NAME, NAME.gguf or NAME.pantry in the models folder. kNotFound says where it looked and what is there.
Result<std::string> FindModel(const std::string& name, const Environment& environment);

// The model of an invocation: -m, or its first word (taken out of the words). kInvalidArgument when there is none.
Result<std::string> ModelOf(Invocation& invocation);

// Whether it is called as models are: .gguf or .pantry.
bool IsModelName(std::string_view name);
// A path as a word of a shell's command line, for messages that say what to run.
std::string ShellWord(const std::string& path);

// What `pantry pack` calls the pack of a GGUF file where nobody says: beside it, by its name without .gguf and its number of shards.
std::string PackNameOf(const std::string& model);

}  // namespace pantry
