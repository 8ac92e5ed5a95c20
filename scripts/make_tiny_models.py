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
import types
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
        elif name.endswith(("bias", "sinks")):
            value = (1.0 if name.endswith("sinks") else 0.3) * noise
        elif "embed_tokens" in name:
            value = 2.0 / math.sqrt(shape[1]) * noise
        elif "lm_head" in name:
            value = 2.0 / math.sqrt(shape[1]) * noise
        else:
            gain = 1.5 if any(part in name for part in ("q_proj", "k_proj", "qkv_proj")) else 1.0
            value = gain / math.sqrt(shape[-2 if "GptOss" in type(model).__name__ and "experts" in name else -1]) * noise
            if name.endswith("shared_expert_gate.weight"):
                value = 3 * value
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


def split_experts(name: str, value: np.ndarray, arch):
    """(GGUF name, array) of a layer's stacked experts, whose gate and up are one array in transformers."""
    block, kind = f"blk.{name.split('.')[2]}", "bias" if name.endswith("bias") else "weight"
    if arch == gguf.MODEL_ARCH.GPT_OSS and kind == "weight":
        value = value.swapaxes(1, 2)
    if "down_proj" in name:
        yield f"{block}.ffn_down_exps.{kind}", value
    else:
        gate, up = (value[:, 0::2], value[:, 1::2]) if arch == gguf.MODEL_ARCH.GPT_OSS else np.split(value, 2, axis=1)
        yield f"{block}.ffn_gate_exps.{kind}", gate
        yield f"{block}.ffn_up_exps.{kind}", up


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
        if name.endswith("kv_b_proj.weight"):
            block, heads = f"blk.{name.split('.')[2]}", value.reshape(config.num_attention_heads, -1, config.kv_lora_rank)
            yield f"{block}.attn_k_b.weight", np.ascontiguousarray(heads[:, :config.qk_nope_head_dim].swapaxes(1, 2))
            yield f"{block}.attn_v_b.weight", np.ascontiguousarray(heads[:, config.qk_nope_head_dim:])
            continue
        if ".experts." in name:
            yield from ((part, np.ascontiguousarray(array)) for part, array in split_experts(name, value, arch))
            continue
        if name.endswith("sinks"):
            name += ".weight"
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
        if arch == gguf.MODEL_ARCH.DEEPSEEK2:
            writer.add_rope_scaling_yarn_log_mul(0.1 * rope["mscale_all_dim"])
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
    writer.add_head_count_kv(1 if arch == gguf.MODEL_ARCH.DEEPSEEK2 else config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if n_experts := getattr(config, "n_routed_experts", 0) or getattr(config, "num_experts", 0) or getattr(config, "num_local_experts", 0):
        writer.add_expert_count(n_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if arch == gguf.MODEL_ARCH.DEEPSEEK2:
        writer.add_leading_dense_block_count(config.first_k_dense_replace)
        writer.add_kv_lora_rank(config.kv_lora_rank)
        writer.add_key_length(config.kv_lora_rank + config.qk_rope_head_dim)
        writer.add_value_length(config.kv_lora_rank)
        writer.add_key_length_mla(config.qk_nope_head_dim + config.qk_rope_head_dim)
        writer.add_value_length_mla(config.v_head_dim)
        writer.add_rope_dimension_count(config.qk_rope_head_dim)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        writer.add_expert_shared_count(config.n_shared_experts)
        writer.add_expert_weights_scale(config.routed_scaling_factor)
    if arch == gguf.MODEL_ARCH.GPT_OSS:
        writer.add_expert_feed_forward_length(config.intermediate_size)
        writer.add_sliding_window(config.sliding_window)
    if arch in (gguf.MODEL_ARCH.QWEN2MOE, gguf.MODEL_ARCH.QWEN3MOE, gguf.MODEL_ARCH.SMALLTHINKER):
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if arch == gguf.MODEL_ARCH.QWEN2MOE:
        writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)
    if arch == gguf.MODEL_ARCH.SMALLTHINKER:
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID if config.sigmoid else gguf.ExpertGatingFuncType.SOFTMAX)
        writer.add_sliding_window(config.sliding_window)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if explicit_head_dim:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if arch == gguf.MODEL_ARCH.LLAMA:
        writer.add_vocab_size(config.vocab_size)
        writer.add_rope_dimension_count(head_dim)
    if arch in (gguf.MODEL_ARCH.PHI3, gguf.MODEL_ARCH.PHIMOE):
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


