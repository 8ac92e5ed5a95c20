// SPDX-License-Identifier: Apache-2.0
// A neuron profile for people: a table on a terminal, and a page with the heat map of each layer that stands by itself.
#pragma once

#include <string>
#include <string_view>

#include "weights/profile/neuron_profile.h"

namespace pantry {

// A line for each layer, and one for all of them.
std::string ProfileTable(const NeuronProfile& profile);
std::string ProfileJson(const NeuronProfile& profile);
// HTML without scripts, nothing fetched. `text`: what it was made of.
std::string ProfileHtml(const NeuronProfile& profile, std::string_view text, std::string_view version);

// "fire" means something else for each activation: a sentence.
std::string FiringMeans(const NeuronProfile& profile);

}  // namespace pantry
