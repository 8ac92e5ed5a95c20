// SPDX-License-Identifier: Apache-2.0
// exp and log from IEEE basic operations only, so that they give the same bits on every machine.
//
// std::exp may not: C libraries differ in the last place, and one library may choose another variant by CPU. Error: below 2 units in the
// last place, far less than what a logit is worth.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace pantry {

// 1/14!, ..., 1/1!, 1/0!: the Taylor series of exp, as Horner's scheme wants it. 0.35^15 / 15! < 2^-60.
inline constexpr std::array<double, 15> kExpCoefficients = [] {
  std::array<double, 15> coefficients{};
  double factorial = 1;
  for (size_t i = 0; i < coefficients.size(); ++i) {
    if (i > 0) factorial *= static_cast<double>(i);
    coefficients[coefficients.size() - 1 - i] = 1 / factorial;
  }
  return coefficients;
}();

// e^x for x <= 0; 0 below -708. NaN gives 0.
inline double PortableExp(double x) {
  if (!(x > -708.0)) return 0;
  constexpr double kLn2High = 0x1.62e42feep-1;  // 32 bits of ln 2, so that n * kLn2High is exact
  constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  constexpr double kOneOverLn2 = 0x1.71547652b82fep+0;
  const auto n = static_cast<int64_t>(x * kOneOverLn2 - 0.5);  // truncation of a negative number: rounds to nearest
  const double r = (x - static_cast<double>(n) * kLn2High) - static_cast<double>(n) * kLn2Low;  // |r| <= ln2 / 2
  double sum = 0;
  for (const double coefficient : kExpCoefficients) sum = sum * r + coefficient;
  return sum * std::bit_cast<double>(static_cast<uint64_t>(1023 + n) << 52);
}

// ln x for normal x > 0.
inline double PortableLog(double x) {
  constexpr double kLn2 = 0x1.62e42fefa39efp-1;
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  auto exponent = static_cast<int64_t>(bits >> 52) - 1023;
  double mantissa = std::bit_cast<double>((bits & 0xFFFFFFFFFFFFFu) | (uint64_t{1023} << 52));  // [1, 2)
  if (mantissa > 0x1.6a09e667f3bcdp+0) {                                                        // sqrt 2
    mantissa *= 0.5;
    ++exponent;
  }
  const double s = (mantissa - 1) / (mantissa + 1);  // ln m = 2 atanh s, |s| <= 0.172
  double sum = 0;
  for (int i = 23; i >= 1; i -= 2) sum = sum * (s * s) + 1.0 / i;  // 0.172^25 < 2^-60
  return static_cast<double>(exponent) * kLn2 + 2 * s * sum;
}

}  // namespace pantry