def write_model(name: str, model, arch, explicit_head_dim: bool, tokenizer: bool, quantize=None, extra=None):
    writer = gguf.GGUFWriter(OUT / f"{name}.gguf", gguf.MODEL_ARCH_NAMES[arch])
    writer.add_name(name)
    add_shape(writer, model.config, arch, explicit_head_dim)
    add_rope(writer, model.config, arch)
    if extra:
        extra(writer)
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


class SmallThinker:
    """What transformers does not have, as its authors' code computes it: the router reads a layer's raw input, experts gate by ReLU, and
    every layer but each fourth has a window and rotates its positions; without windows all layers rotate."""

    def __init__(self, **overrides):
        self.config = c = types.SimpleNamespace(**{**COMMON, **EXPERTS, "head_dim": 16, "sigmoid": False, "sliding_window": 0, **overrides})
        n_q, n_kv, d, ff = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim, c.hidden_size, c.moe_intermediate_size
        shapes = {"model.embed_tokens.weight": (c.vocab_size, d)}
        for i in range(c.num_hidden_layers):
            layer, attn, moe = f"model.layers.{i}", f"model.layers.{i}.self_attn", f"model.layers.{i}.block_sparse_moe"
            shapes |= {f"{layer}.input_layernorm.weight": (d,), f"{attn}.q_proj.weight": (n_q, d), f"{attn}.k_proj.weight": (n_kv, d),
                       f"{attn}.v_proj.weight": (n_kv, d), f"{attn}.o_proj.weight": (d, n_q),
                       f"{layer}.post_attention_layernorm.weight": (d,), f"{moe}.primary_router.weight": (c.num_experts, d),
                       f"{moe}.experts.gate_up_proj": (c.num_experts, 2 * ff, d), f"{moe}.experts.down_proj": (c.num_experts, d, ff)}
        shapes |= {"model.norm.weight": (d,), "lm_head.weight": (c.vocab_size, d)}
        self.weights = {name: torch.zeros(shape) for name, shape in shapes.items()}

    def named_parameters(self):
        return self.weights.items()

    def rotate(self, x):  # [heads, positions, head_dim]
        d = x.shape[-1]
        angles = torch.arange(x.shape[1])[:, None] * self.config.rope_parameters["rope_theta"] ** (-torch.arange(0, d, 2) / d)[None]
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], dim=-1)

    def attention(self, name: str, h, is_rotated: bool, window: int):
        c, n = self.config, h.shape[0]
        q, k, v = ((h @ self.weights[f"{name}.{part}_proj.weight"].T).view(n, -1, c.head_dim).transpose(0, 1) for part in "qkv")
        if is_rotated:
            q, k = self.rotate(q), self.rotate(k)
        k, v = (t.repeat_interleave(c.num_attention_heads // c.num_key_value_heads, dim=0) for t in (k, v))
        distance = torch.arange(n)[:, None] - torch.arange(n)[None]
        hidden = (distance < 0) | ((distance >= window) if window else False)
        scores = (q @ k.transpose(1, 2) / math.sqrt(c.head_dim)).masked_fill(hidden, -math.inf)
        return (scores.softmax(-1) @ v).transpose(0, 1).reshape(n, -1) @ self.weights[f"{name}.o_proj.weight"].T

    def experts(self, name: str, h, router_logits):
        probabilities = router_logits.sigmoid() if self.config.sigmoid else router_logits.softmax(-1)
        weights, chosen = probabilities.topk(self.config.num_experts_per_tok)
        weights = weights / weights.sum(-1, keepdim=True)
        gate, up = torch.einsum("td,tkfd->tkf", h, self.weights[f"{name}.experts.gate_up_proj"][chosen]).chunk(2, dim=-1)
        return torch.einsum("tkf,tkdf,tk->td", gate.relu() * up, self.weights[f"{name}.experts.down_proj"][chosen], weights)

    def __call__(self, tokens, use_cache=False):
        c = self.config
        norm = lambda x, name: x * (x.square().mean(-1, keepdim=True) + c.rms_norm_eps).rsqrt() * self.weights[f"{name}.weight"]
        x = self.weights["model.embed_tokens.weight"][tokens[0]]
        for i in range(c.num_hidden_layers):
            layer, is_sliding = f"model.layers.{i}", c.sliding_window > 0 and i % 4 != 0
            router_logits = x @ self.weights[f"{layer}.block_sparse_moe.primary_router.weight"].T
            x = x + self.attention(f"{layer}.self_attn", norm(x, f"{layer}.input_layernorm"), is_sliding or not c.sliding_window,
                                   c.sliding_window if is_sliding else 0)
            x = x + self.experts(f"{layer}.block_sparse_moe", norm(x, f"{layer}.post_attention_layernorm"), router_logits)
        logits = norm(x, "model.norm") @ self.weights["lm_head.weight"].T
        return types.SimpleNamespace(logits=logits[None])


def make_smallthinker(name: str, **overrides):
    model = SmallThinker(**overrides)
    randomize(model, name)
    write_model(name, model, gguf.MODEL_ARCH.SMALLTHINKER, True, False)
    golden(model, OUT / f"{name}.golden", TOKENS, 256, N_VOCAB)


EXPERTS = dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24)


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


# Formats of gate and up, and of down, by layer: experts whose rows are read as Q8, BF16 and F32 numbers, also one after the other.
EXPERT_FORMATS = [("Q4_0", "Q8_0"), ("Q8_0", "Q4_1"), ("BF16", "Q5_0"), ("Q5_1", "BF16"), ("MXFP4", "F32")]


def make_quantized_experts():
    name, arch = "tiny-qwen3moe-quantized", gguf.MODEL_ARCH.QWEN3MOE
    config = transformers.Qwen3MoeConfig(**{**COMMON, **EXPERTS, "num_hidden_layers": len(EXPERT_FORMATS), "head_dim": 16,
                                            "moe_intermediate_size": 32, "norm_topk_prob": True})
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    randomize(model, name)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate.weight.mul_(4)  # clear choices, so that rounded activations do not change them
    packed = {}
    for hf_name, parameter in model.named_parameters():
        if ".experts." not in hf_name:
            continue
        decoded = []
        for gguf_name, value in split_experts(hf_name, parameter.detach().numpy(), arch):
            kind = gguf.GGMLQuantizationType[EXPERT_FORMATS[int(hf_name.split(".")[2])]["down" in gguf_name]]
            packed[gguf_name] = (gguf.quantize(np.ascontiguousarray(value), kind), kind)
            decoded.append(gguf.dequantize(packed[gguf_name][0], kind).reshape(value.shape))
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.concatenate(decoded, axis=1)))
    write_model(name, model, arch, True, False, lambda tensor_name, _: packed.get(tensor_name))
    golden(model, OUT / f"{name}.golden", TOKENS, 256, N_VOCAB)


