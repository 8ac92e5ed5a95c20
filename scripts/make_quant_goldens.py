#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes testdata/quant/: blocks of every weight format and what the `gguf` package (PyPI) decodes them to.

For each type NAME: NAME.blocks (raw blocks) and NAME.f32 (little-endian F32, one per weight). Deterministic.
Needs: pip install gguf numpy.   Usage: scripts/make_quant_goldens.py [out_dir]
"""
import pathlib
import sys

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

# Byte offsets of the F16 scales in a block: they get sensible and extreme values; all other bytes are random.
SCALES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
    T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0], T.MXFP4: [],
}
# Zero, both signs, the smallest subnormal, the largest subnormal, the smallest normal, the largest finite.
EXTREMES = np.array([0.0, -0.0, 2.0**-24, -(2.0**-14 - 2.0**-24), 2.0**-14, 65504.0, -65504.0, 1.0], dtype=np.float16)


def blocks_of(qtype, rng):
    elements, n_bytes = GGML_QUANT_SIZES[qtype]
    n_random = 4 if elements == 256 else 16
    blocks = rng.integers(0, 256, size=(n_random, n_bytes), dtype=np.uint8)
    for k, offset in enumerate(SCALES[qtype]):
        scales = rng.normal(0, 0.02, n_random).astype(np.float16)
        n_extreme = n_random // 2
        scales[:n_extreme] = np.roll(EXTREMES, -k * 3)[np.arange(n_extreme) % len(EXTREMES)]
        blocks[:, offset:offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    if qtype == T.MXFP4:
        blocks[:, 0] = rng.integers(110, 130, n_random)
        blocks[:6, 0] = [0, 1, 2, 127, 128, 252]  # 253 and more overflow
    try:  # real quantised values, where the package can quantise
        values = rng.normal(0, 0.05, (1, elements * (1 if elements == 256 else 4))).astype(np.float32)
        blocks = np.concatenate([blocks, quantize(values, qtype).reshape(-1, n_bytes)])
    except NotImplementedError:
        pass
    return blocks


def float_blocks(qtype, rng):
    values = rng.normal(0, 1, 250).astype(np.float32)
    extremes = np.array([0.0, -0.0, 1e-40, -3e-5, 65504.0, 6.1e-5], dtype=np.float32)
    values = np.concatenate([values, extremes])
    if qtype == T.F32:
        return values.view(np.uint8)
    if qtype == T.F16:
        return values.astype(np.float16).view(np.uint8)
    return quantize(values, T.BF16).reshape(-1).view(np.uint8)


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1] / "testdata" / "quant")
    out.mkdir(parents=True, exist_ok=True)
    for qtype in [T.F32, T.F16, T.BF16, *SCALES]:
        rng = np.random.default_rng(1000 + int(qtype))
        blocks = blocks_of(qtype, rng) if qtype in SCALES else float_blocks(qtype, rng)
        values = dequantize(blocks, qtype).reshape(-1).astype("<f4")
        assert np.isfinite(values).all(), qtype
        (out / f"{qtype.name}.blocks").write_bytes(blocks.tobytes())
        (out / f"{qtype.name}.f32").write_bytes(values.tobytes())


if __name__ == "__main__":
    main()
