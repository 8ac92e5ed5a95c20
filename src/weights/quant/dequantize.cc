// SPDX-License-Identifier: Apache-2.0
// One function per format decodes one block; multiplications stay in the reference's order, so results are equal bit
// for bit. In the comments on layouts, [n] counts bytes.
#include "weights/quant/dequantize.h"

#include <cstddef>

#include "base/status.h"
#include "weights/quant/half.h"

namespace pantry {

const int8_t kIq4NlValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t kMxfp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

namespace {

uint16_t LoadU16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | (p[1] << 8)); }
uint32_t LoadU32(const uint8_t* p) { return LoadU16(p) | (static_cast<uint32_t>(LoadU16(p + 2)) << 16); }
float LoadF16(const uint8_t* p) { return F16ToF32(LoadU16(p)); }

void DecodeF32(const uint8_t* b, float* out) { *out = std::bit_cast<float>(LoadU32(b)); }
void DecodeF16(const uint8_t* b, float* out) { *out = LoadF16(b); }
void DecodeBf16(const uint8_t* b, float* out) { *out = Bf16ToF32(LoadU16(b)); }

// d[2] qs[16]: low nibbles are weights 0..15, high nibbles 16..31. So in all formats of 32 with nibbles.
void DecodeQ4_0(const uint8_t* b, float* out) {
  const float d = LoadF16(b);
  const uint8_t* qs = b + 2;
  for (int i = 0; i < 16; ++i) {
    out[i] = static_cast<float>((qs[i] & 15) - 8) * d;
    out[i + 16] = static_cast<float>((qs[i] >> 4) - 8) * d;
  }
}

// d[2] m[2] qs[16]
void DecodeQ4_1(const uint8_t* b, float* out) {
  const float d = LoadF16(b);
  const float m = LoadF16(b + 2);
  const uint8_t* qs = b + 4;
  for (int i = 0; i < 16; ++i) {
    out[i] = static_cast<float>(qs[i] & 15) * d + m;
    out[i + 16] = static_cast<float>(qs[i] >> 4) * d + m;
  }
}

// The 5-bit value of weight i in [0, 32): a nibble of qs and bit i of qh.
int FiveBits(const uint8_t* qs, uint32_t qh, int i) {
  const int low = i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
  return low | static_cast<int>(((qh >> i) & 1u) << 4);
}

// d[2] qh[4] qs[16]
void DecodeQ5_0(const uint8_t* b, float* out) {
  const float d = LoadF16(b);
  const uint32_t qh = LoadU32(b + 2);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(FiveBits(b + 6, qh, i) - 16) * d;
}

// d[2] m[2] qh[4] qs[16]
void DecodeQ5_1(const uint8_t* b, float* out) {
  const float d = LoadF16(b);
  const float m = LoadF16(b + 2);
  const uint32_t qh = LoadU32(b + 4);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(FiveBits(b + 8, qh, i)) * d + m;
}

// d[2] qs[32], signed
void DecodeQ8_0(const uint8_t* b, float* out) {
  const float d = LoadF16(b);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<int8_t>(b[2 + i])) * d;
}

