#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How well `pantry sim` foretells `pantry run` on this machine: measured, simulated, difference.

    bench/sim_agreement.py --pantry build/release/bin/pantry [--limiter with_memory.sh] [-n 192] [-r 3] CONFIG ...

CONFIG is MODEL=LIMIT[:CACHEPOLICY][@EXPERTPOLICY]: MODEL a file, LIMIT a size for --memory ("1G", "2253M") or "none", the rest what
--cache-policy and --expert-policy take ("lru", "cache-prior:0.1"). With --limiter PROGRAM a run with a limit is started as
`PROGRAM LIMIT pantry ...`, which should enforce it (the page cache counts, as on a small machine).

Each round runs every configuration once, from an empty cache, and what the router chose is recorded in the first; then the simulator replays
that record with the cache that the same --memory gives. With an expert policy each run is recorded, since what it chooses, and so what it
writes, depends on what came in time; the simulator chooses anew from the logits that this very run's routers gave. Counted are tokens computed one at a time, from --skip on.

Since a machine's memory and disk may be faster in one minute than in another, right before and after each run its rates are measured (`pantry
doctor --no-disk` and `pantry sim --measure-host`), and each run is compared with a simulation of its own, on the mean of both. A disk of a cloud
may change within seconds: so every --probe seconds a run is stopped for some milliseconds, in which a probe reads some MiB, and so is
`--measure-host` while it reads; the disk's rates are those measured, times what the probe found while the tokens that count were computed, beside what
it found in that measurement. Reads of one size and number change more than the probe, or less: how much, all measurements together say. The
run's time is less by these stops. Printed is a Markdown table: medians, and what the time consists of on both sides in the round of the median difference.

--keep FOLDER keeps what was measured; with it and -r 0 nothing is run, and what lies there is simulated again.
"""
import argparse
import concurrent.futures
import json
import math
import mmap
import os
import pathlib
import random
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time


# What a stopped process has asked for has arrived by then.
DRAIN_S = 0.02
# Between two stops of a measurement, which reads for about three seconds; and what it reads before that is the model's description.
PROBE_OF_MEASUREMENT_S = 0.4
DESCRIPTION_BYTES = 64 << 20
# Of the logarithms of what the probe found in all measurements: with less, it says nothing of how the disk's rates follow it.
LEAST_SPREAD = 0.1
MOST_SLOPE = 3
# From the last token to the end of the process, about.
TEARDOWN_S = 0.15


class Config:
    def __init__(self, text):
        model, equals, rest = text.rpartition("=")
        if not equals:
            sys.exit(f"'{text}': expected MODEL=LIMIT[:CACHEPOLICY][@EXPERTPOLICY]")
        rest, _, self.expert_policy = rest.partition("@")
        self.model, (self.limit, _, self.policy) = model, rest.partition(":")
        self.runs = []  # of each round: what was measured

    def folder(self, root, i):
        return pathlib.Path(root) / f"{self.name().replace(' ', '-').replace(':', '_')}-{i}"

    def name(self):
        words = [pathlib.Path(self.model).name.removesuffix(".gguf"), self.limit, self.policy, self.expert_policy]
        return " ".join(word for word in words if word)

    def policy_flags(self):
        flags = ["--cache-policy", self.policy] if self.policy else []
        return flags + (["--expert-policy", self.expert_policy] if self.expert_policy else [])

    def trace(self, root, folder):
        """What a round's routers said, else what those of the first did."""
        own = folder / "routing"
        return own if own.exists() else self.folder(root, 0) / "routing"


class DiskProbe:
    """Reads from all over a file, past the page cache, on a few threads: bytes a second. For comparing moments, not for its own sake."""
    THREADS, READS, BYTES = 8, 4, 1 << 20  # fewer, or smaller, and Python is the limit, not the disk

    def __init__(self, path):
        self.file = os.open(path, os.O_RDONLY | os.O_DIRECT)
        self.n_places = os.fstat(self.file).st_size // self.BYTES
        self.memory = [mmap.mmap(-1, self.BYTES) for _ in range(self.THREADS)]
        self.threads = concurrent.futures.ThreadPoolExecutor(self.THREADS)
        self.rate()  # touches the memory, starts the threads

    def read(self, i):
        for _ in range(self.READS):
            os.preadv(self.file, [self.memory[i]], random.randrange(self.n_places) * self.BYTES)

    def rate(self):
        began = time.monotonic()
        list(self.threads.map(self.read, range(self.THREADS)))
        return self.THREADS * self.READS * self.BYTES / (time.monotonic() - began)

    def close(self):
        self.threads.shutdown()
        os.close(self.file)


def drop_caches():
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        pass  # not root: a resident run loads faster, a streamed one reads past the page cache anyway


def profile_folder(env):
    return pathlib.Path(env.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "pantry"


def measure_host(args, config, folder, name):
    """A device profile of this minute: rates of memory and arithmetic, and what streaming costs with this model's file."""
    target = folder / "pantry"
    target.mkdir(parents=True, exist_ok=True)
    prefix, env = shlex.split(args.prefix), dict(os.environ, XDG_CACHE_HOME=str(folder))
    if not (target / "hardware.json").exists():
        shutil.copy(profile_folder(os.environ) / "hardware.json", target / "hardware.json")
        alone(args, lambda: subprocess.run(prefix + [args.pantry, "doctor", "--no-disk"], env=env, check=True, capture_output=True))
    time.sleep(args.rest)  # a host takes back free memory meanwhile: what is measured and what runs finds it as it is after a while
    # Without the prefix: threads of real-time priority that read memory would keep the kernel from serving the disk.
    command = [args.pantry, "sim", "-m", config.model, "--measure-host", str(folder / name)]

    def work():
        stops = run_probed(command, config.model, folder, PROBE_OF_MEASUREMENT_S, env,
                           lambda process: bytes_read(process) > DESCRIPTION_BYTES)
        if not stops:
            sys.exit(f"{' '.join(command)}: has read nothing from the disk")
        (folder / f"probe-{name}").write_text(json.dumps(stops))

    alone(args, work)


def bytes_read(process):
    """From the disk, by a process that may have ended."""
    try:
        lines = pathlib.Path(f"/proc/{process.pid}/io").read_text().splitlines()
    except OSError:
        return 0
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def run_probed(command, model, folder, interval_s, env=None, is_due=lambda process: True):
    """Runs a command to its end; what a probe of the model's disk found now and then, while the command was stopped."""
    probe = DiskProbe(model)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)
    stops = probe_while(process, interval_s, probe, is_due)
    probe.close()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: {(folder / 'log').read_text()}")
    return stops


def probe_while(process, interval_s, probe, is_due):
    """Stops a process now and then until it ends, and probes the disk meanwhile."""
    stops = []
    try:
        while not has_ended(process, interval_s):
            if not is_due(process):
                continue
            stopped = time.monotonic()
            os.killpg(process.pid, signal.SIGSTOP)
            time.sleep(DRAIN_S)
            rate = probe.rate()
            os.killpg(process.pid, signal.SIGCONT)
            stops.append({"at": stopped, "s": time.monotonic() - stopped, "bytes_per_s": rate})
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGCONT)
            os.killpg(process.pid, signal.SIGTERM)
    return stops


def alone(args, work):
    """Again, where others were at work meanwhile."""
    for _ in range(args.tries):
        began, busy, own = time.monotonic(), busy_s(), own_s()
        work()
        if (busy_s() - busy - own_s() + own) / (time.monotonic() - began) < args.most_others:
            break


def busy_s():
    """CPU time of everybody."""
    user, nice, system, _, _, irq, soft = map(int, pathlib.Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def own_s():
    times = os.times()
    return times.children_user + times.children_system + times.user + times.system


def tokens_of(args, config):
    """A model without experts is slow and has no routing: a few tokens tell all."""
    return (args.dense_n, args.dense_skip) if config.model in args.dense else (args.n, args.skip)


def measure(args, config, folder):
    n, _ = tokens_of(args, config)
    command = shlex.split(args.prefix)
    command += [args.pantry, "run", "-m", config.model, "-p", args.prompt, "-n", str(n), "-s", "1", "--temp", "1",
               "--ignore-eos", "--no-cnv", "--no-use-pack", "-c", str(args.ctx), "--stats", str(folder / "stats")]
    if config.limit != "none":
        command += ["--memory", config.limit]
        if args.limiter:
            command = [args.limiter, config.limit] + command
    command += config.policy_flags()
    if config.expert_policy or folder.name.endswith("-0"):
        command += ["--routing-trace", str(folder / "routing")]
    began, busy, own = time.monotonic(), busy_s(), own_s()
    stops = run_probed(command, config.model, folder, args.probe)
    ended = time.monotonic()
    run = {"others": (busy_s() - busy - own_s() + own) / (ended - began), "end": ended, "stops": stops}
    (folder / "run.json").write_text(json.dumps(run))
    return run["others"]


def has_ended(process, timeout_s):
    try:
        process.wait(timeout_s)
        return True
    except subprocess.TimeoutExpired:
        return False


def run_of(args, config, folder):
    """What was counted, less the stops in it, and how fast the disk was meanwhile: by the probe, if there was a stop."""
    run = stats_of(folder / "stats", tokens_of(args, config)[1])
    saved = json.loads((folder / "run.json").read_text())
    end = saved["end"] - TEARDOWN_S
    stops = [stop for stop in saved["stops"] if end - run["us"] / 1e6 <= stop["at"] <= end]
    stopped = 1e6 * sum(stop["s"] for stop in stops) / run["us"]
    for key in ("us", "wait_us", "place_us", "disk_busy_us"):  # a stop falls into any of them
        run[key] *= 1 - stopped
    run["probes"] = [stop["bytes_per_s"] for stop in stops]
    return run


def rate_of(stops):
    return statistics.harmonic_mean([stop["bytes_per_s"] for stop in stops])


def stats_of(path, skip):
    """Sums over the tokens that were computed one at a time, from the skip-th line on."""
    lines = [json.loads(line) for line in path.read_text().splitlines()][skip:]
    tokens = [line for line in lines if line["n_tokens"] == 1]
    total = {"tokens": len(tokens), "us": sum(line["us"] for line in tokens)}
    for key in ("hits", "late", "misses", "bytes_read", "disk_busy_us", "wait_us", "place_us", "picks", "agreed"):
        total[key] = sum(line.get(key, 0) for line in tokens)
    return total


def mean_device(before, after):
    """Of two measurements of the same machine: rates and costs in the middle. What was free memory is so only before the run."""
    device = dict(after, fresh_bytes_per_s=before["fresh_bytes_per_s"], flash=[])
    for field in ("memory_share", "flash_most_bytes_per_s", "flash_busy_share", "dram_bytes_per_s", "kick_us", "read_cpu_us", "wake_us", "step_us",
                  "row_bytes_per_s", "place_bytes_per_s", "copy_bytes_per_s"):
        device[field] = (before[field] + after[field]) / 2
    device["dram_read_bytes_per_s"] = [dict(b, per_s=(a["per_s"] + b["per_s"]) / 2)
                                       for a, b in zip(before["dram_read_bytes_per_s"], after["dram_read_bytes_per_s"])]
    return device


def measured_hosts(folder):
    """A run's two measurements of the machine, each with what the probe found meanwhile."""
    for name in ("before.json", "after.json"):
        device = json.loads((folder / name).read_text())
        yield device, rate_of(json.loads((folder / f"probe-{name}").read_text()))


def rates_of_disk(device):
    """By what was measured: block size and depth, or the most."""
    rates = {(cell["block_bytes"], cell["queue_depth"]): cell["bytes_per_s"] for cell in device["flash"]}
    return rates | {"most": device["flash_most_bytes_per_s"]}


def slopes_of(folders):
    """How each rate of the disk follows the probe, of which all measurements tell: where the probe finds 1 % more, it is so many % more."""
    hosts = [(math.log(then), rates_of_disk(device)) for folder in folders for device, then in measured_hosts(folder)]
    if not hosts:
        return {}
    mean = statistics.mean(probe for probe, _ in hosts)
    spread = sum((probe - mean) ** 2 for probe, _ in hosts)
    if math.sqrt(spread / len(hosts)) < LEAST_SPREAD:
        return dict.fromkeys(hosts[0][1], 1.0)
    return {key: min(max(sum((probe - mean) * math.log(rates[key]) for probe, rates in hosts) / spread, 0.0), MOST_SLOPE)
            for key in hosts[0][1]}


def device_for(args, folder, run, slopes):
    """The round's profile, with what --set says of it."""
    measured = []
    for device, then in measured_hosts(folder):
        def now(key):
            return statistics.harmonic_mean([(probe / then) ** slopes[key] for probe in run["probes"] or [then]])
        for cell in device["flash"]:
            cell["bytes_per_s"] *= now((cell["block_bytes"], cell["queue_depth"]))
        device["flash_most_bytes_per_s"] *= now("most")
        measured.append(device)
    device = mean_device(*measured)
    for cells in zip(*(each["flash"] for each in measured)):
        device["flash"].append(dict(cells[0], bytes_per_s=statistics.harmonic_mean([cell["bytes_per_s"] for cell in cells])))
    for text in args.set:
        field, _, value = text.partition("=")
        if field not in device:
            sys.exit(f"--set {text}: a device profile has no field '{field}'")
        device[field] = json.loads(value)
    path = folder / "device.json"
    path.write_text(json.dumps(device))
    return str(path)


def simulate(args, config, device, trace):
    n, skip = tokens_of(args, config)
    command = [args.pantry, "sim", "-m", config.model, "-c", str(args.ctx), "--skip", str(skip), "--json",
               "--device", device]
    if config.limit != "none":
        command += ["--memory", config.limit]
    command += config.policy_flags()
    is_moe = trace.exists() and trace.stat().st_size > 0
    command += ["--trace", str(trace) if is_moe else f"tokens={n + skip}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout)


def table(configs):
    print("| | rounds | tok/s measured (least - most) | simulated | difference (of each round) | hits + late, misses a token: "
          "measured, simulated | % of the router's picks | MB a token | GB/s while reading | ms waiting | ms placing | ms of the rest |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    differences = []
    for config in configs:
        measured = [1e6 * run["tokens"] / run["us"] for run in config.runs]
        simulated = [sim["tok_per_s"] for sim in config.simulated]
        ratios = [100 * (a / b - 1) for a, b in zip(simulated, measured)]
        difference = statistics.median(ratios)
        differences.append(abs(difference))
        middle = ratios.index(statistics.median_low(ratios))
        run, sim = config.runs[middle], config.simulated[middle]
        n = run["tokens"]
        row = f"| {config.name()} | {len(ratios)} | {statistics.median(measured):.2f} ({min(measured):.2f} - {max(measured):.2f}) "
        row += f"| {statistics.median(simulated):.2f} | {difference:+.0f} % ({', '.join(f'{x:+.0f}' for x in ratios)}) "
        if "cache" in sim:
            m, cache = sim["n_tokens"], sim["cache"]
            row += f"| {(run['hits'] + run['late']) / n:.1f}, {run['misses'] / n:.2f}; "
            row += f"{(cache['hits'] + cache['late']) / m:.1f}, {cache['misses'] / m:.2f} "
            row += f"| {100 * run['agreed'] / run['picks']:.1f}, {100 * sim['expert_policy']['agreement']:.1f} " if run["picks"] else "| "
            row += f"| {run['bytes_read'] / n / 1e6:.1f}, {sim['disk']['bytes_read'] / m / 1e6:.1f} "
            row += f"| {run['bytes_read'] / max(run['disk_busy_us'], 1) / 1e3:.2f}, {sim['disk']['bytes_read'] / max(sim['disk']['seen_busy_us'], 1) / 1e3:.2f} "
            row += f"| {run['wait_us'] / n / 1e3:.1f}, {sim['wait_us'] / m / 1e3:.1f} "
            row += f"| {run['place_us'] / n / 1e3:.1f}, {sim['place_us'] / m / 1e3:.1f} "
            rest = [(run["us"] - run["wait_us"] - run["place_us"]) / n, (sim["wall_us"] - sim["wait_us"] - sim["place_us"]) / m]
            row += f"| {rest[0] / 1e3:.1f}, {rest[1] / 1e3:.1f} |"
        else:
            row += "| | | | | | | |"
        print(row)
    print(f"\nThe largest difference is {max(differences):.0f} %.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pantry", required=True)
    parser.add_argument("--limiter", help="program that runs a command under a memory limit: LIMIT COMMAND...")
    parser.add_argument("-n", type=int, default=192, help="tokens to generate")
    parser.add_argument("-r", type=int, default=3, help="rounds")
    parser.add_argument("--first", type=int, default=0, metavar="I", help="number of the first round, where some are kept")
    parser.add_argument("--skip", type=int, default=33, help="runs of tokens that are not counted: the prompt, and the first ones")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE",
                        help="of the device profile, e.g. fresh_bytes_per_s=1e9 where the host of a virtual machine has its memory")
    parser.add_argument("--dense", action="append", default=[], metavar="MODEL", help="of the configurations' models: has no experts")
    parser.add_argument("--dense-n", type=int, default=16, help="as -n, of these")
    parser.add_argument("--dense-skip", type=int, default=5, help="as --skip, of these")
    parser.add_argument("--prefix", default="", metavar="COMMAND", help="before each run and measurement, e.g. 'chrt -f 1'")
    parser.add_argument("--rest", type=float, default=3, metavar="S", help="before each measurement and run")
    parser.add_argument("--most-others", type=float, default=0.1, metavar="CPUS",
                        help="a run during which others used more than that is repeated")
    parser.add_argument("--probe", type=float, default=0.5, metavar="S", help="between two looks at the disk")
    parser.add_argument("--tries", type=int, default=2, help="at most so often")
    parser.add_argument("--keep", metavar="FOLDER", help="keep what is measured there, or use what was")
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--prompt", default="The old man went to the sea and")
    parser.add_argument("configs", nargs="+", metavar="CONFIG")
    args = parser.parse_args()
    configs = [Config(text) for text in args.configs]
    with tempfile.TemporaryDirectory() as scratch:
        root = args.keep or scratch
        pathlib.Path(root).mkdir(parents=True, exist_ok=True)
        for i in range(args.first, args.first + args.r):
            for config in configs:
                folder = config.folder(root, i)
                for _ in range(args.tries):
                    shutil.rmtree(folder, ignore_errors=True)
                    folder.mkdir(parents=True)
                    measure_host(args, config, folder, "before.json")
                    drop_caches()
                    time.sleep(args.rest)
                    others = measure(args, config, folder)
                    measure_host(args, config, folder, "after.json")
                    if others < args.most_others:
                        break
                run = run_of(args, config, folder)
                print(f"round {i + 1}: {config.name()}: {1e6 * run['tokens'] / run['us']:.2f} tok/s, others used "
                      f"{100 * others:.0f} % of a CPU", file=sys.stderr)
        kept = {config: [folder for folder in map(lambda i: config.folder(root, i), range(100)) if (folder / "after.json").exists()]
                for config in configs}
        slopes = slopes_of([folder for folders in kept.values() for folder in folders])
        for config, folders in kept.items():
            config.runs = [run_of(args, config, folder) for folder in folders]
            config.simulated = [simulate(args, config, device_for(args, folder, run, slopes), config.trace(root, folder))
                                for folder, run in zip(folders, config.runs)]
        table([config for config in configs if config.runs])


if __name__ == "__main__":
    main()
