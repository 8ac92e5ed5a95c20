#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that every #include in src/ goes where src/LAYERS allows, that it is a full path from src/, and that files carry the licence line.

Prints file:line of each offence and exits 1 if there are any. `--self-test` checks the checker.
"""
import pathlib
import re
import sys
import tempfile

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')
TESTS = ("_test.cc", "_fuzz.cc", "_bench.cc")
SOURCES = (".cc", ".h", ".c", ".inc")
LICENCE = "SPDX-License-Identifier: Apache-2.0"


def read_layers(path):
    layers = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        folder, colon, allowed = line.partition(":")
        if not colon:
            sys.exit(f"{path}:{number}: expected 'folder: allowed ...', found '{line}'")
        layers[folder.strip()] = allowed.split()
    return layers


def is_under(path, folder):
    return path == folder or path.startswith(folder + "/")


def rule_of(path, layers):
    """The longest folder of LAYERS that `path` lies in, or None."""
    folders = [folder for folder in layers if is_under(path, folder)]
    return max(folders, key=len, default=None)


def is_test(name):
    return name.endswith(TESTS) or name.startswith("test_") or name.startswith("scripted_")


def offence(file, included, rule, layers, root):
    """Why the file `file` (relative to src/) may not include `included`; None when it may."""
    if is_under(included, "support"):  # tests/support
        return None if is_test(pathlib.Path(file).name) else "only tests may include tests/support"
    if is_under(included, "pantry"):  # the public header
        return None if (root / "include" / included).exists() else "no such public header"
    if not (root / "src" / included).exists():
        return "not a full path from src/"
    if any(is_under(included, allowed) for allowed in [rule, "base", *layers[rule]]):
        return None
    return f"{rule} may not include it (src/LAYERS: {rule} may include base {' '.join(layers[rule])})".rstrip()


def check(root):
    layers = read_layers(root / "src" / "LAYERS")
    offences = []
    for path in sorted(p for p in (root / "src").rglob("*") if p.suffix in SOURCES):
        file = path.relative_to(root / "src").as_posix()
        lines = path.read_text(errors="replace").splitlines()
        if path.suffix != ".inc" and (not lines or LICENCE not in lines[0]):
            offences.append(f"src/{file}:1: the first line is not '// {LICENCE}'")
        rule = rule_of(file, layers)
        if rule is None:
            offences.append(f"src/{file}:1: its folder has no line in src/LAYERS")
            continue
        for number, line in enumerate(lines, 1):
            match = INCLUDE.match(line)
            why = offence(file, match.group(1), rule, layers, root) if match else None
            if why:
                offences.append(f"src/{file}:{number}: #include \"{match.group(1)}\": {why}")
    return offences


def self_test():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        files = {
            "src/LAYERS": "base:\nlow: \nlow/inner:\nhigh: low/inner low/door.h\n",
            "src/base/b.h": "", "src/low/inner/i.h": "", "src/low/door.h": "", "src/low/secret.h": "",
            "src/low/ok.cc": '#include "low/inner/i.h"\n#include "base/b.h"\n',
            "src/low/inner/bad.cc": '#include "low/door.h"\n',
            "src/high/ok.cc": '#include "low/door.h"\n#include "low/inner/i.h"\n',
            "src/high/bad.cc": '#include <vector>\n#include "low/secret.h"\n',
            "src/high/bad_test.cc": '#include "support/x.h"\n#include "low/secret.h"\n',
            "src/high/bad2.cc": '#include "support/x.h"\n#include "door.h"\n',
            "src/odd/o.cc": "",
        }
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text if name.endswith("LAYERS") else f"// {LICENCE}\n{text}")
        found = [text.split(": ")[0] for text in check(root)]
        expected = ["src/high/bad.cc:3", "src/high/bad2.cc:2", "src/high/bad2.cc:3", "src/high/bad_test.cc:3", "src/low/inner/bad.cc:2",
                    "src/odd/o.cc:1"]
        assert found == expected, found
    print("check_layers: self-test passed")


def main():
    if "--self-test" in sys.argv:
        self_test()
        return
    offences = check(pathlib.Path(__file__).resolve().parent.parent)
    print("\n".join(offences), end="\n" if offences else "")
    sys.exit(1 if offences else 0)


if __name__ == "__main__":
    main()