// scales[16] qs[64] d[2] dmin[2]. Sixteen groups of 16; a byte of scales holds scale (low) and minimum (high). Each
// half of 128 weights takes 32 bytes of qs, two bits per weight, the first 32 weights in the lowest bits.
void DecodeQ2K(const uint8_t* b, float* out) {
  const uint8_t* scales = b;
  const uint8_t* qs = b + 16;
  const float d = LoadF16(b + 80);
  const float dmin = LoadF16(b + 82);
  for (int i = 0; i < 256; ++i) {
    const uint8_t scale = scales[i / 16];
    const float dl = d * static_cast<float>(scale & 15);
    const float ml = dmin * static_cast<float>(scale >> 4);
    const int q = (qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
    out[i] = dl * static_cast<float>(q) - ml;
  }
}

// hmask[32] qs[64] scales[12] d[2]. As Q2_K, with a third bit: bit i/32 of hmask[i%32] CLEAR means minus four. Sixteen
// 6-bit scales biased by 32: low nibbles in scales[0..7], the two high bits in scales[8..11].
void DecodeQ3K(const uint8_t* b, float* out) {
  const uint8_t* hmask = b;
  const uint8_t* qs = b + 32;
  const uint8_t* scales = b + 96;
  const float d = LoadF16(b + 108);
  for (int i = 0; i < 256; ++i) {
    const int group = i / 16;
    const int low = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
    const int high = (scales[8 + group % 4] >> (group / 4 * 2)) & 3;
    const float dl = d * static_cast<float>((low | (high << 4)) - 32);
    const int q = (qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
    const int offset = (hmask[i % 32] >> (i / 32)) & 1 ? 0 : 4;
    out[i] = dl * static_cast<float>(q - offset);
  }
}

// Q4_K and Q5_K: eight 6-bit scales and minima in 12 bytes. Groups 0..3: low six bits of s[g] and s[g+4]. Groups 4..7:
// nibbles of s[g+4], topped up with the two high bits of s[g-4] (scale) and s[g] (minimum).
void ScaleAndMin(const uint8_t* s, int group, int* scale, int* min) {
  if (group < 4) {
    *scale = s[group] & 63;
    *min = s[group + 4] & 63;
  } else {
    *scale = (s[group + 4] & 15) | ((s[group - 4] >> 6) << 4);
    *min = (s[group + 4] >> 4) | ((s[group] >> 6) << 4);
  }
}

// d[2] dmin[2] scales[12] qs[128]. Eight groups of 32; two groups share 32 bytes of qs, the even one in the low
// nibbles.
void DecodeQ4K(const uint8_t* b, float* out) {
  const float d = LoadF16(b);
  const float dmin = LoadF16(b + 2);
  const uint8_t* qs = b + 16;
  for (int group = 0; group < 8; ++group) {
    int scale, min;
    ScaleAndMin(b + 4, group, &scale, &min);
    const float dl = d * static_cast<float>(scale);
    const float ml = dmin * static_cast<float>(min);
    for (int i = 0; i < 32; ++i) {
      const int q = (qs[group / 2 * 32 + i] >> (group % 2 * 4)) & 15;
      out[group * 32 + i] = dl * static_cast<float>(q) - ml;
    }
  }
}

// d[2] dmin[2] scales[12] qh[32] qs[128]. As Q4_K, the fifth bit of group g is bit g of qh.
void DecodeQ5K(const uint8_t* b, float* out) {
  const float d = LoadF16(b);
  const float dmin = LoadF16(b + 2);
  const uint8_t* qh = b + 16;
  const uint8_t* qs = b + 48;
  for (int group = 0; group < 8; ++group) {
    int scale, min;
    ScaleAndMin(b + 4, group, &scale, &min);
    const float dl = d * static_cast<float>(scale);
    const float ml = dmin * static_cast<float>(min);
    for (int i = 0; i < 32; ++i) {
      const int low = (qs[group / 2 * 32 + i] >> (group % 2 * 4)) & 15;
      const int q = low | (((qh[i] >> group) & 1) << 4);
      out[group * 32 + i] = dl * static_cast<float>(q) - ml;
    }
  }
}

// ql[128] qh[64] scales[16] d[2]. Each half of 128 weights is four runs of 32: runs 0 and 1 in the low nibbles of 64
// bytes of ql, runs 2 and 3 in the high ones; two high bits each in 32 bytes of qh. Signed 8-bit scales per 16 weights.
void DecodeQ6K(const uint8_t* b, float* out) {
  const float d = LoadF16(b + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128;
    const int run = i % 128 / 32;
    const int l = i % 32;
    const int low = (b[half * 64 + run % 2 * 32 + l] >> (run / 2 * 4)) & 15;
    const int high = (b[128 + half * 32 + l] >> (run * 2)) & 3;
    const float dl = d * static_cast<float>(static_cast<int8_t>(b[192 + i / 16]));
    out[i] = dl * static_cast<float>((low | (high << 4)) - 32);
  }
}

// d[2] qs[16]: nibbles index a table that is denser near zero.
void DecodeIq4Nl(const uint8_t* b, float* out) {
  const float d = LoadF16(b);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(kIq4NlValues[b[2 + i] & 15]);
    out[i + 16] = d * static_cast<float>(kIq4NlValues[b[2 + i] >> 4]);
  }
}

// d[2] scales_h[2] scales_l[4] qs[128]: eight IQ4_NL groups of 32 with 6-bit scales biased by 32.
void DecodeIq4Xs(const uint8_t* b, float* out) {
  const float d = LoadF16(b);
  const int scales_h = LoadU16(b + 2);
  for (int group = 0; group < 8; ++group) {
    const int low = (b[4 + group / 2] >> (group % 2 * 4)) & 15;
    const int high = (scales_h >> (group * 2)) & 3;
    const float dl = d * static_cast<float>((low | (high << 4)) - 32);
    const uint8_t* qs = b + 8 + group * 16;
    for (int i = 0; i < 16; ++i) {
      out[group * 32 + i] = dl * static_cast<float>(kIq4NlValues[qs[i] & 15]);
      out[group * 32 + i + 16] = dl * static_cast<float>(kIq4NlValues[qs[i] >> 4]);
    }
  }
}

// e[1] qs[16]: e is a power of two biased by 127. Half of it is used, since the table is doubled; exponents 0 and 1 are
// then subnormal. e = 255 means NaN in the OCP standard; the reference does not treat it, nor do we.
void DecodeMxfp4(const uint8_t* b, float* out) {
  const uint32_t e = b[0];
  const float d = std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(kMxfp4Values[b[1 + i] & 15]);
    out[i + 16] = d * static_cast<float>(kMxfp4Values[b[1 + i] >> 4]);
  }
}

