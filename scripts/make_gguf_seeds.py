#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes testdata/fuzz/gguf/: small valid GGUF files that the fuzzer of the parser starts from.

Plain Python, no packages. Deterministic.   Usage: scripts/make_gguf_seeds.py [out_dir]
"""
import pathlib
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACK = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q", I64: "<q", F64: "<d"}
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84), 11: (256, 110),
          12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 24: (1, 1), 30: (1, 2), 39: (32, 17)}


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, v):
    if kind == STRING:
        return string(v)
    if kind == ARRAY:
        element, items = v
        return struct.pack("<IQ", element, len(items)) + b"".join(value(element, item) for item in items)
    return struct.pack(PACK[kind], v)


def gguf(entries, tensors=(), version=3, alignment=32):
    head = b"".join(string(key) + struct.pack("<I", kind) + value(kind, v) for key, kind, v in entries)
    table, data = b"", b""
    for name, dims, kind in tensors:
        data += bytes(-len(data) % alignment)
        table += string(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims) + struct.pack("<IQ", kind, len(data))
        n_elements = 1
        for dim in dims:
            n_elements *= dim
        elements, n_bytes = (1, 8) if kind == 27 else BLOCKS[kind]
        data += bytes(n_elements // elements * n_bytes)
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries)) + head + table
    return out + bytes(-len(out) % alignment) + data


def model(arch, more=(), n_layers=2, n_embd=64, n_heads=4, n_kv_heads=2):
    return [("general.architecture", STRING, arch), ("general.name", STRING, "seed"), (f"{arch}.block_count", U32, n_layers),
            (f"{arch}.context_length", U32, 512), (f"{arch}.embedding_length", U32, n_embd), (f"{arch}.feed_forward_length", U32, 128),
            (f"{arch}.attention.head_count", U32, n_heads), (f"{arch}.attention.head_count_kv", U32, n_kv_heads),
            (f"{arch}.attention.layer_norm_rms_epsilon", F32, 1e-5)] + [(f"{arch}.{key}", kind, v) for key, kind, v in more]


def pack(piece_bytes=4096):
    """Two experts of 4224 bytes and a matrix of 4096 in blocks: docs/format.md."""
    key = "pantry.pack."
    return gguf([("general.alignment", U32, 4096), (key + "version", U32, 1), (key + "layout", STRING, "avx2"),
                 (key + "piece_bytes", U32, piece_bytes), (key + "source_bytes", U64, 1), (key + "source_hash", U64, 2),
                 (key + "group.n_blocks", ARRAY, (U32, [2, 1])), (key + "group.block_bytes", ARRAY, (U64, [4224, 4096])),
                 (key + "tensor.group", ARRAY, (U32, [0, 0, 1])), (key + "tensor.name", ARRAY, (STRING, ["g", "d", "o"])),
                 (key + "tensor.type", ARRAY, (U32, [0, 2, 8])),
                 (key + "tensor.dims", ARRAY, (U64, [32, 32, 2, 0, 32, 4, 2, 0, 32, 100, 0, 0]))],
                [("norm", [32], 0), ("pantry.checksums", [5 if piece_bytes == 4096 else 3], 27), ("pantry.blocks", [5 * 4096], 24)],
                alignment=4096)


SEEDS = {
    "empty_table": gguf([]),
    "version2": gguf(model("llama"), [("token_embd.weight", [64, 4], 0)], version=2),
    "llama": gguf(model("llama", [("rope.freq_base", F32, 1e5), ("rope.dimension_count", U32, 16), ("vocab_size", U32, 4)]),
                  [("token_embd.weight", [64, 4], 8), ("blk.0.attn_q.weight", [64, 64], 2), ("output_norm.weight", [64], 0)]),
    "qwen2_yarn": gguf(model("qwen2", [("rope.scaling.type", STRING, "yarn"), ("rope.scaling.factor", F32, 4.0),
                                       ("rope.scaling.original_context_length", U32, 128), ("rope.scaling.yarn_beta_fast", F32, 32.0)])),
    "qwen3": gguf(model("qwen3", [("attention.key_length", U32, 32), ("attention.value_length", U32, 32)])),
    "phi3": gguf(model("phi3", [("rope.scaling.original_context_length", U32, 128), ("rope.scaling.attn_factor", F32, 1.19),
                                ("attention.sliding_window", U32, 100), ("rope.dimension_count", U32, 12)])),
    "gemma2": gguf(model("gemma2", [("attn_logit_softcapping", F32, 50.0), ("final_logit_softcapping", F32, 30.0)], n_layers=46)),
    "gemma3": gguf(model("gemma3", [("attention.sliding_window", U32, 64), ("rope.freq_base_swa", F32, 1e4),
                                    ("attention.sliding_window_pattern", ARRAY, (BOOL, [True, False]))])),
    "per_layer": gguf([e for e in model("llama") if not e[0].endswith("head_count_kv")]
                      + [("llama.attention.head_count_kv", ARRAY, (I32, [2, 2]))]),
    "experts": gguf(model("qwen3moe", [("expert_count", U32, 8), ("expert_used_count", U32, 2)]),
                    [("blk.0.ffn_up_exps.weight", [32, 16, 8], 39)]),
    "pack": pack(),
    "pack_one_piece": pack(8192),
    "vocabulary": gguf([("tokenizer.ggml.model", STRING, "gpt2"),
                        ("tokenizer.ggml.tokens", ARRAY, (STRING, ["<s>", "a", "b", "ab", "\u0120ab"])),
                        ("tokenizer.ggml.scores", ARRAY, (F32, [0.0, -1.0, -2.0, -3.0, -4.0])),
                        ("tokenizer.ggml.token_type", ARRAY, (I32, [3, 1, 1, 1, 1])),
                        ("tokenizer.ggml.merges", ARRAY, (STRING, ["a b", "\u0120 ab"]))]),
    "all_types": gguf([(f"k{kind}", kind, 1) for kind in PACK] + [("s", STRING, "x"), ("e", STRING, "")]
                      + [(f"a{kind}", ARRAY, (kind, [1, 0])) for kind in PACK]
                      + [("nested", ARRAY, (ARRAY, [(U8, [1]), (STRING, ["y"]), (ARRAY, [(F64, [])])]))]),
    "strange_bools": gguf([("flags", ARRAY, (U8, [0, 2, 255]))]).replace(struct.pack("<IIQ", ARRAY, U8, 3),
                                                                         struct.pack("<IIQ", ARRAY, BOOL, 3)),
    "aligned_8": gguf([("general.alignment", U32, 8)], [("a", [3], 0), ("b", [5], 24)], alignment=8),
    "shard_2_of_3": gguf([("split.no", U16, 1), ("split.count", U16, 3), ("split.tensors.count", I32, 4)], [("c", [8], 1)]),
    "all_formats": gguf([("general.file_type", U32, 2)], [(f"t{kind}", [elements, 2], kind) for kind, (elements, _) in BLOCKS.items()]),
}


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1] / "testdata" / "fuzz" / "gguf")
    out.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        (out / f"{name}.gguf").write_bytes(data)


if __name__ == "__main__":
    main()
