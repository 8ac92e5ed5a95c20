#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes testdata/models: a tiny random model of every architecture as GGUF, and its logits as transformers computes them.

Run it with a Python that has numpy, torch, transformers and gguf; it takes some seconds. Weights come from numpy generators seeded by the
tensor's name, so a second run writes the same models. Tensor names, permutations and metadata are those that llama.cpp's converter writes.

A golden file (little-endian) is: i32 n_tokens, n_rows, n_vocab, kv_positions; i32 tokens[n_tokens]; i32 rows[n_rows];
f32 logits[n_rows * n_vocab]. kv_positions is the KV capacity that the logits hold for (LongRoPE depends on it).
"""

import math
import sys
import zlib
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers

OUT = Path(__file__).resolve().parent.parent / "testdata" / "models"
TOKENS = 72        # longer than every window and every original context below
N_VOCAB = 128      # of the models without a tokenizer


def rng(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def randomize(model, seed: str):
    """Weights that keep activations near 1 and make attention and logits peaked, so that a mistake anywhere shows."""
    is_gemma = "Gemma" in type(model).__name__
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        noise = rng(f"{seed}/{name}").standard_normal(shape)
        if name.endswith("norm.weight"):
            value = (0.0 if is_gemma else 1.0) + 0.2 * noise
        elif name.endswith("bias"):
            value = 0.3 * noise
        elif "embed_tokens" in name:
            value = 2.0 / math.sqrt(shape[1]) * noise
        elif "lm_head" in name:
            value = 2.0 / math.sqrt(shape[1]) * noise
        else:
            gain = 1.5 if any(part in name for part in ("q_proj", "k_proj", "qkv_proj")) else 1.0
            value = gain / math.sqrt(shape[1]) * noise
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(value.astype(np.float32)))


def golden(model, path: Path, n_tokens: int, kv_positions: int, n_vocab: int):
    tokens = rng(f"tokens/{n_tokens}").integers(0, n_vocab, n_tokens)
    with torch.no_grad():
        logits = model(torch.from_numpy(tokens)[None], use_cache=False).logits[0].float().numpy()
    rows = sorted({0, 1, n_tokens // 3, n_tokens // 2, n_tokens - 2, n_tokens - 1})
    logits = logits[rows]
    assert logits.shape == (len(rows), n_vocab) and np.isfinite(logits).all()
    assert 0.3 < logits.std() < 30, logits.std()
    with path.open("wb") as file:
        file.write(np.array([n_tokens, len(rows), n_vocab, kv_positions], "<i4").tobytes())
        file.write(tokens.astype("<i4").tobytes())
        file.write(np.array(rows, "<i4").tobytes())
        file.write(logits.astype("<f4").tobytes())
    print(f"  {path.name}: {n_tokens} tokens, logits std {logits.std():.2f}")


def permute(weights: np.ndarray, n_heads: int) -> np.ndarray:
    """Rows of q and k from halves to neighbouring pairs, as GGUF's llama wants them."""
    return (weights.reshape(n_heads, 2, weights.shape[0] // n_heads // 2, *weights.shape[1:]).swapaxes(1, 2)
            .reshape(weights.shape))


def tensors_of(model, arch: gguf.MODEL_ARCH):
    """(GGUF name, array) of every parameter, in the model's order."""
    config = model.config
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    tied = config.tie_word_embeddings
    for name, parameter in model.named_parameters():
        if tied and name.startswith("lm_head"):
            continue
        value = parameter.detach().numpy().astype(np.float32)
        if arch == gguf.MODEL_ARCH.LLAMA:
            if "q_proj" in name:
                value = permute(value, config.num_attention_heads)
            if "k_proj" in name:
                value = permute(value, config.num_key_value_heads)
        if arch in (gguf.MODEL_ARCH.GEMMA2, gguf.MODEL_ARCH.GEMMA3) and name.endswith("norm.weight"):
            value = value + 1.0
        new_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert new_name is not None, name
        yield new_name, value


def llama3_factors(rope: dict, head_dim: int) -> np.ndarray:
    frequencies = rope["rope_theta"] ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    low = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
    high = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    factors = []
    for wavelength in 2 * math.pi / frequencies:
        if wavelength < high:
            factors.append(1.0)
        elif wavelength > low:
            factors.append(rope["factor"])
        else:
            smooth = ((rope["original_max_position_embeddings"] / wavelength - rope["low_freq_factor"])
                      / (rope["high_freq_factor"] - rope["low_freq_factor"]))
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)


