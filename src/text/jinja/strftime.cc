// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/strftime.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>

namespace pantry::jinja {
namespace {

constexpr std::array<std::string_view, 7> kDays = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                   "Thursday", "Friday", "Saturday"};
constexpr std::array<std::string_view, 12> kMonths = {"January",   "February", "March",    "April",
                                                      "May",       "June",     "July",     "August",
                                                      "September", "October",  "November", "December"};
constexpr int64_t kSecondsPerDay = 86400;
// Years 1 to 9999, as datetime has them.
constexpr int64_t kFirstSecond = -62135596800;
constexpr int64_t kLastSecond = 253402300799;

struct Moment {
  int year = 1970;
  int month = 1;        // 1..12
  int day = 1;          // 1..31
  int weekday = 4;      // 0 is Sunday
  int day_of_year = 0;  // 0..365
  int hour = 0;
  int minute = 0;
  int second = 0;
};

Moment Split(int64_t unix_seconds) {
  const int64_t days = unix_seconds / kSecondsPerDay - (unix_seconds % kSecondsPerDay < 0);
  const auto rest = static_cast<int>(unix_seconds - days * kSecondsPerDay);
  const std::chrono::sys_days date{std::chrono::days(days)};
  const std::chrono::year_month_day ymd{date};
  const std::chrono::sys_days new_year{
      std::chrono::year_month_day(ymd.year(), std::chrono::January, std::chrono::day(1))};
  Moment moment;
  moment.year = static_cast<int>(ymd.year());
  moment.month = static_cast<int>(static_cast<unsigned>(ymd.month()));
  moment.day = static_cast<int>(static_cast<unsigned>(ymd.day()));
  moment.weekday = static_cast<int>(std::chrono::weekday(date).c_encoding());
  moment.day_of_year = static_cast<int>((date - new_year).count());
  moment.hour = rest / 3600;
  moment.minute = rest / 60 % 60;
  moment.second = rest % 60;
  return moment;
}

// ISO 8601: weeks begin on Monday and belong to the year of their Thursday.
int IsoWeek(const Moment& m, int64_t unix_seconds, int* iso_year) {
  const int since_monday = (m.weekday + 6) % 7;
  const Moment thursday = Split(unix_seconds + (3 - since_monday) * kSecondsPerDay);
  *iso_year = thursday.year;
  return thursday.day_of_year / 7 + 1;
}

std::string Convert(char conversion, const Moment& m, int64_t unix_seconds, bool unpadded) {
  const auto number = [&](int value, int width = 2, char fill = '0') {
    return unpadded      ? fmt::format("{}", value)
           : fill == '0' ? fmt::format("{:0{}}", value, width)
                         : fmt::format("{:{}}", value, width);
  };
  const int hour12 = m.hour % 12 == 0 ? 12 : m.hour % 12;
  int iso_year = 0;
  switch (conversion) {
    case 'a': return std::string(kDays[static_cast<size_t>(m.weekday)].substr(0, 3));
    case 'A': return std::string(kDays[static_cast<size_t>(m.weekday)]);
    case 'b':
    case 'h': return std::string(kMonths[static_cast<size_t>(m.month) - 1].substr(0, 3));
    case 'B': return std::string(kMonths[static_cast<size_t>(m.month) - 1]);
    case 'c': return FormatTime("%a %b %e %H:%M:%S %Y", unix_seconds);
    case 'C': return number(m.year / 100);
    case 'd': return number(m.day);
    case 'D':
    case 'x': return FormatTime("%m/%d/%y", unix_seconds);
    case 'e': return number(m.day, 2, ' ');
    case 'F': return FormatTime("%Y-%m-%d", unix_seconds);
    case 'f': return "000000";
    case 'G': return IsoWeek(m, unix_seconds, &iso_year), number(iso_year, 4);
    case 'g': return IsoWeek(m, unix_seconds, &iso_year), number(iso_year % 100);
    case 'H': return number(m.hour);
    case 'I': return number(hour12);
    case 'j': return number(m.day_of_year + 1, 3);
    case 'k': return number(m.hour, 2, ' ');
    case 'l': return number(hour12, 2, ' ');
    case 'm': return number(m.month);
    case 'M': return number(m.minute);
    case 'n': return "\n";
    case 'p': return m.hour < 12 ? "AM" : "PM";
    case 'P': return m.hour < 12 ? "am" : "pm";
    case 'r': return FormatTime("%I:%M:%S %p", unix_seconds);
    case 'R': return FormatTime("%H:%M", unix_seconds);
    case 's': return fmt::format("{}", unix_seconds);
    case 'S': return number(m.second);
    case 't': return "\t";
    case 'T':
    case 'X': return FormatTime("%H:%M:%S", unix_seconds);
    case 'u': return fmt::format("{}", m.weekday == 0 ? 7 : m.weekday);
    case 'U': return number((m.day_of_year + 7 - m.weekday) / 7);
    case 'V': return number(IsoWeek(m, unix_seconds, &iso_year));
    case 'w': return fmt::format("{}", m.weekday);
    case 'W': return number((m.day_of_year + 7 - (m.weekday + 6) % 7) / 7);
    case 'y': return number(m.year % 100);
    case 'Y': return fmt::format("{}", m.year);
    case 'z':
    case 'Z': return "";  // now() knows no time zone
    case '%': return "%";
    default: return std::string(unpadded ? "%-" : "%") + conversion;
  }
}

}  // namespace

std::string FormatTime(std::string_view format, int64_t unix_seconds) {
  unix_seconds = std::clamp(unix_seconds, kFirstSecond, kLastSecond);
  const Moment moment = Split(unix_seconds);
  std::string text;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      text.push_back(format[i]);
      continue;
    }
    const bool unpadded = format[i + 1] == '-' && i + 2 < format.size();
    i += unpadded ? 2 : 1;
    text += Convert(format[i], moment, unix_seconds, unpadded);
  }
  return text;
}

}  // namespace pantry::jinja
