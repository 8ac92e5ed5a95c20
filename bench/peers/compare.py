#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures Pantry, llama.cpp and ik_llama.cpp side by side on the same GGUF files, and says how many times faster Pantry is.

The engines take turns, one round after another, so that whatever else the machine does hits all of them; each round is a fresh process
with its own warm-up and one timed repetition of every test. Printed: median, min and max of each engine, the ratio of the medians, and
the least and largest ratio of a single round. Rows are appended to a CSV, without paths or host names.

  bench/peers/compare.py --llama-bench llama.cpp/build/bin/llama-bench -m model.gguf -p 512 -n 128 -t 2 -d 0,8000 -r 5
"""
import argparse
import csv
import datetime
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CSV_FIELDS = ["date", "cpu", "isa", "model", "model_bytes", "engine", "version", "n_prompt", "n_gen", "n_depth", "n_threads", "rounds",
              "tok_per_s", "min", "max", "pantry_ratio", "pantry_ratio_min", "pantry_ratio_max", "samples"]


def parse_json_output(text):
    """The JSON value in a program's output, whatever lines are before and after it."""
    decoder = json.JSONDecoder()
    for at, char in enumerate(text):
        if char in "[{" and (at == 0 or text[at - 1] == "\n"):
            try:
                return decoder.raw_decode(text, at)[0]
            except json.JSONDecodeError:
                continue
    raise ValueError("no JSON in the output: " + text.strip()[:200])


def pantry_speeds(output):
    """{(n_prompt, n_gen, n_depth, n_threads): tok/s} and what else the output says."""
    data = parse_json_output(output)
    speeds = {(t["n_prompt"], t["n_gen"], t["n_depth"], t["n_threads"]): t["tok_per_s"] for t in data["tests"]}
    return speeds, {"version": data.get("pantry", ""), "cpu": data.get("machine", {}).get("cpu", ""), "isa": data.get("isa", "")}


def peer_speeds(output):
    """As pantry_speeds(), of a llama-bench. ik_llama.cpp has no depth; its "tg N@pp M" tests are N tokens at depth M."""
    speeds = {}
    version = ""
    for t in parse_json_output(output):
        n_prompt, n_gen, n_depth = t.get("n_prompt", 0), t.get("n_gen", 0), t.get("n_depth", 0)
        if "@pp" in t.get("test", ""):
            n_prompt, n_depth = 0, n_prompt
        speeds[(n_prompt, n_gen, n_depth, t["n_threads"])] = t["avg_ts"]
        version = "{} ({})".format(t.get("build_number", "?"), t.get("build_commit", "?"))
    return speeds, {"version": version}


class Engine:
    def __init__(self, name, program, extra, version=""):
        self.name, self.program, self.extra, self.version = name, program, extra.split(), version

    def commands(self, model, args):
        """The command lines whose outputs together hold all tests."""
        raise NotImplementedError

    def measure(self, model, args):
        environment = dict(os.environ)
        folder = os.path.dirname(os.path.abspath(self.program))
        environment["LD_LIBRARY_PATH"] = ":".join(p for p in (folder, environment.get("LD_LIBRARY_PATH")) if p)
        all_speeds, info = {}, {}
        for command in self.commands(model, args):
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
            if done.returncode != 0:
                raise RuntimeError("{} failed ({}): {}".format(self.name, done.returncode, (done.stderr or done.stdout).strip()[-300:]))
            speeds, info = self.parse(done.stdout)
            all_speeds.update(speeds)
        return all_speeds, dict(info, version=self.version) if self.version else info


class Pantry(Engine):
    parse = staticmethod(pantry_speeds)

    def commands(self, model, args):
        yield [self.program, "bench", "-m", model, "-p", args.n_prompt, "-n", args.n_gen, "-d", args.n_depth, "-t", args.threads,
               "-r", "1", "--tokens", args.tokens, "--json"] + self.extra


