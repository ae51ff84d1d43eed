"""Fuzz dataset cards: `python tests/fuzz/fuzz_cards.py --minutes 15`.

A folder with an honest card and a spoilt one: the honest one must load, whatever the other holds, and a request must go
through matching.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

from harness import main
from json_spoiling import spoilt_json

from medsegagent.cards.library import Library
from medsegagent.language import parse
from medsegagent.matching import match
from medsegagent.models.catalogue import offers, search
from medsegagent.phantom import CARDS
from medsegagent.vocabulary import load

_SHIPPED = sorted(
    [*Path(CARDS).glob("*.json"), *(Path(__file__).parents[2] / "dataset").rglob("*.json")], key=lambda file: file.name
)
_HONEST = Path(CARDS) / "Phantom_CT_Organs.json"
_OLDER = {"name": "Older", "input_modalities": ["CT"], "labels": {"1": "liver", "2": "spleen"}, "models": [{"x": 1}]}
_BARE = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "ignore": 2}, "numTraining": 5}


def make(random: Random, folder: Path) -> Path:
    """Write both cards."""
    small = [file for file in _SHIPPED if file.stat().st_size < 20_000]
    honest = random.choice([*(json.loads(random.choice(small).read_bytes()) for _ in range(6)), _OLDER, _BARE])
    (folder / "Honest.json").write_bytes(_HONEST.read_bytes())
    (folder / "Spoilt.json").write_bytes(spoilt_json(random, honest, clean=0.8))
    return folder


def read(folder: Path) -> object:
    """Load, bind, match, search."""
    library = Library.load(folder)
    if "Phantom_CT_Organs" not in library.cards and len(library.problems) != 1:
        raise AssertionError("the honest card is gone without a word")
    request = parse("liver and left kidney in CT", load())
    for problem in library.problems:
        str(problem).encode()
    list(offers(library))
    search(library, "liver")
    return library.bindings, library.channels, match(request, library)


if __name__ == "__main__":
    sys.exit(main(make, read, __doc__))
