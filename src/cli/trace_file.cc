// SPDX-License-Identifier: Apache-2.0
#include "cli/trace_file.h"

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "sys/posix_error.h"

namespace pantry {
namespace {

constexpr size_t kBufferBytes = 64 << 10;
constexpr size_t kEventBytes = 1 << 10;  // most of them have 100 to 200

}  // namespace

std::string JsonString(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);  // it may not be UTF-8
}

Result<std::unique_ptr<TraceFile>> TraceFile::Open(const std::string& path, int64_t origin_us, Logger& log) {
  std::FILE* const file = std::fopen(path.c_str(), "we");
  if (file == nullptr) {
    return IoError("{}", PosixError(fmt::format("cannot write --trace file '{}'", path), errno).message());
  }
  return std::unique_ptr<TraceFile>(new TraceFile(path, file, origin_us, log));
}

TraceFile::TraceFile(std::string path, std::FILE* file, int64_t origin_us, Logger& log)
    : path_(std::move(path)), log_(log), origin_us_(origin_us), file_(file) {
  std::setvbuf(file, nullptr, _IONBF, 0);
  buffer_.reserve(kBufferBytes + kEventBytes);
}

TraceFile::~TraceFile() {
  const std::string_view end = separator_ == "[\n" ? "[\n]\n" : "\n]\n";
  buffer_.append(end);
  Flush();
}

void TraceFile::Metadata(std::string_view what, int row, std::string_view args) {
  if (file_ == nullptr) return;
  fmt::format_to(std::back_inserter(buffer_), R"({}{{"ph":"M","pid":1,"tid":{},"name":"{}","args":{{{}}})", separator_,
                 row, what, args);
  EndEvent();
}

void TraceFile::NameProcess(std::string_view name) {
  Metadata("process_name", 0, fmt::format(R"("name":{})", JsonString(name)));
}

void TraceFile::NameRow(int row, std::string_view name) {
  Metadata("thread_name", row, fmt::format(R"("name":{})", JsonString(name)));
  Metadata("thread_sort_index", row, fmt::format(R"("sort_index":{})", row));
}

void TraceFile::Counter(std::string_view name, int64_t at_us, double value) {
  if (file_ == nullptr) return;
  fmt::format_to(std::back_inserter(buffer_), R"({}{{"ph":"C","pid":1,"ts":{},"name":"{}","args":{{"{}":{:.6g}}})",
                 separator_, at_us - origin_us_, name, name, value);
  EndEvent();
}

void TraceFile::EndEvent() {
  buffer_.push_back('}');
  separator_ = ",\n";
  if (buffer_.size() >= kBufferBytes) Flush();
}

void TraceFile::Flush() {
  if (file_ == nullptr || buffer_.size() == 0) return;
  const bool is_written = std::fwrite(buffer_.data(), 1, buffer_.size(), file_.get()) == buffer_.size();
  buffer_.clear();
  if (is_written) return;
  log_.Warning("--trace {}: {}; nothing more is traced", path_, std::strerror(errno));
  file_.reset();
}

}  // namespace pantry
