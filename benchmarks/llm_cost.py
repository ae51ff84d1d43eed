"""What a language model costs: calls and prompt tokens per query, for hybrid, llm (C2F) and Native.

A scripted server on loopback plays a model that is always right, so nothing here says how well a model would do: only
calls, tokens and lengths count. Tokens are characters / 4 of all messages, as in the published system's own accounting
(MedSegAgent, doi 10.1109/JBHI.2026.3677444: 6 calls and 4,749 prompt tokens per query for its coarse-to-fine pattern,
1 call and 4,400 for Native, over its 343 queries). The JSON schema that goes beside the messages is counted apart.

Run from the repository's root: python benchmarks/llm_cost.py
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "agents" / "llm"))

from loopback import Loopback  # noqa: E402
from oracle import Meant, Oracle  # noqa: E402

from medsegagent import Library, match  # noqa: E402
from medsegagent.agents.llm.config import Endpoint  # noqa: E402
from medsegagent.agents.llm.mind import Mind  # noqa: E402
from medsegagent.agents.patterns.answering import llm_answerer  # noqa: E402
from medsegagent.cards.card import DatasetCard  # noqa: E402

BEYOND_THE_RULES: dict[str, Meant] = {
    "the thing that got inflamed in my uncle's belly, lower right": [("thing that got inflamed", "appendix")],
    "Segment the frobnicator that keeps the green juice in CT": [("frobnicator that keeps", "gallbladder")],
    "tukan perna CT-kuvasta": [("perna", "spleen")],
    "hahmota maksa tietokonetomografiasta": [("maksa", "liver")],
    "Proszę obrysować śledzionę na TK": [("śledzionę", "spleen")],
    "Kérem a lép kontúrozását CT-n": [("lép", "spleen")],
    "αριστερό νεφρό στην αξονική": [("αριστερό νεφρό", "left kidney")],
    "Segment the squishy pink bean-shaped pee makers on this MRI": [("squishy pink bean-shaped pee makers", "kidneys")],
    "the whoosh pipe leaving the pump upwards, cardiac CT": [("whoosh pipe leaving", "ascending aorta")],
    "rajaa perna magneettikuvasta": [("perna", "spleen")],
    "liver and the wobbling frobnicator in CT": [("liver", "liver"), ("wobbling frobnicator", "spleen")],
    "the spleen and the bilebag thingamajig on CT": [("spleen", "spleen"), ("bilebag", "gallbladder")],
}  # fmt: skip
"""Instruction -> what it means; a person decided that, not the code."""

PUBLISHED = {"hybrid": None, "llm (C2F)": (6.0, 4749), "Native": (1.0, 4400)}


@dataclass(frozen=True)
class Cost:
    """One query's cost."""

    calls: int
    prompt: int
    schema: int
    longest: int


def queries() -> list[str]:
    """48 rows of our bench that the rules resolve, spread over its kinds, and 12 that are beyond the rules."""
    rows = [json.loads(line) for line in (ROOT / "model_selection_test_case.jsonl").read_text().splitlines()]
    library = Library.load("benchmark")
    kinds: dict[str, list[str]] = {}
    for row in rows:
        if row["expected_datasets"] and match(row["query"], library).labels:
            kinds.setdefault(row["kind"], []).append(row["query"])
    chance = random.Random(0)
    shuffled = [chance.sample(found, len(found)) for _, found in sorted(kinds.items())]
    spread = [found[turn] for turn in range(48) for found in shuffled if turn < len(found)]
    return [*spread[:48], *BEYOND_THE_RULES]


def costs(pattern: str, asked: Sequence[str], library: Library) -> Iterator[Cost]:
    """Ask every query by a pattern."""
    oracle = Oracle(library, BEYOND_THE_RULES)
    with Loopback(oracle) as server:
        if pattern == "Native":
            server.behaviour = _nothing
        mind = Mind("llm", Endpoint.model_validate(server.entry()), use_cache=False)
        answer = llm_answerer(pattern, mind, library)
        for query in asked:
            server.asked.clear()
            oracle.about(query)
            answer(query)
            prompts = [item.prompt_tokens for item in server.asked]
            schemas = [len(json.dumps(item.body.get("response_format", ""))) // 4 for item in server.asked]
            yield Cost(len(prompts), sum(prompts), sum(schemas), max(prompts, default=0))


def _nothing(asked: object) -> object:
    from loopback import Says

    return Says('Final Answer: {"thought": "scripted", "answer": {}}')


def synthetic(size: int, library: Library) -> Library:
    """A library of that many cards, labelled as the real ones are."""
    chance = random.Random(1)
    labels = sorted({label for card in library for label in card.labels})
    channels = ["CT", "MR", "MR T2", "PET"]
    cards = {}
    for number in range(size):
        names = ["liver", *chance.sample(labels, 20)]
        card = DatasetCard(
            name=f"Synthetic{number:05d}",
            channel_names={"0": channels[number % len(channels)]},
            labels={name: (value,) for value, name in enumerate(dict.fromkeys(names), 1)},
        )
        cards[card.name] = card
    return Library(cards)


def main() -> None:
    library = Library.load("benchmark")
    asked = queries()
    print(f"{len(asked)} queries, {len(library)} cards, a scripted model; tokens are characters / 4\n")
    print(
        f"{'':12}{'calls':>7}{'max':>5}{'prompt tokens: mean':>21}{'median':>8}{'max':>7}{'+ schema':>10}"
        f"{'published':>24}"
    )
    for name, pattern in (("hybrid", "Hybrid"), ("llm (C2F)", "C2F"), ("Native", "Native")):
        found = list(costs(pattern, asked, library))
        prompts = [cost.prompt for cost in found]
        then = PUBLISHED[name]
        beside = ""
        if then:
            beside = f"{then[0]:g} calls, {then[1]:,} ({fmean(prompts) / then[1]:.0%})"
        print(
            f"{name:12}{fmean(c.calls for c in found):7.2f}{max(c.calls for c in found):5}{fmean(prompts):21,.0f}"
            f"{median(prompts):8,.0f}{max(prompts):7,}{fmean(c.schema for c in found):10,.0f}{beside:>24}"
        )
        if name == "hybrid":
            resolved, rest = found[:48], found[48:]
            print(f"  of these, {len(resolved)} that the rules resolve: {sum(c.calls for c in resolved)} calls")
            print(f"  and {len(rest)} beyond them: at most {max(c.calls for c in rest)} call, "
                  f"longest prompt {max(c.longest for c in rest)} tokens")  # fmt: skip
    print("\nlongest prompt of one call, by library size (liver and spleen in CT, and one query beyond the rules):")
    for size in (23, 100, 1000):
        cards = library if size == 23 else synthetic(size, library)
        line = [f"{size:5} cards"]
        for name, pattern in (("hybrid", "Hybrid"), ("llm (C2F)", "C2F")):
            found = list(costs(pattern, ["liver and spleen in CT", list(BEYOND_THE_RULES)[1]], cards))
            line.append(f"{name} {max(cost.longest for cost in found):,}")
        print("; ".join(line))


if __name__ == "__main__":
    main()
