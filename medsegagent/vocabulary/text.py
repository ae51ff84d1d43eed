"""Text normalisation shared by the vocabulary, the parser and the binding of label names.

Spelling differences that never carry meaning disappear here: case, accents, British against American, plural endings,
German umlauts against their transcription. What remains of a word is its *stem*; a term is its stems joined by spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

_SPECIAL = {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "œ": "oe", "æ": "ae", "ø": "o", "ł": "l", "ﬁ": "fi", "ﬂ": "fl"}
_UMLAUT = "\u0308"
_APOSTROPHES = "'’ʼ`´"
_CJK = "\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af"
_TOKEN = re.compile(rf"[a-z]+|\d+|[{_CJK}]|[^\W\d_a-z{_CJK}]+|[^\s]")
_CJK_ONLY = re.compile(rf"[{_CJK}]")

_IRREGULAR = {
    word: stem
    for stem, words in {
        "humerus": "humeri",
        "femur": "femora femurs femoren",
        "gluteus": "glutei",
        "hippocampus": "hippocampi",
        "bronchus": "bronchi",
        "nucleus": "nuclei",
        "thalamus": "thalami",
        "sulcus": "sulci",
        "gyrus": "gyri",
        "calculus": "calculi",
        "thrombus": "thrombi",
        "embolus": "emboli",
        "meniscus": "menisci",
        "radius": "radii",
        "uterus": "uteri",
        "atrium": "atria",
        "sternum": "sterna",
        "cerebellum": "cerebella",
        "ganglion": "ganglia",
        "metastasis": "metastases mets",
        "testis": "testes testicles testicle",
        "pelvis": "pelves",
        "foot": "feet",
        "tooth": "teeth",
        "cortex": "cortices",
        "thorax": "thoraces",
        "pancreas": "pancreata pancreases",
        "lens": "lenses",
        "sinus": "sinuses",
        "uterus ": "uteruses",
        "plexus": "plexuses",
        "meninges": "meninges",
        "biceps": "biceps",
        "triceps": "triceps",
        "quadriceps": "quadriceps",
        "larynx": "larynges larynxes",
        "pharynx": "pharynges",
        "cornea": "corneas",
        "diaphragm": "diaphragms",
        "disc": "disk disks discs",
        "tumor": "tumors tumour tumours",
        "colon": "colons",
        "fetus": "foetus",
        "fiber": "fibre fibres fibers",
        "gray": "grey",
        "dens": "dens",
        "center": "centre",
        "leukemia": "leukaemia",
    }.items()
    for word in words.split()
}


@dataclass(frozen=True, slots=True)
class Token:
    """One word, number, CJK character or punctuation mark; `start` and `end` index the original text."""

    stem: str
    start: int
    end: int
    kind: str
    """`word`, `number`, `cjk` or `mark`."""
    word: str
    """Lower case and without accents, before stemming."""
    capital: bool = False
    """Written in capitals throughout."""
    starts_line: bool = False
    """The first of its line, but for the first line."""


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """The part of a lower-case Latin word that singular, plural, British and American spelling share."""
    if (irregular := _IRREGULAR.get(word)) is not None:
        return irregular.strip()
    if len(word) > 4 and word.endswith("ae"):
        word = word[:-1]
    word = word.replace("ae", "e").replace("oe", "e")
    if word.startswith("tumour"):
        word = "tumor" + word[6:]
    if word.endswith("oses") and len(word) > 6:
        return word[:-2] + "is"
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 5 and word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return word[:-1] if len(word) > 5 and word.endswith("e") and not word.endswith("ee") else word


def fold(text: str) -> tuple[str, list[int] | None]:
    """Lower-case and remove accents.

    Returns:
        The folded text, and per folded character the index of its origin in `text` (None: the same index).
    """
    if text.isascii():
        return text.lower(), None
    out: list[str] = []
    origin: list[int] = []
    for index, char in enumerate(text):
        if char == _UMLAUT and out and out[-1] in "aou":
            piece = "e"
        elif (unicodedata.combining(char) and char not in "\u3099\u309a") or unicodedata.category(char) == "Cf":
            continue  # loose accents, soft hyphens, zero-width marks
        else:
            piece = _fold_char(char)
        out.extend(piece)
        origin.extend([index] * len(piece))
    return "".join(out), origin


@lru_cache(maxsize=4096)
def _fold_char(char: str) -> str:
    lower = unicodedata.normalize("NFKC", char).lower()
    if lower in _SPECIAL:
        return _SPECIAL[lower]
    if _CJK_ONLY.match(lower):
        return lower
    bare = "".join(c for c in unicodedata.normalize("NFD", lower) if not unicodedata.combining(c))
    return bare or " "


def tokenize(text: str) -> list[Token]:
    """Split into tokens; letters and digits part company ("T12" is two tokens without a gap between them)."""
    return list(_tokens(text))


def _tokens(text: str) -> Iterator[Token]:
    folded, origin = fold(text)
    before = 0
    for match in _TOKEN.finditer(folded):
        piece = match.group()
        first, last = match.start(), match.end()
        start = first if origin is None else origin[first]
        end = last if origin is None else origin[last - 1] + 1
        breaks, before = "\n" in folded[before:first], last
        if piece.isdecimal():
            yield Token(piece, start, end, "number", piece, starts_line=breaks)
        elif _CJK_ONLY.match(piece):
            yield Token(piece, start, end, "cjk", piece, starts_line=breaks)
        elif piece[0].isalpha():
            yield Token(stem(piece), start, end, "word", piece, text[start:end].isupper(), breaks)
        else:
            if piece == "*" and _is_t2_star(folded, first):
                yield Token("star", start, end, "word", "star")
                continue
            mark = "'" if piece in _APOSTROPHES else piece
            yield Token(mark, start, end, "mark", mark, starts_line=breaks)


def _is_t2_star(folded: str, position: int) -> bool:
    """As in "T2*", the sequence; not the bold "**T2**"."""
    before, after = folded[max(0, position - 3) : position], folded[position + 1 : position + 2]
    return before.endswith("t2") and not before.startswith("*") and after != "*" and not before[:-2].isalnum()


ARTICLES = frozenset(
    [
        "the",
        "a",
        "an",
        "le",
        "les",
        "un",
        "une",
        "der",
        "die",
        "das",
        "den",
        "dem",
        "ein",
        "eine",
        "el",
        "los",
        "las",
        "lo",
    ]
)


def term_key(text: str) -> str:
    """The look-up key of a term: its stems, without marks and inner articles, joined by spaces."""
    stems = [token.stem for token in tokenize(text) if token.kind != "mark"]
    return " ".join(stem for index, stem in enumerate(stems) if not index or stem not in ARTICLES)