def add_rope(writer: gguf.GGUFWriter, config, arch):
    rope = config.rope_parameters
    if arch == gguf.MODEL_ARCH.GEMMA3:
        writer.add_rope_freq_base(rope["full_attention"]["rope_theta"])
        writer.add_rope_freq_base_swa(rope["sliding_attention"]["rope_theta"])
        rope = rope["full_attention"]
    elif arch != gguf.MODEL_ARCH.GEMMA2:  # whose base is always the default
        writer.add_rope_freq_base(rope["rope_theta"])
    kind = rope["rope_type"]
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    elif kind == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(rope, config.head_dim))
    elif kind == "longrope":
        scale = config.max_position_embeddings / rope["original_max_position_embeddings"]
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(rope["original_max_position_embeddings"])))
        writer.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], np.float32))
        writer.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], np.float32))


def add_shape(writer: gguf.GGUFWriter, config, arch, explicit_head_dim: bool):
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if explicit_head_dim:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if arch == gguf.MODEL_ARCH.LLAMA:
        writer.add_vocab_size(config.vocab_size)
        writer.add_rope_dimension_count(head_dim)
    if arch == gguf.MODEL_ARCH.PHI3:
        rotated = config.rope_parameters.get("partial_rotary_factor", 1.0)
        writer.add_rope_dimension_count(int(rotated * config.hidden_size) // config.num_attention_heads)
        writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
        writer.add_sliding_window(config.sliding_window or 0)
    if arch == gguf.MODEL_ARCH.GEMMA2:
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if arch in (gguf.MODEL_ARCH.GEMMA2, gguf.MODEL_ARCH.GEMMA3):
        writer.add_sliding_window(config.sliding_window)


def byte_alphabet() -> list[str]:
    """The printable stand-ins of bytes 0..255 in byte-level BPE."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    stand_in = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [stand_in[byte] for byte in range(256)]


CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = [("Ġ", piece) for piece in "tasiowbcfhmdpnlerguyvjkq"] + [
    ("h", "e"), ("i", "n"), ("r", "e"), ("o", "n"), ("e", "r"), ("a", "t"), ("o", "r"), ("e", "n"), ("i", "t"), ("i", "s"), ("a", "n"),
    ("a", "l"), ("e", "s"), ("l", "l"), ("o", "u"), ("a", "r"), ("s", "t"), ("e", "d"), ("l", "e"), ("Ġt", "he"), ("in", "g"), ("an", "d"),
    ("Ġ", "and"), ("Ġt", "o"), ("Ġo", "f"), ("Ġ", "in"), ("Ġ", "is"), ("Ġw", "or"), ("l", "d"), ("Ġwor", "ld"), ("H", "e"), ("He", "ll"),
    ("Hell", "o"), ("Ġw", "as"), ("a", "s"), ("Ġh", "e"), ("Ġs", "t")]


def add_tokenizer(writer: gguf.GGUFWriter) -> int:
    tokens = SPECIALS + byte_alphabet() + [a + b for a, b in MERGES]
    assert len(tokens) == len(set(tokens)) == 320, len(tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * len(SPECIALS) + [gguf.TokenType.NORMAL] * (len(tokens) - len(SPECIALS)))
    writer.add_token_merges([f"{a} {b}" for a, b in MERGES])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)
    return len(tokens)


def add_no_tokenizer(writer: gguf.GGUFWriter, n_vocab: int):
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(n_vocab)


def write_model(name: str, model, arch, explicit_head_dim: bool, tokenizer: bool, quantize=None):
    writer = gguf.GGUFWriter(OUT / f"{name}.gguf", gguf.MODEL_ARCH_NAMES[arch])
    writer.add_name(name)
    add_shape(writer, model.config, arch, explicit_head_dim)
    add_rope(writer, model.config, arch)
    if tokenizer:
        add_tokenizer(writer)
    elif arch != gguf.MODEL_ARCH.LLAMA:  # which says it anyhow
        add_no_tokenizer(writer, model.config.vocab_size)
    else:
        writer.add_tokenizer_model("no_vocab")
    for tensor_name, value in tensors_of(model, arch):
        kind = quantize(tensor_name, value) if quantize else None
        if kind is None:
            writer.add_tensor(tensor_name, value)
        else:
            writer.add_tensor(tensor_name, kind[0], raw_dtype=kind[1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{name}: {(OUT / f'{name}.gguf').stat().st_size} bytes")


COMMON = dict(vocab_size=N_VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=False,
              bos_token_id=1, eos_token_id=2, pad_token_id=0, attn_implementation="eager")


def make(name: str, config_class, arch, explicit_head_dim=False, tokenizer=False, kv_positions=256, short_golden=None, **overrides):
    config = config_class(**{**COMMON, **overrides})
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    randomize(model, name)
    write_model(name, model, arch, explicit_head_dim, tokenizer)
    golden(model, OUT / f"{name}.golden", TOKENS, kv_positions, config.vocab_size)
    if short_golden:
        golden(model, OUT / f"{name}-short.golden", short_golden, short_golden, config.vocab_size)


# One file with a tensor of each format, so that loading and every kernel meet in one forward pass.
FORMATS = {
    "token_embd.weight": "Q8_0", "output.weight": "Q6_K",
    "blk.0.attn_q.weight": "Q4_0", "blk.0.attn_k.weight": "Q4_1", "blk.0.attn_v.weight": "Q5_0", "blk.0.attn_output.weight": "Q5_1",
    "blk.0.ffn_gate.weight": "Q4_K", "blk.0.ffn_up.weight": "Q5_K", "blk.0.ffn_down.weight": "Q6_K",
    "blk.1.attn_q.weight": "Q2_K", "blk.1.attn_k.weight": "Q3_K", "blk.1.attn_v.weight": "IQ4_NL", "blk.1.attn_output.weight": "IQ4_XS",
    "blk.1.ffn_gate.weight": "MXFP4", "blk.1.ffn_up.weight": "F16", "blk.1.ffn_down.weight": "BF16",
}
# Where the F16 scales of a block lie (byte offsets), and the size of what they multiply, for blocks of random bytes.
RANDOM_BLOCKS = {"Q2_K": ([80, 82], 6.0), "Q3_K": ([108], 60.0), "Q4_K": ([0, 2], 220.0), "Q5_K": ([0, 2], 450.0), "Q6_K": ([208], 1100.0),
                 "IQ4_NL": ([0], 70.0), "IQ4_XS": ([0], 1100.0)}


def random_blocks(name: str, kind: str, rows: int, cols: int) -> np.ndarray:
    """Blocks of a format that the gguf package cannot write: random codes, scales that give weights of about 1 / sqrt(cols)."""
    block_elements, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    blocks = rng(f"blocks/{name}").integers(0, 256, (rows * cols // block_elements, block_bytes), dtype=np.uint8)
    offsets, size = RANDOM_BLOCKS[kind]
    for offset in offsets:
        blocks[:, offset:offset + 2] = np.array([1.0 / size / math.sqrt(cols)], "<f2").view(np.uint8)
    return blocks.reshape(rows, -1)


def make_quantized():
    name, arch = "tiny-llama-quantized", gguf.MODEL_ARCH.LLAMA
    config = transformers.LlamaConfig(**{**COMMON, "hidden_size": 256, "intermediate_size": 256, "num_key_value_heads": 1})
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    randomize(model, name)
    packed = {}
    parameters = dict(model.named_parameters())
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for hf_name, parameter in parameters.items():
        gguf_name = names.get_name(hf_name, try_suffixes=(".weight",))
        if gguf_name not in FORMATS:
            continue
        kind = gguf.GGMLQuantizationType[FORMATS[gguf_name]]
        value = parameter.detach().numpy()
        heads = config.num_attention_heads if "attn_q." in gguf_name else config.num_key_value_heads if "attn_k." in gguf_name else 0
        value = permute(value, heads) if heads else value
        if kind.name in RANDOM_BLOCKS:
            data = random_blocks(gguf_name, kind.name, *value.shape)
        else:
            data = gguf.quantize(value, kind)
        packed[gguf_name] = (data, kind)
        decoded = gguf.dequantize(data, kind).reshape(value.shape)
        print(f"  {gguf_name} {kind.name}: std * sqrt(cols) = {decoded.std() * math.sqrt(value.shape[1]):.2f}")
        if heads:  # back to halves
            decoded = decoded.reshape(heads, value.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(value.shape)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(decoded.astype(np.float32)))
    write_model(name, model, arch, False, False, lambda tensor_name, _: packed.get(tensor_name))
    golden(model, OUT / f"{name}.golden", TOKENS, 256, N_VOCAB)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    arch = gguf.MODEL_ARCH
    default = {"rope_type": "default", "rope_theta": 10000.0}
    make("tiny-llama", transformers.LlamaConfig, arch.LLAMA, tokenizer=True, vocab_size=320, hidden_size=64, intermediate_size=128,
         tie_word_embeddings=True, rope_parameters=default)
    make("tiny-llama3", transformers.LlamaConfig, arch.LLAMA, hidden_size=64, num_attention_heads=4, head_dim=16,
         rope_parameters={"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                          "original_max_position_embeddings": 32})
    make("tiny-llama-linear", transformers.LlamaConfig, arch.LLAMA, attention_bias=True,
         rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0})
    make("tiny-llama-yarn", transformers.LlamaConfig, arch.LLAMA, hidden_size=64,
         rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64})
    make("tiny-mistral", transformers.MistralConfig, arch.LLAMA, explicit_head_dim=True, head_dim=32, sliding_window=None,
         rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
    make("tiny-qwen2", transformers.Qwen2Config, arch.QWEN2, tie_word_embeddings=True,
         rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
    make("tiny-qwen2-yarn", transformers.Qwen2Config, arch.QWEN2, hidden_size=64,
         rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64})
    make("tiny-qwen3", transformers.Qwen3Config, arch.QWEN3, explicit_head_dim=True, head_dim=32,
         rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
    make("tiny-phi3", transformers.Phi3Config, arch.PHI3, num_key_value_heads=4, sliding_window=24, rope_parameters=default,
         original_max_position_embeddings=256)
    factors = [list(np.round(np.linspace(1.0, top, 6), 3)) for top in (1.4, 6.0)]
    make("tiny-phi3-longrope", transformers.Phi3Config, arch.PHI3, hidden_size=64, sliding_window=None,
         original_max_position_embeddings=32, short_golden=32, tie_word_embeddings=True,
         rope_parameters={"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
                          "original_max_position_embeddings": 32, "short_factor": factors[0], "long_factor": factors[1]})
    make("tiny-gemma2", transformers.Gemma2Config, arch.GEMMA2, explicit_head_dim=True, num_hidden_layers=4, head_dim=16,
         query_pre_attn_scalar=16, sliding_window=16, attn_logit_softcapping=3.0, final_logit_softcapping=5.0, tie_word_embeddings=True,
         rope_parameters=default)
    make("tiny-gemma3", transformers.Gemma3TextConfig, arch.GEMMA3, explicit_head_dim=True, num_hidden_layers=7, head_dim=16,
         num_key_value_heads=1, query_pre_attn_scalar=16, sliding_window=16, tie_word_embeddings=True,
         rope_parameters={"full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
                          "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}})
    make_quantized()


if __name__ == "__main__":
    sys.exit(main())
