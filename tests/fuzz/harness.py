"""Feed a reader spoilt files in a child process whose memory and time are capped, and report what it should not do.

A reader may read a file or refuse it with one of this package's errors. Anything else is a finding: another exception
(a traceback for a user), a crash of the process, more memory than its cap, or no end. Each finding is kept as a file.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random

from medsegagent.errors import MedSegAgentError

Make = Callable[[Random, Path], Path]
"""Write one spoilt input below the folder and return its path."""

_BATCH = 200
"""Inputs per child: one process for each would spend its time on imports."""


def main(make: Make, read: Callable[[Path], object], doc: str) -> int:
    """Run until the time is up; the exit code is 1 if anything was found."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="where to begin (default 0)")
    parser.add_argument("--memory", type=int, default=1024, help="MiB that a child may take beyond its imports")
    parser.add_argument(
        "--seconds", type=int, default=20, help="of the processor that one input may take; 20 times waiting"
    )
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for inputs that did harm")
    parser.add_argument("--one", type=int, help="only this seed, with its traceback")
    given = parser.parse_args()
    if given.one is not None:
        return _one(make, read, given.one)
    end, seed = time.monotonic() + 60 * given.minutes, given.seed
    outcomes: collections.Counter[str] = collections.Counter()
    findings: dict[str, int] = {}
    while time.monotonic() < end:
        done = _batch(make, read, seed, given, end, outcomes, findings)
        seed += max(1, done)
    total = sum(outcomes.values())
    print(f"{total} inputs, seeds {given.seed} to {seed - 1}: {dict(outcomes)}")
    for what, where in findings.items():
        print(f"FOUND {what} (seed {where}: --one {where})")
    return int(bool(findings))


def _one(make: Make, read: Callable[[Path], object], seed: int) -> int:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-one-"))
    path = make(Random(seed), folder)
    print(path)
    try:
        print(read(path))
    except MedSegAgentError as error:
        print(type(error).__name__, error)
    return 0


def _batch(
    make: Make,
    read: Callable[[Path], object],
    seed: int,
    given: argparse.Namespace,
    end: float,
    outcomes: collections.Counter[str],
    findings: dict[str, int],
) -> int:
    """Run one child; return how many inputs it got through."""
    scratch = Path(tempfile.mkdtemp(prefix="fuzz-"))
    log = scratch / "log"
    child = os.fork()
    if not child:
        _child(make, read, seed, scratch, log, given, end)
    _, status = os.waitpid(child, 0)
    lines = log.read_text().splitlines() if log.exists() else []
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind in ("read", "refused"):
            outcomes[kind] += 1
        elif kind == "found":
            number, _, what = rest.partition(" ")
            outcomes["found"] += 1
            _keep(make, int(number), what, given.keep, findings)
    begun = [int(line.split()[1]) for line in lines if line.startswith("begin")]
    if status and begun:
        what = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
        outcomes["crashed"] += 1
        _keep(make, begun[-1], f"process ended by {what}", given.keep, findings)
    shutil.rmtree(scratch, ignore_errors=True)
    return len(begun)


def _child(
    make: Make,
    read: Callable[[Path], object],
    seed: int,
    scratch: Path,
    log: Path,
    given: argparse.Namespace,
    end: float,
) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + given.memory * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)  # ITK and decoders talk
    warnings.simplefilter("ignore")
    with log.open("w", buffering=1) as out:
        for number in range(seed, seed + _BATCH):
            if time.monotonic() > end:
                break
            folder = scratch / str(number)
            folder.mkdir()
            try:
                path = make(Random(number), folder)
            except Exception as error:
                out.write(f"begin {number}\nfound {number} no input was made: {type(error).__name__}\n")
                continue
            out.write(f"begin {number}\n")
            # Their default action ends the process, whatever C code it is in.
            signal.setitimer(signal.ITIMER_PROF, given.seconds)
            signal.alarm(20 * given.seconds)
            try:
                read(path)
                out.write("read\n")
            except MedSegAgentError:
                out.write("refused\n")
            except BaseException as error:
                place = traceback.extract_tb(error.__traceback__)
                ours = [frame for frame in place if "medsegagent" in frame.filename] or list(place)
                at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
                out.write(f"found {number} {type(error).__name__} at {at}\n")
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.flush()
    os._exit(0)


def _keep(make: Make, seed: int, what: str, keep: Path, findings: dict[str, int]) -> None:
    if what in findings:
        return
    findings[what] = seed
    folder = keep / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(Exception):  # where the maker itself is what was found
        make(Random(seed), folder)
    (folder / "FOUND.txt").write_text(what + "\n")


def spoil(data: bytes, random: Random, most: int = 8) -> bytes:
    """Change, insert, remove, repeat or cut bytes, at a few places."""
    raw = bytearray(data)
    for _ in range(random.randint(1, most)):
        if not raw:
            break
        place = random.randrange(len(raw))
        length = random.choice((1, 1, 2, 4, 8, 64))
        match random.randrange(7):
            case 0:
                raw[place] ^= 1 << random.randrange(8)
            case 1:
                raw[place : place + length] = random.randbytes(length)
            case 2:
                del raw[place : place + length]
            case 3:
                raw[place:place] = raw[place : place + length]
            case 4:
                raw[place : place + length] = random.choice((b"\0", b"\xff")) * length
            case 5:
                raw[place : place + length] = random.choice((b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"))
            case _:
                if random.random() < 0.2:
                    del raw[place:]
    return bytes(raw)
