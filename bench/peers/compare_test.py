#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of compare.py on outputs as the programs write them. Needs no engine."""
import argparse
import csv
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import compare  # noqa: E402  pylint: disable=wrong-import-position

PANTRY = """{"pantry": "0.1.0", "isa": "avx512-vnni", "machine": {"cpu": "A CPU"}, "tests": [
  {"n_prompt": 512, "n_gen": 0, "n_depth": 0, "n_threads": 2, "tok_per_s": 1500.0},
  {"n_prompt": 0, "n_gen": 128, "n_depth": 8000, "n_threads": 2, "tok_per_s": 90.0}]}"""
LLAMA = """warning: something [not json]
[
  {"build_commit": "abc", "build_number": 7, "n_prompt": 512, "n_gen": 0, "n_depth": 0, "n_threads": 2, "avg_ts": 300.0},
  {"build_commit": "abc", "build_number": 7, "n_prompt": 0, "n_gen": 128, "n_depth": 8000, "n_threads": 2, "avg_ts": 45.0}
]
done
"""
IK = """[{"build_commit": "def", "build_number": 1, "n_prompt": 8000, "n_gen": 128, "n_threads": 2, "avg_ts": 60.0, "test": "tg128@pp8000"}]"""
PROMPT = (512, 0, 0, 2)
DEEP = (0, 128, 8000, 2)


class Parsing(unittest.TestCase):
    def test_pantry_output_gives_speeds_and_machine(self):
        speeds, info = compare.pantry_speeds(PANTRY)
        self.assertEqual(speeds, {PROMPT: 1500.0, DEEP: 90.0})
        self.assertEqual(info, {"version": "0.1.0", "cpu": "A CPU", "isa": "avx512-vnni"})

    def test_peer_output_is_found_among_other_lines(self):
        speeds, info = compare.peer_speeds(LLAMA)
        self.assertEqual(speeds, {PROMPT: 300.0, DEEP: 45.0})
        self.assertEqual(info["version"], "7 (abc)")

    def test_generation_after_a_prompt_is_generation_at_a_depth(self):
        self.assertEqual(compare.peer_speeds(IK)[0], {DEEP: 60.0})

    def test_output_without_json_is_an_error(self):
        with self.assertRaises(ValueError):
            compare.peer_speeds("error: failed to load [model]\n")


class Figures(unittest.TestCase):
    def test_ratios_are_of_medians_and_of_rounds(self):
        self.assertEqual(compare.ratios([10, 30, 20], [10, 10, 5]), (2.0, 1.0, 4.0))
        self.assertIsNone(compare.ratios([10], []))

    def test_table_has_a_dash_for_what_a_peer_cannot_measure(self):
        samples = {"pantry": {PROMPT: [1500.0], DEEP: [90.0]}, "ik_llama.cpp": {DEEP: [60.0]}}
        lines = compare.table(samples, ["pantry", "ik_llama.cpp"]).split("\n")
        self.assertEqual(lines[2], "| pp512, 2 threads | 1500 (1500 - 1500) | - | - |")
        self.assertEqual(lines[3], "| tg128 @ d8000, 2 threads | 90.00 (90.00 - 90.00) | 60.00 (60.00 - 60.00) | 1.50 (1.50 - 1.50) |")

    def test_csv_rows_hold_no_path(self):
        samples = {"pantry": {DEEP: [90.0, 92.0]}, "llama.cpp": {DEEP: [45.0, 46.0]}}
        infos = {"pantry": {"cpu": "A, CPU", "isa": "x", "version": "1"}, "llama.cpp": {"version": "7 (abc)"}}
        with tempfile.TemporaryDirectory() as folder:
            model = os.path.join(folder, "model.gguf")
            with open(model, "wb") as out:
                out.write(b"12345")
            path = os.path.join(folder, "results", "peers.csv")
            for _ in range(2):
                compare.append_csv(path, compare.csv_rows(samples, ["pantry", "llama.cpp"], infos, model, "2026-01-01T00:00Z"))
            with open(path, encoding="utf-8") as text:
                rows = list(csv.DictReader(text))
        self.assertEqual(len(rows), 4)
        self.assertEqual(rows[1]["model"], "model.gguf")
        self.assertEqual(rows[1]["model_bytes"], "5")
        self.assertEqual(rows[1]["pantry_ratio"], "2.0000")
        self.assertEqual(rows[0]["pantry_ratio"], "")
        self.assertNotIn(folder, " ".join(rows[0].values()))


class Commands(unittest.TestCase):
    def test_peers_use_flash_attention_where_the_context_is_not_empty(self):
        args = argparse.Namespace(n_prompt="512", n_gen="128", n_depth="0,8000", threads="2", tokens="random")
        empty, deep = compare.LlamaBench("llama.cpp", "x", "").commands("m.gguf", args)
        self.assertNotIn("-fa", empty)
        self.assertIn("-fa", deep)
        ik = list(compare.IkLlamaBench("ik_llama.cpp", "x", "-rtr 1").commands("m.gguf", args))
        self.assertIn("8000,128", ik[1])
        self.assertIn("-rtr", ik[0])


if __name__ == "__main__":
    unittest.main()
