#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints our own source files that BUILD/compile_commands.json compiles, one a line: what clang-tidy is to look at."""
import json
import pathlib
import sys

root = pathlib.Path(__file__).resolve().parent.parent
build = pathlib.Path(sys.argv[1])
files = {pathlib.Path(entry["directory"], entry["file"]).resolve() for entry in json.loads((build / "compile_commands.json").read_text())}
ours = [file for file in files if any(file.is_relative_to(root / folder) for folder in ("src", "tests", "examples"))]
print("\n".join(sorted(str(file) for file in ours)))
