#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How well `pantry sim` foretells `pantry run` on this machine: measured, simulated, difference.

    bench/sim_agreement.py --pantry build/release/bin/pantry [--limiter with_memory.sh] [-n 192] [-r 3] MODEL=LIMIT[:POLICY] ...

MODEL is a file, LIMIT a size for --memory ("1G", "2253M") or "none". With --limiter PROGRAM a run with a limit is started as
`PROGRAM LIMIT pantry ...`, which should enforce it (the page cache counts, as on a small machine).

Each round runs every configuration once, from an empty cache, and what the router chose is recorded in the first; then the simulator replays
that record with the cache that the same --memory gives (memory that a run lends its cache meanwhile is not simulated). Counted are tokens computed one at a time, from --skip on. Since a machine's memory may be
faster in one minute than in another, its rates are measured again before each round (`pantry doctor --no-disk`) and the simulation takes
the median round's; the disk's are those that `pantry doctor MODEL` has stored. Printed is a Markdown table: medians, and what the time
consists of on both sides.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile


class Config:
    def __init__(self, text):
        model, equals, rest = text.rpartition("=")
        if not equals:
            sys.exit(f"'{text}': expected MODEL=LIMIT or MODEL=LIMIT:POLICY")
        self.model, (self.limit, _, self.policy) = model, rest.partition(":")
        self.runs = []  # of each round: what was measured
        self.rates = []  # and the profile of that round
        self.trace = None

    def name(self):
        return f"{pathlib.Path(self.model).stem} {self.limit}{' ' + self.policy if self.policy else ''}"


def drop_caches():
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        pass  # not root: a resident run loads faster, a streamed one reads past the page cache anyway


def profile_folder(env):
    return pathlib.Path(env.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "pantry"


def fresh_rates(args, folder):
    """A copy of the stored profile whose rates of memory and arithmetic are today's."""
    env = dict(os.environ, XDG_CACHE_HOME=str(folder))
    target = folder / "pantry"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(profile_folder(os.environ) / "hardware.json", target / "hardware.json")
    subprocess.run([args.pantry, "doctor", "--no-disk"], env=env, check=True, capture_output=True)
    return env


def measure(args, config, folder):
    stats = folder / "stats"
    command = [args.pantry, "run", "-m", config.model, "-p", args.prompt, "-n", str(args.n), "-s", "1", "--temp", "1",
               "--ignore-eos", "--no-cnv", "-c", str(args.ctx), "--stats", str(stats)]
    if config.limit != "none":
        command += ["--memory", config.limit]
        if args.limiter:
            command = [args.limiter, config.limit] + command
    if config.policy:
        command += ["--cache-policy", config.policy]
    if config.trace is None:
        config.trace = folder / "routing"
        command += ["--routing-trace", str(config.trace)]
    drop_caches()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return stats_of(stats, args.skip)


def stats_of(path, skip):
    """Sums over the tokens that were computed one at a time, from the skip-th line on."""
    lines = [json.loads(line) for line in path.read_text().splitlines()][skip:]
    tokens = [line for line in lines if line["n_tokens"] == 1]
    total = {"tokens": len(tokens), "us": sum(line["us"] for line in tokens)}
    for key in ("hits", "late", "misses", "bytes_read", "wait_us", "place_us"):
        total[key] = sum(line.get(key, 0) for line in tokens)
    return total


def device_for(args, env, folder):
    """This host's profile with what --set says of it, as a file; "host" where nothing is to be changed."""
    if not args.set:
        return "host"
    command = [args.pantry, "sim", "smallthinker-4b", "--trace", "zipf:tokens=2", "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    device = json.loads(done.stdout)["device_profile"]
    for text in args.set:
        field, _, value = text.partition("=")
        if field not in device:
            sys.exit(f"--set {text}: a device profile has no field '{field}'")
        device[field] = json.loads(value)
    path = pathlib.Path(folder) / "device.json"
    path.write_text(json.dumps(device))
    return str(path)


def simulate(args, config, env, device):
    command = [args.pantry, "sim", "-m", config.model, "-c", str(args.ctx), "--skip", str(args.skip), "--json",
               "--device", device]
    if config.limit != "none":
        command += ["--memory", config.limit]
    if config.policy:
        command += ["--cache-policy", config.policy]
    is_moe = config.trace.exists() and config.trace.stat().st_size > 0
    command += ["--trace", str(config.trace) if is_moe else f"tokens={args.n + args.skip}"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout)


def table(configs, simulated):
    print("| | tok/s measured (least - most) | simulated | difference | hits + late, misses a token: measured, simulated "
          "| MB a token | ms waiting | ms placing |")
    print("|---|---|---|---|---|---|---|---|")
    worst = 0
    for config, sim in zip(configs, simulated):
        speeds = [1e6 * run["tokens"] / run["us"] for run in config.runs]
        run = config.runs[speeds.index(statistics.median_low(speeds))]
        n, median = run["tokens"], statistics.median(speeds)
        difference = sim["tok_per_s"] / median - 1
        worst = max(worst, abs(difference))
        row = f"| {config.name()} | {median:.2f} ({min(speeds):.2f} - {max(speeds):.2f}) | {sim['tok_per_s']:.2f} "
        row += f"| {100 * difference:+.0f} % "
        if "cache" in sim:
            m, cache = sim["n_tokens"], sim["cache"]
            row += f"| {(run['hits'] + run['late']) / n:.1f}, {run['misses'] / n:.2f}; "
            row += f"{(cache['hits'] + cache['late']) / m:.1f}, {cache['misses'] / m:.2f} "
            row += f"| {run['bytes_read'] / n / 1e6:.1f}, {sim['disk']['bytes_read'] / m / 1e6:.1f} "
            row += f"| {run['wait_us'] / n / 1e3:.1f}, {sim['wait_us'] / m / 1e3:.1f} "
            row += f"| {run['place_us'] / n / 1e3:.1f}, {sim['place_us'] / m / 1e3:.1f} |"
        else:
            row += "| | | | |"
        print(row)
    print(f"\nThe largest difference is {100 * worst:.0f} %.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pantry", required=True)
    parser.add_argument("--limiter", help="program that runs a command under a memory limit: LIMIT COMMAND...")
    parser.add_argument("-n", type=int, default=192, help="tokens to generate")
    parser.add_argument("-r", type=int, default=3, help="rounds")
    parser.add_argument("--skip", type=int, default=33, help="runs of tokens that are not counted: the prompt, and the first ones")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE",
                        help="of the device profile, e.g. fresh_bytes_per_s=1e9 where the host of a virtual machine has its memory")
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--prompt", default="The old man went to the sea and")
    parser.add_argument("configs", nargs="+", metavar="MODEL=LIMIT[:POLICY]")
    args = parser.parse_args()
    configs = [Config(text) for text in args.configs]
    with tempfile.TemporaryDirectory() as scratch:
        for i in range(args.r):
            for k, config in enumerate(configs):
                folder = pathlib.Path(scratch) / f"{i}-{k}"
                folder.mkdir()
                config.rates.append(fresh_rates(args, folder))
                config.runs.append(measure(args, config, folder))
                print(f"round {i + 1}: {config.name()}: {1e6 * config.runs[-1]['tokens'] / config.runs[-1]['us']:.2f} tok/s",
                      file=sys.stderr)
        simulated = []
        for config in configs:
            speeds = [run["tokens"] / run["us"] for run in config.runs]
            env = config.rates[speeds.index(statistics.median_low(speeds))]
            simulated.append(simulate(args, config, env, device_for(args, env, scratch)))
        table(configs, simulated)


if __name__ == "__main__":
    main()