class DoubleRelu(torch.nn.Module):
    """dReLU of an MLP: relu(gate) * relu(up), as Bamboo and TurboSparse have it (Song et al. 2024)."""

    def __init__(self, mlp):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj

    def forward(self, x):
        return self.down_proj(torch.relu(self.gate_proj(x)) * torch.relu(self.up_proj(x)))


def make_relu(name: str, config, activation: str):
    """Feed-forward networks that gate by ReLU, wide enough and in formats that lie by neuron; attention in Q8_0 keeps the file small."""
    arch = gguf.MODEL_ARCH.LLAMA
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    if activation == "drelu":
        for layer in model.model.layers:
            layer.mlp = DoubleRelu(layer.mlp)
    randomize(model, name)
    packed = {}

    def pack(gguf_name: str, value: np.ndarray) -> np.ndarray:
        is_ff = "ffn_" in gguf_name and "inp" not in gguf_name
        kind = gguf.GGMLQuantizationType["Q4_0" if is_ff and not gguf_name.startswith("blk.1.ffn_down") else "Q8_0"]
        packed[gguf_name] = (gguf.quantize(np.ascontiguousarray(value), kind), kind)
        return gguf.dequantize(packed[gguf_name][0], kind).reshape(value.shape)

    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for hf_name, parameter in model.named_parameters():
        value = parameter.detach().numpy()
        if value.ndim < 2 or hf_name.endswith("mlp.gate.weight"):
            continue
        if ".experts." in hf_name:
            decoded = np.concatenate([pack(part, array) for part, array in split_experts(hf_name, value, arch)], axis=1)
        else:
            gguf_name = names.get_name(hf_name, try_suffixes=(".weight",))
            heads = config.num_attention_heads if "attn_q." in gguf_name else config.num_key_value_heads if "attn_k." in gguf_name else 0
            decoded = pack(gguf_name, permute(value, heads) if heads else value)
            if heads:  # back to halves
                decoded = decoded.reshape(heads, value.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(value.shape)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(decoded.astype(np.float32)))
    write_model(name, model, arch, True, True, lambda tensor_name, _: packed.get(tensor_name),
                extra=lambda writer: writer.add_string("llama.feed_forward_activation", activation))
    golden(model, OUT / f"{name}.golden", TOKENS, 256, config.vocab_size)


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
    make("tiny-qwen3moe", transformers.Qwen3MoeConfig, arch.QWEN3MOE, explicit_head_dim=True, head_dim=16, norm_topk_prob=True,
         rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, **EXPERTS)
    make("tiny-olmoe", transformers.OlmoeConfig, arch.OLMOE, rope_parameters=default, norm_topk_prob=False,
         **{**EXPERTS, "intermediate_size": 24})
    make("tiny-mixtral", transformers.MixtralConfig, arch.LLAMA, intermediate_size=24, num_local_experts=5, num_experts_per_tok=2,
         rope_parameters=default)
    make("tiny-qwen2moe", transformers.Qwen2MoeConfig, arch.QWEN2MOE, norm_topk_prob=False, shared_expert_intermediate_size=40,
         rope_parameters=default, **EXPERTS)
    latent = dict(q_lora_rank=None, kv_lora_rank=64, qk_nope_head_dim=24, qk_rope_head_dim=16, v_head_dim=16, n_routed_experts=6,
                  num_experts_per_tok=2, n_shared_experts=2, moe_intermediate_size=24, first_k_dense_replace=1, num_key_value_heads=4)
    make("tiny-deepseek2", transformers.DeepseekV2Config, arch.DEEPSEEK2, rope_parameters=default, **latent)
    make("tiny-deepseek2-yarn", transformers.DeepseekV2Config, arch.DEEPSEEK2, routed_scaling_factor=1.5, **latent,
         rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64,
                          "mscale": 0.707, "mscale_all_dim": 0.707})
    make("tiny-gpt-oss", transformers.GptOssConfig, arch.GPT_OSS, explicit_head_dim=True, head_dim=32, intermediate_size=24, num_local_experts=5,
         num_experts_per_tok=2, sliding_window=16,
         rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64})
    make("tiny-phimoe", transformers.PhimoeConfig, arch.PHIMOE, intermediate_size=24, num_local_experts=5, num_experts_per_tok=2,
         sliding_window=None, attention_bias=True, lm_head_bias=True, rope_parameters=default, original_max_position_embeddings=256)
    make_smallthinker("tiny-smallthinker", rope_parameters=default)
    make_smallthinker("tiny-smallthinker-sliding", rope_parameters=default, num_hidden_layers=6, sliding_window=16, sigmoid=True)
    make_quantized()
    make_quantized_experts()
    wide = {**COMMON, "vocab_size": 320, "hidden_size": 256, "head_dim": 16, "tie_word_embeddings": True, "rope_parameters": default}
    make_relu("tiny-bamboo-quantized", transformers.LlamaConfig(**{**wide, "intermediate_size": 192}), "drelu")
    make_relu("tiny-turbosparse-quantized", transformers.MixtralConfig(
        **{**wide, "intermediate_size": 64, "num_local_experts": 4, "num_experts_per_tok": 2, "hidden_act": "relu"}), "relu")


if __name__ == "__main__":
    sys.exit(main())