class LlamaBench(Engine):
    parse = staticmethod(peer_speeds)

    def commands(self, model, args):
        for depth in args.n_depth.split(","):
            flash = ["-fa", "1"] if int(depth) > 0 else []
            yield [self.program, "-m", model, "-p", args.n_prompt, "-n", args.n_gen, "-d", depth, "-t", args.threads, "-r", "1",
                   "-o", "json"] + flash + self.extra


class IkLlamaBench(Engine):
    """Its llama-bench has no -d: generation at a depth is -gp, and a prompt at a depth cannot be had."""
    parse = staticmethod(peer_speeds)

    def commands(self, model, args):
        for depth in args.n_depth.split(","):
            common = [self.program, "-m", model, "-t", args.threads, "-r", "1", "-o", "json", "-fa", "1"] + self.extra
            if int(depth) == 0:
                yield common + ["-p", args.n_prompt, "-n", args.n_gen]
                continue
            pairs = [n for n in args.n_gen.split(",") if int(n) > 0]
            if pairs:
                yield common + ["-p", "0", "-n", "0"] + [word for n in pairs for word in ("-gp", depth + "," + n)]


def test_name(key):
    n_prompt, n_gen, n_depth, n_threads = key
    name = "+".join(part for part in ("pp%d" % n_prompt if n_prompt else "", "tg%d" % n_gen if n_gen else "") if part)
    return name + (" @ d%d" % n_depth if n_depth else "") + ", %d thread%s" % (n_threads, "" if n_threads == 1 else "s")


def summarize(samples):
    """(median, min, max), or None for an engine that has no such test."""
    return (statistics.median(samples), min(samples), max(samples)) if samples else None


def ratios(ours, theirs):
    """(ratio of medians, least, largest of a round): how many times faster `ours` is. Rounds go together by index."""
    rounds = [a / b for a, b in zip(ours, theirs) if b > 0]
    if not rounds or statistics.median(theirs) <= 0:
        return None
    return statistics.median(ours) / statistics.median(theirs), min(rounds), max(rounds)


def speed(value):
    return "%.0f" % value if value >= 1000 else "%.1f" % value if value >= 100 else "%.2f" % value


