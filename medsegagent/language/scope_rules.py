"""Scopes as a table: what opens one, what it makes of the structures in it, and a sentence of each kind.

A pattern is a row of steps; each step is a word class of the language files, or a word in quotes, or a mark. Each
row's example is its test (tests/language/test_scopes.py).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Effect = Literal["excluded", "context", "story", "before"]
"""`excluded` and `context` hold until a comma or a stop, `story` until a stop, `before` looks back."""


class Rule(NamedTuple):
    """One row: where the pattern stands, the effect begins (or, for `before`, ends)."""

    pattern: tuple[str, ...]
    effect: Effect
    language: str
    example: str
    wanted: tuple[str, ...]
    """Concepts that the example asks for."""


RULES = (
    Rule(("not",), "excluded", "en", "the liver, don't touch the kidneys", ("liver",)),
    Rule(("not",), "excluded", "de", "die Leber ohne den Tumor", ("liver",)),
    Rule(("not",), "excluded", "fr", "le foie sans la tumeur", ("liver",)),
    Rule(("not",), "excluded", "es", "el hígado sin el tumor", ("liver",)),
    Rule(("not",), "excluded", "it", "fegato senza tumore", ("liver",)),
    Rule(("not",), "excluded", "pt", "o fígado sem o tumor", ("liver",)),
    Rule(("not",), "excluded", "nl", "de lever zonder de tumor", ("liver",)),
    Rule(("not",), "excluded", "pl", "wątroba bez guza", ("liver",)),
    Rule(("not",), "excluded", "ru", "печень без опухоли", ("liver",)),
    Rule(("not",), "excluded", "zh", "肝脏,不要肾脏", ("liver",)),
    Rule(("not_after",), "before", "en", "spleen and liver, leave the pancreas out", ("spleen", "liver")),
    Rule(("not_after",), "before", "en", "liver, leave the spleen alone", ("liver",)),
    Rule(("not_after",), "before", "ja", "腫瘍を除く肝臓", ("liver",)),
    Rule(("not_after",), "before", "ko", "종양을 제외한 간", ("liver",)),
    Rule(("not_after",), "before", "tr", "tümör hariç karaciğer", ("liver",)),
    Rule(("patient",), "context", "en", "patient with pancreatitis, segment the spleen", ("spleen",)),
    Rule(("patient",), "context", "de", "Zustand nach Nephrektomie, Leber segmentieren", ("liver",)),
    Rule(("number", "age"), "context", "en", "liver in a 60 year old man with RCC", ("liver",)),
    Rule(("number", "-", "age"), "context", "en", "72-year-old woman with ovarian cancer: spleen", ("spleen",)),
    Rule(("number", "'f'"), "context", "en", "72F with metastatic melanoma. Segment the spleen.", ("spleen",)),
    Rule(("number", "'m'"), "context", "en", "55M with colon cancer. Segment the liver.", ("liver",)),
    Rule(("sex", "with"), "context", "en", "woman with breast cancer, segment the lungs", ("lung",)),
    Rule(("heading", ":"), "story", "en", "Indication: liver metastases, ascites. Outline the liver.", ("liver",)),
    Rule(("heading", ":"), "story", "de", "Indikation: Lungenkrebs. Bitte die Leber segmentieren.", ("liver",)),
    Rule(("heading", ":"), "story", "fr", "Indication: cancer du poumon. Segmentez le foie.", ("liver",)),
)
