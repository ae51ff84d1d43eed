"""Data files -> one compiled table: concepts, and terms with what they may mean. Run once, then cached."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from medsegagent.errors import VocabularyError
from medsegagent.vocabulary.concept import BODY_REGIONS, KINDS, Concept
from medsegagent.vocabulary.text import stem, term_key, tokenize

DATA = Path(__file__).parent / "data"
LANGUAGES = ("en", "la", "de", "fr", "es", "it", "pt", "zh", "ja")
_LISTS = frozenset({"part_of", "members", "set_mates", "is_a", "same_label"})
_PLAIN = frozenset({"name", "kind", "region", "paired", "side", "number", "code", "needs", "default_site"})
_TERMS = frozenset({*LANGUAGES, "adj", "maybe", "also", "left", "right", "says", "says_left", "says_right", "label"})
_ABBREVIATION = re.compile(r"[A-Z][A-Za-z0-9&/+]{0,5}")

Table = dict[str, Any]
"""`concepts`: id -> fields; `terms`: key -> meanings; `says`: [words, id]; `everyday`: common words."""


def data_files() -> list[Path]:
    """The concept files and the function words, in a fixed order."""
    return sorted(DATA.glob("*.yaml"))


def compile_files(files: list[Path]) -> Table:
    """Read and check the data files.

    Raises:
        VocabularyError: Naming the file and the entry.
    """
    import yaml  # only when the cache is stale

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    table: Table = {"concepts": {}, "terms": {}, "says": [], "everyday": []}
    for file in files:
        try:
            content = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)
        except (OSError, yaml.YAMLError) as error:
            raise VocabularyError(f"not readable YAML ({error})", "Fix the file.", str(file)) from error
        if file.stem == "everyday":
            table["everyday"] = sorted({stem(word) for word in content.split()})
        elif file.stem == "words":
            _add_words(content, table, str(file))
        else:
            _add_concepts(content, table, str(file))
    _check_references(table)
    return table


def _add_concepts(content: Any, table: Table, where: str) -> None:
    if not isinstance(content, dict) or not isinstance(content.get("concepts"), dict):
        raise VocabularyError("needs a 'concepts' mapping", "See data/README.md.", where)
    defaults = content.get("defaults") or {}
    for id_, given in content["concepts"].items():
        place = f"{where}: {id_}"
        if id_ in table["concepts"]:
            raise VocabularyError("this concept is defined twice", "Merge the two entries.", place)
        entry = defaults | (given or {})
        if unknown := sorted(entry.keys() - _LISTS - _PLAIN - _TERMS):
            raise VocabularyError(f"unknown keys {unknown}", "See data/README.md for the keys.", place)
        table["concepts"][id_] = _fields(id_, entry, place)
        _add_terms(id_, entry, table)


def _fields(id_: str, entry: dict[str, Any], where: str) -> dict[str, Any]:
    name = str(entry.get("name") or id_.replace("_", " "))
    out: dict[str, Any] = {"name": name}
    for key in _LISTS & entry.keys():
        out[key] = _split(entry[key])
    out |= {key: entry[key] for key in ("kind", "region", "paired", "side", "number", "default_site") if key in entry}
    if "code" in entry:
        out["code"] = str(entry["code"])
    if "needs" in entry:
        out["needs"] = [_split(group) for group in entry["needs"]]
    if out.get("kind", "organ") not in KINDS:
        raise VocabularyError(f"kind {out['kind']!r} is unknown", f"Use one of {sorted(KINDS)}.", where)
    if out.get("region", "none") not in BODY_REGIONS:
        raise VocabularyError(f"region {out['region']!r} is unknown", f"Use one of {sorted(BODY_REGIONS)}.", where)
    out["synonyms"] = [term for key in (*LANGUAGES, "left", "right") for term in _split(entry.get(key))]
    return out


def _split(value: Any) -> list[str]:
    """A list, or one string with commas between its items."""
    items = value if isinstance(value, list) else str(value).split(",") if value is not None else []
    return [str(item).strip() for item in items if str(item).strip()]


def _add_terms(id_: str, entry: dict[str, Any], table: Table) -> None:
    terms = table["terms"]
    if "." not in id_ and "number" not in entry:
        _add(terms, str(entry.get("name") or id_.replace("_", " ")), f"n:{id_}")
    for key in (*LANGUAGES, "left", "right"):
        side = f"@{key}" if key in ("left", "right") else ""
        for term in _split(entry.get(key)):
            _add(terms, term, f"{'b' if _is_abbreviation(term) else 'n'}:{id_}{side}")
    for key, flag in (("adj", "a"), ("maybe", "m"), ("also", "o"), ("label", "l")):
        for term in _split(entry.get(key)):
            _add(terms, term, f"{flag}:{id_}")
    for key in ("says", "says_left", "says_right"):
        for phrase in _split(entry.get(key)):
            table["says"].append([term_key(phrase), id_ + key[4:].replace("_", "@")])


def _is_abbreviation(term: str) -> bool:
    """As "IVC" or "GTVp": short and mostly capitals. It is read with more care than a word."""
    capitals = sum(map(str.isupper, term))
    return _ABBREVIATION.fullmatch(term) is not None and capitals * 2 > len(term)


def _add(terms: dict[str, list[str]], term: str, code: str) -> None:
    for variant in _variants(term):
        meanings = terms.setdefault(variant, [])
        if code not in meanings:
            meanings.append(code)


def _variants(term: str) -> Iterator[str]:
    key = term_key(term)
    if key:
        yield key
    if any(char in term for char in "äöüÄÖÜ"):  # people also type the bare letter
        yield " ".join(token.stem for token in tokenize(term.translate(str.maketrans("äöüÄÖÜ", "aouAOU"))))


def _add_words(content: Any, table: Table, where: str) -> None:
    if not isinstance(content, dict):
        raise VocabularyError("needs a mapping of word classes", "See data/README.md.", where)
    for category, group in content.items():
        for value, words in group.items() if isinstance(group, dict) else [("", group)]:
            for word in _split(words):
                _add(table["terms"], word, f"w:{category}:{value}")


def _check_references(table: Table) -> None:
    concepts = table["concepts"]
    for id_, entry in concepts.items():
        named = [item for key in _LISTS for item in entry.get(key, ())]
        named += [item for group in entry.get("needs", ()) for item in group]
        for item in named:
            bare = item.partition(":")[0]
            if not all(piece in concepts for piece in ([bare] if bare in concepts else bare.split(".", 1))):
                raise VocabularyError(f"names {item!r}, which is not defined", "Define it or fix the name.", id_)


CONCEPT_FIELDS = frozenset(field.name for field in fields(Concept))
