// SPDX-License-Identifier: Apache-2.0
// `pantry version`: what this program is and what it can use of this machine.
#include <string>

#include "cli/verbs.h"
#include "sys/isa.h"

namespace pantry {
namespace {

#if defined(__clang__)
constexpr std::string_view kCompiler = "clang " __clang_version__;
#else
constexpr std::string_view kCompiler = "gcc " __VERSION__;
#endif
#if defined(__x86_64__)
constexpr std::string_view kMachine = "x86-64";
#elif defined(__aarch64__)
constexpr std::string_view kMachine = "aarch64";
#else
constexpr std::string_view kMachine = "unknown";
#endif

}  // namespace

Status VersionVerb(VerbContext& context) {
  PANTRY_RETURN_IF_ERROR(RejectExtraWords(context.invocation));
  std::string supported;
  std::string missing;
  for (const Isa isa : kBuildIsas) {
    std::string& list = IsaSupported(isa) ? supported : missing;
    list += fmt::format("{}{}", list.empty() ? "" : ", ", IsaName(isa));
  }
  return context.output.Write(fmt::format(
      "pantry {}\ncompiled by {} for {}\ninstruction set in use: {} (this CPU runs {}{}{})\n", PANTRY_VERSION,
      kCompiler, kMachine, IsaName(BestIsa()), supported, missing.empty() ? "" : "; not ", missing));
}

}  // namespace pantry