using DecodeBlock = void (*)(const uint8_t* block, float* out);

DecodeBlock DecoderOf(TensorType type) {
  switch (type) {
    case TensorType::kF32: return DecodeF32;
    case TensorType::kF16: return DecodeF16;
    case TensorType::kBF16: return DecodeBf16;
    case TensorType::kQ4_0: return DecodeQ4_0;
    case TensorType::kQ4_1: return DecodeQ4_1;
    case TensorType::kQ5_0: return DecodeQ5_0;
    case TensorType::kQ5_1: return DecodeQ5_1;
    case TensorType::kQ8_0: return DecodeQ8_0;
    case TensorType::kQ2_K: return DecodeQ2K;
    case TensorType::kQ3_K: return DecodeQ3K;
    case TensorType::kQ4_K: return DecodeQ4K;
    case TensorType::kQ5_K: return DecodeQ5K;
    case TensorType::kQ6_K: return DecodeQ6K;
    case TensorType::kIQ4_NL: return DecodeIq4Nl;
    case TensorType::kIQ4_XS: return DecodeIq4Xs;
    case TensorType::kMXFP4: return DecodeMxfp4;
    case TensorType::kI8:
    case TensorType::kI16:
    case TensorType::kI32:
    case TensorType::kI64:
    case TensorType::kF64: return nullptr;
  }
  return nullptr;
}

}  // namespace

void DequantizeRow(TensorType type, const uint8_t* blocks, int64_t n_elements, float* out) {
  const TensorTypeTraits& traits = TraitsOf(type);
  const DecodeBlock decode = DecoderOf(type);
  PANTRY_CHECK(decode != nullptr);
  PANTRY_CHECK(n_elements % traits.block_elements == 0);
  for (int64_t i = 0; i < n_elements; i += traits.block_elements) {
    decode(blocks, out + i);
    blocks += traits.block_bytes;
  }
}

}  // namespace pantry