def table(samples, names):
    """samples[name][key] = [tok/s of each round] -> Markdown."""
    head = ["test"] + ["%s, tok/s (min - max)" % n for n in names] + ["%s / %s (rounds)" % (names[0], n) for n in names[1:]]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for key in sorted(samples[names[0]], key=lambda k: (k[2], k[3], -k[0], k[1])):
        cells = [test_name(key)]
        for name in names:
            figures = summarize(samples[name].get(key, []))
            cells.append("%s (%s - %s)" % tuple(map(speed, figures)) if figures else "-")
        for name in names[1:]:
            ratio = ratios(samples[names[0]][key], samples[name].get(key, []))
            cells.append("%.2f (%.2f - %.2f)" % ratio if ratio else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def csv_rows(samples, names, infos, model, date):
    for name in names:
        for key, values in samples[name].items():
            ratio = ratios(samples[names[0]].get(key, []), values) if name != names[0] and samples[names[0]].get(key) else None
            median, least, most = summarize(values)
            row = [date, infos[names[0]].get("cpu", ""), infos[names[0]].get("isa", ""), os.path.basename(model), os.path.getsize(model),
                   name, infos[name].get("version", ""), *key, len(values), "%.3f" % median, "%.3f" % least, "%.3f" % most]
            row += ["%.4f" % r for r in ratio] if ratio else ["", "", ""]
            yield row + [" ".join("%.3f" % v for v in values)]


def append_csv(path, rows):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    is_new = not os.path.exists(path)
    with open(path, "a", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        if is_new:
            writer.writerow(CSV_FIELDS)
        writer.writerows(rows)


def commit():
    """The commit of this checkout, "" outside of one; with + where files differ from it."""
    git = ["git", "-C", ROOT]
    head = subprocess.run(git + ["rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode != 0:
        return ""
    changed = subprocess.run(git + ["status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=False).stdout
    return head.stdout.strip() + ("+" if changed.strip() else "")


def find_engines(args):
    engines = [Pantry("pantry", args.pantry, args.pantry_args), LlamaBench("llama.cpp", args.llama_bench, args.llama_args, args.llama_version),
               IkLlamaBench("ik_llama.cpp", args.ik_llama_bench, args.ik_args, args.ik_version)]
    found = []
    for engine in engines:
        if engine.program and os.access(engine.program, os.X_OK):
            found.append(engine)
        elif engine.program or engine.name != "ik_llama.cpp":
            print("%s: skipped, %s" % (engine.name, "no program given" if not engine.program else "no program there"), file=sys.stderr)
    return found


def compare(model, engines, args):
    """({engine: {key: [tok/s]}}, {engine: info}). An engine that fails is left out of the rest, and said so."""
    samples = {engine.name: {} for engine in engines}
    infos = {engine.name: {} for engine in engines}
    working = list(engines)
    for number in range(args.rounds):
        for engine in list(working):
            print("%s: round %d/%d, %s" % (os.path.basename(model), number + 1, args.rounds, engine.name), file=sys.stderr)
            try:
                speeds, infos[engine.name] = engine.measure(model, args)
            except (RuntimeError, ValueError, KeyError, OSError) as error:
                if engine is engines[0]:
                    raise
                print("%s: left out: %s" % (engine.name, error), file=sys.stderr)
                working.remove(engine)
                continue
            for key, value in speeds.items():
                samples[engine.name].setdefault(key, []).append(value)
    return samples, infos


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pantry", default=os.path.join(ROOT, "build", "release", "bin", "pantry"), help="the program (%(default)s)")
    parser.add_argument("--llama-bench", default="", help="llama.cpp's llama-bench")
    parser.add_argument("--ik-llama-bench", default="", help="ik_llama.cpp's llama-bench")
    parser.add_argument("-m", "--model", action="append", required=True, help="GGUF file; may be given several times")
    parser.add_argument("-p", "--n-prompt", default="512", help="prompt lengths, 0: none (%(default)s)")
    parser.add_argument("-n", "--n-gen", default="128", help="generation lengths, 0: none (%(default)s)")
    parser.add_argument("-d", "--n-depth", default="0", help="tokens in the context before a test (%(default)s)")
    parser.add_argument("-t", "--threads", default=str(len(os.sched_getaffinity(0))), help="thread counts (%(default)s)")
    parser.add_argument("-r", "--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--tokens", choices=["random", "sampled"], default="random", help="what Pantry generates; peers do it with random "
                        "ids and without sampling (%(default)s)")
    parser.add_argument("--pantry-args", default="", help="further flags for pantry bench, in one word")
    parser.add_argument("--llama-args", default="", help="further flags for llama-bench")
    parser.add_argument("--ik-args", default="-rtr 1", help="further flags for ik_llama.cpp's llama-bench (%(default)s: weights repacked)")
    parser.add_argument("--llama-version", default="", help="what to call that build (default: what it says of itself)")
    parser.add_argument("--ik-version", default="", help="the same of ik_llama.cpp")
    parser.add_argument("--csv", default=os.path.join(ROOT, "bench", "results", "peers.csv"), help="(%(default)s); '': none")
    args = parser.parse_args()
    engines = find_engines(args)
    if not engines or engines[0].name != "pantry":
        parser.error("pantry is not at %s: build it, or give --pantry" % args.pantry)
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ")
    for model in args.model:
        samples, infos = compare(model, engines, args)
        infos["pantry"]["version"] = " ".join(part for part in (infos["pantry"].get("version", ""), commit()) if part)
        names = [engine.name for engine in engines if samples[engine.name]]
        print("\n%s, %.1f MB, %d rounds, %s (%s)" % (os.path.basename(model), os.path.getsize(model) * 1e-6, args.rounds,
                                                      infos["pantry"].get("cpu", ""), infos["pantry"].get("isa", "")))
        print(", ".join("%s %s" % (name, infos[name].get("version", "")) for name in names) + "\n")
        print(table(samples, names), flush=True)
        if args.csv:
            append_csv(args.csv, csv_rows(samples, names, infos, model, date))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        sys.exit("error: %s" % error)
