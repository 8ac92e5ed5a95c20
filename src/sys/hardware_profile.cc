// SPDX-License-Identifier: Apache-2.0
#include "sys/hardware_profile.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "sys/posix_error.h"
#include "sys/proc_file.h"

namespace pantry {
namespace {

constexpr uintmax_t kMaxFileBytes = 1 << 20;  // a real one has about 6 kB

Status WriteFile(const std::string& path, std::string_view text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return PosixError(fmt::format("cannot write '{}'", path), errno);
  Status status;
  while (!text.empty() && status.ok()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n >= 0) text.remove_prefix(static_cast<size_t>(n));
    else if (errno != EINTR) status = PosixError(fmt::format("cannot write '{}'", path), errno);
  }
  if (close(fd) != 0 && status.ok()) status = PosixError(fmt::format("cannot write '{}'", path), errno);
  return status;
}

std::string Threads(int32_t n) { return fmt::format("{} usable CPU{}", n, n == 1 ? "" : "s"); }

}  // namespace

double RateFor(const std::vector<ThreadRate>& rates, int32_t n_threads) {
  ThreadRate below;  // no thread does nothing
  for (const ThreadRate& rate : rates) {
    if (rate.n_threads >= n_threads) {
      const double way = static_cast<double>(n_threads - below.n_threads) / (rate.n_threads - below.n_threads);
      return n_threads <= 0 ? 0 : below.per_s + way * (rate.per_s - below.per_s);
    }
    below = rate;
  }
  return below.per_s;
}

double BestRate(const std::vector<ThreadRate>& rates) {
  double best = 0;
  for (const ThreadRate& rate : rates) best = std::max(best, rate.per_s);
  return best;
}

int32_t FewestThreadsFor(const std::vector<ThreadRate>& rates, double share) {
  const double wanted = share * BestRate(rates);
  for (const ThreadRate& rate : rates) {
    if (rate.per_s >= wanted) return rate.n_threads;
  }
  return 0;
}

Result<HardwareProfile> LoadHardwareProfile(const std::string& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory) {
    return NotFoundError("no hardware profile '{}' yet. Measure this machine: pantry doctor", path);
  }
  if (!error && size > kMaxFileBytes) {
    return CorruptionError("hardware profile '{}': {} bytes are too many. Measure anew: pantry doctor", path, size);
  }
  const auto text = ReadProcFile(path);
  if (error || !text) {
    return IoError("cannot read hardware profile '{}': {}", path, error ? error.message() : "not readable");
  }
  return HardwareProfileFromJson(*text, path);
}

Status SaveHardwareProfile(const HardwareProfile& profile, const std::string& path) {
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) return IoError("cannot make folder '{}': {}", folder.string(), error.message());
  const std::string temporary = fmt::format("{}.{}.tmp", path, getpid());
  Status status = WriteFile(temporary, ToJson(profile));
  if (status.ok() && std::rename(temporary.c_str(), path.c_str()) != 0) {
    status = PosixError(fmt::format("cannot write '{}'", path), errno);
  }
  if (status.ok()) return status;
  (void)unlink(temporary.c_str());
  return IoError("{}", status.message());
}

std::string WhyStale(const HardwareProfile& stored, const HardwareProfile& now) {
  if (stored.cpu_name != now.cpu_name) {
    return fmt::format("it was measured on '{}', this is '{}'", stored.cpu_name, now.cpu_name);
  }
  if (stored.n_usable_cpus != now.n_usable_cpus || stored.n_usable_cores != now.n_usable_cores) {
    return fmt::format("it was measured on {} ({} cores), now there are {} ({} cores)", Threads(stored.n_usable_cpus),
                       stored.n_usable_cores, Threads(now.n_usable_cpus), now.n_usable_cores);
  }
  if (stored.isas != now.isas) return "it was measured with other instruction sets";
  return "";
}

}  // namespace pantry
