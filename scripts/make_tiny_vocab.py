#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes testdata/tokenizer: tiny vocabularies as GGUF, texts, and what other tokenizers make of them.

  tiny-bpe.gguf   256 bytes and 300 merges, pre-tokenizer "gpt-2", trained by Hugging Face tokenizers
  tiny-spm.gguf   SentencePiece BPE with byte fallback
  tiny-ugm.gguf   SentencePiece unigram
  tiny.inp        texts, separated by a line __ggml_vocab_test__
  tiny-*.out      their ids by tokenizers and sentencepiece, a line a text
  words.inp/.out  texts, and the words that each set of pre-tokenizer rules cuts them into (byte lengths), by Hugging Face tokenizers

Needs the Python packages gguf, sentencepiece and tokenizers. Usage: scripts/make_tiny_vocab.py [DIR]
"""
import io
import json
import pathlib
import random
import re
import sys
import unicodedata

import gguf
import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "testdata" / "tokenizer"
SEPARATOR = "\n__ggml_vocab_test__\n"

CORPUS = [
    "The pantry keeps what the kitchen does not need at once; the countertop holds what is in use.",
    "A token is a piece of text. The tokens of a text, put together, are the text again.",
    "She said that they'd be here at ten, but it's eleven already and we're still waiting.",
    "for i in range(10):\n    print(i, i * i)\n\nif x == 0:\n    return None",
    "Größe, naïve, façade, über, señor, crème brûlée, smörgåsbord.",
    "Один раз отмерь. 世界 こんにちは 안녕하세요 مرحبا",
    "In 1984 there were 365 days, 12 months and 52 weeks; 3.14159 is not 22/7.",
] * 3

TEXTS = [
    "", " ", "  ", "   ", "\t", "\n", "\n\n", "\t\n", "Hello world", " Hello world", "Hello, World!", " this is 🦙.cpp",
    "The tokens of the text", "they'd it's WE'RE I'm", "print(i, i * i)\n    return None", "1234567 3.14 ½²", "世界 안녕하세요 مرحبا",
    "Größe naïve\u0301 e\u0301", "a" * 40, "  leading and trailing  ", "<s> </s> <unk> <0x41>", "\u2581 \u00a0\u3000x", "🚀😶\u200d🌫️", "tab\tand\r\nend",
]


def write_gguf(path, model, tokens, kinds, scores=None, merges=None, pre=None, **ids):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if scores:
        writer.add_token_scores(scores)
    if merges:
        writer.add_token_merges(merges)
    for key, value in ids.items():
        if isinstance(value, bool):
            writer.add_bool(f"tokenizer.ggml.{key}", value)
        else:
            writer.add_uint32(f"tokenizer.ggml.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_ids(path, encode):
    path.write_text("".join(" ".join(str(i) for i in encode(text)) + "\n" for text in TEXTS))


def make_bpe():
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=556, initial_alphabet=alphabet, show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]
    n = len(tokens)
    write_gguf(OUT / "tiny-bpe.gguf", "gpt2", tokens + ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|tool|>"],
               [1] * n + [3, 3, 3, 4], merges=merges, pre="gpt-2", bos_token_id=n, eos_token_id=n + 2)
    write_ids(OUT / "tiny-bpe.out", lambda text: tokenizer.encode(text).ids)


def make_sentencepiece(name, model_type, gguf_model, size):
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=file, model_type=model_type, vocab_size=size, byte_fallback=True,
        character_coverage=1.0, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        hard_vocab_limit=False, minloglevel=2)
    processor = sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())
    tokens, scores, kinds = [], [], []
    for i in range(processor.get_piece_size()):
        tokens.append(processor.id_to_piece(i))
        scores.append(processor.get_score(i))
        kinds.append(2 if processor.is_unknown(i) else 3 if processor.is_control(i) else 6 if processor.is_byte(i) else 1)
    write_gguf(OUT / f"{name}.gguf", gguf_model, tokens, kinds, scores=scores, bos_token_id=1, eos_token_id=2, unknown_token_id=0,
               add_space_prefix=True, add_bos_token=True, add_eos_token=False)
    write_ids(OUT / f"{name}.out", processor.encode)


def hard_text(rng, n):
    pieces = ["I'm", "you'RE", "don't", "'s", "WE'VE", "12345", "1234567", "12\u00bd", "3.14", "hello", " World", "HTTPServer", "\t", "\n", "\n\n", "  ", "    ",
              "\r\n", " \n", "中文", "漢字テスト", "한국어", "🚀", "العربية", "١٢٣٤", "नमस्ते", "e\u0301", "ﬁ", "²³", "…", "—", "“q”", "\u3000", "\u00a0",
              "\u2028", "def f(x):\n    return x+1\n", "!!!???", "\x01", "\x85", "\u180e", "\u200b", "ǅ", "(a,b)", "¿Qué?", "ſ", "/*", "//\n"]
    out = []
    for _ in range(n):
        if rng.random() < 0.6:
            out.append(rng.choice(pieces))
            continue
        code = rng.randrange(0x20, 0x3100)
        while unicodedata.category(chr(code)) in ("Cn", "Cs"):
            code = rng.randrange(0x20, 0x3100)
        out.append(chr(code))
    return "".join(out)


# The rules as published, where pre_tokenizer.inc had to write them differently.
PUBLISHED = {
    r"(?<!\s)\s++\z": r"\s+$",
    r"\p{sc:Han}": r"\p{Han}",
    r"(?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])": r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]",
    r"(?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])": r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]",
    r"\d{3,}": r"(?=(\d{3})+(?!\d))",
}


def read_rules():
    """Patterns and names out of pre_tokenizer.inc."""
    source = (ROOT / "src/text/pre_tokenizer.inc").read_text()
    raw = lambda text: "".join(re.findall(r'R"re\((.*?)\)re"', text))
    constants = {name: raw(text) for name, text in re.findall(r"constexpr const char\* (\w+) = (.*?);\n", source, re.S)}
    rules = {}
    for name, body in re.findall(r"constexpr PatternRow (\w+)\[\] = \{(.*?)\};\n", source, re.S):
        rules[name] = [constants.get(row) or raw(row) for row in re.findall(r"\{((?:\s*R\"re\(.*?\)re\"\s*)+|\w+)(?:, true)?\}", body, re.S)]
    names = re.findall(r'\{"([^"]+)", (\w+)', source[source.index("kRuleSets[]"):])
    first = {}
    for name, rule in names:
        first.setdefault(rule, name)
    return {name: rules[rule] for rule, name in first.items()}


def make_words():
    rng = random.Random(7)
    texts = [hard_text(rng, n) for n in (5, 10, 20, 40, 80, 160, 160)]
    (OUT / "words.inp").write_text(SEPARATOR.join(texts), newline="")
    lines = []
    for name, patterns in read_rules().items():
        steps = []
        for pattern in patterns:
            for ours, published in PUBLISHED.items():
                pattern = pattern.replace(ours, published)
            pattern = re.sub(r"\\x\{([0-9A-F]+)\}", lambda m: chr(int(m.group(1), 16)), pattern)
            steps.append(pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"))
        split = pre_tokenizers.Sequence(steps)
        for i, text in enumerate(texts):
            words = [len(word.encode()) for word, _ in split.pre_tokenize_str(text)]
            assert sum(words) == len(text.encode()), (name, i)
            lines.append(f"{name} {i} " + " ".join(map(str, words)) + "\n")
    (OUT / "words.out").write_text("".join(lines))


OUT.mkdir(parents=True, exist_ok=True)
(OUT / "tiny.inp").write_text(SEPARATOR.join(TEXTS) + SEPARATOR, newline="")
make_bpe()
make_sentencepiece("tiny-spm", "bpe", "llama", 512)
make_sentencepiece("tiny-ugm", "unigram", "t5", 480)
make_words()
