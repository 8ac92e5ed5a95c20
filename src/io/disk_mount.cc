// SPDX-License-Identifier: Apache-2.0
// FindMount(): which filesystem holds a path.
#include <filesystem>
#include <sstream>
#include <system_error>

#include "io/disk_probe.h"
#include "sys/proc_file.h"

namespace pantry {
namespace {

// mountinfo writes blanks and backslashes as \040.
std::string Unescaped(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto is_octal = [&](size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '7'; };
    if (text[i] == '\\' && is_octal(i + 1) && is_octal(i + 2) && is_octal(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

bool IsBelow(const std::string& path, const std::string& folder) {
  return folder == "/" || (path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/'));
}

}  // namespace

MountedOn FindMount(const std::string& path, const std::string& root) {
  std::error_code error;
  const std::string real = std::filesystem::weakly_canonical(path, error).string();
  if (error) return {};
  std::istringstream lines(ReadProcFile(root + "/proc/self/mountinfo").value_or(""));
  MountedOn found;
  size_t longest = 0;
  for (std::string line; std::getline(lines, line);) {
    // id parent major:minor mount_root mount_point options [tags...] - type source super_options
    const size_t separator = line.find(" - ");
    if (separator == std::string::npos) continue;
    std::string id, parent, number, mount_root, mount_point, type, source;
    std::istringstream(line.substr(0, separator)) >> id >> parent >> number >> mount_root >> mount_point;
    std::istringstream(line.substr(separator + 3)) >> type >> source;
    mount_point = Unescaped(mount_point);
    // Of mounts on one point the last hides the others.
    if (mount_point.empty() || mount_point.size() < longest || !IsBelow(real, mount_point)) continue;
    longest = mount_point.size();
    found = {type, source.starts_with('/') ? Unescaped(source) : ""};
  }
  return found;
}

}  // namespace pantry
