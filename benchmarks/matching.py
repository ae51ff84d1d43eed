"""How well and how fast a request is understood: generated properties, per query, over many cards, and as a process.

    python benchmarks/matching.py [--cards 10000] [--draws 1000]

First the share of generated cases in which each property of `families.py` holds, over all cards that ship.

Prints, in milliseconds of CPU time (the machine may be shared) and of wall time: one query against the 23 cards; one
query against 10,000 synthetic cards with 20 labels each; opening that library from the cache; `medsegagent match` as
a process, from start to exit.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from families import FAMILIES, World, rate

import medsegagent
from medsegagent import Library, vocabulary

BENCH = Path(__file__).parents[1] / "model_selection_test_case.jsonl"
LABELS_PER_CARD = 20


def queries() -> list[str]:
    return [json.loads(line)["query"] for line in BENCH.read_text(encoding="utf-8").splitlines()]


def percentiles(seconds: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return cuts[49] * 1e3, cuts[98] * 1e3


def time_queries(library: Library, asked: list[str]) -> dict[str, float]:
    for query in asked[:50]:  # fills the caches of a running program
        medsegagent.match(query, library)
    cpu, wall = [], []
    for query in asked:
        started_cpu, started = time.process_time(), time.perf_counter()
        medsegagent.match(query, library)
        cpu.append(time.process_time() - started_cpu)
        wall.append(time.perf_counter() - started)
    p50_cpu, p99_cpu = percentiles(cpu)
    p50, p99 = percentiles(wall)
    return {"p50_ms": p50, "p99_ms": p99, "p50_cpu_ms": p50_cpu, "p99_cpu_ms": p99_cpu}


def write_synthetic_cards(folder: Path, count: int) -> None:
    known = vocabulary.load()
    concepts = [c for c in map(known.concept, known.ids) if c.kind != "region" and "." not in c.id]
    draw = random.Random(0)
    for number in range(count):
        labels: dict[str, int] = {"background": 0}
        while len(labels) <= LABELS_PER_CARD:
            concept = draw.choice(concepts)
            side = draw.choice(("_left", "_right")) if concept.paired else ""
            labels.setdefault(concept.name.replace(" ", "_") + side, len(labels))
        card = {
            "name": f"Card{number:05}",
            "channel_names": {"0": draw.choice(("CT", "MR", "MR T1", "MR or CT"))},
            "labels": labels,
        }
        (folder / f"Card{number:05}.json").write_text(json.dumps(card), encoding="utf-8")


def time_many_cards(count: int, asked: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_synthetic_cards(folder, count)
        first = time.perf_counter()
        Library.load(folder)
        compiled = time.perf_counter() - first
        second, second_cpu = time.perf_counter(), time.process_time()
        library = Library.load(folder)
        load, load_cpu = time.perf_counter() - second, time.process_time() - second_cpu
        return time_queries(library, asked) | {"compile_s": compiled, "load_s": load, "load_cpu_s": load_cpu}


def time_process() -> float:
    command = [sys.executable, "-m", "medsegagent", "match", "left kidney and spleen in CT", "--library", "benchmark"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cards", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=1000, help="Cases per property.")
    arguments = parser.parse_args()
    count = arguments.cards
    shown = Library.load("all")
    for name, family in FAMILIES.items():
        found_rate = rate(family, World(shown, seed=0), arguments.draws)
        print(f"{name:>18}: {found_rate.share:.1%}", *(f"    {text!r}" for text, _ in found_rate.failed[:3]), sep="\n")
    asked = queries()
    figures = {
        "23_cards": time_queries(Library.load("benchmark"), asked),
        "all_cards": time_queries(shown, asked),
        f"{count}_cards": time_many_cards(count, asked[::4]),
        "process": {"cpu_s": min(time_process() for _ in range(3))},
    }
    for name, found in figures.items():
        print(f"{name:>14}: " + ", ".join(f"{key} {value:.2f}" for key, value in found.items()))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
