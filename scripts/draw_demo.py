#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the release program on the demo model and draws what it prints as docs/demo.svg.

    scripts/draw_demo.py PANTRY MODEL.gguf [OUT.svg]

Nothing is made up: the picture holds the program's own standard output (white) and standard error (grey).
"""
import html
import os
import subprocess
import sys

PROMPT = "Explain in two sentences why the sky is blue."
WIDTH = 100  # columns


def wrap(text, style):
    for line in text.rstrip("\n").split("\n"):
        while len(line) > WIDTH:
            cut = line.rfind(" ", 0, WIDTH) + 1 or WIDTH
            yield line[:cut], style
            line = line[cut:]
        yield line, style


def main():
    pantry, model = sys.argv[1], sys.argv[2]
    out = sys.argv[3] if len(sys.argv) > 3 else "docs/demo.svg"
    run = subprocess.run([pantry, "run", "-m", model, "-p", PROMPT, "-n", "120", "--temp", "0"], capture_output=True, text=True, check=True)
    notes = run.stderr.rstrip("\n").split("\n")
    start, footer = notes[:-1], notes[-1:]
    lines = list(wrap(f'$ pantry run -m {os.path.basename(model)} -p "{PROMPT}" -n 120 --temp 0', "cmd"))
    for text, style in (("\n".join(start), "note"), (run.stdout, "answer"), ("\n".join(footer), "note")):
        lines += list(wrap(text, style))
    height = 20 * len(lines) + 60
    rows = "\n".join(f'<text x="20" y="{58 + 20 * i}" class="{style}" xml:space="preserve">{html.escape(line)}</text>'
                     for i, (line, style) in enumerate(lines))
    with open(out, "w", encoding="utf-8") as f:
        f.write(f'''<svg xmlns="http://www.w3.org/2000/svg" width="900" height="{height}" viewBox="0 0 900 {height}">
<style>text{{font:14px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace}}.cmd{{fill:#8bd5ca}}.note{{fill:#8087a2}}.answer{{fill:#e6e9f5}}</style>
<rect width="900" height="{height}" rx="10" fill="#1e2030"/>
<circle cx="22" cy="20" r="6" fill="#ed8796"/><circle cx="42" cy="20" r="6" fill="#eed49f"/><circle cx="62" cy="20" r="6" fill="#a6da95"/>
{rows}
</svg>
''')


if __name__ == "__main__":
    main()
