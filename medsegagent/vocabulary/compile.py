"""Data files -> one compiled table: concepts, and terms with what they may mean. Run once, then cached."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from medsegagent.errors import VocabularyError
from medsegagent.vocabulary.concept import BODY_REGIONS, KINDS, Concept
from medsegagent.vocabulary.text import stem, term_key, tokenize

DATA = Path(__file__).parent / "data"
LANGUAGES = tuple(sorted(file.stem for file in (DATA / "languages").glob("*.yaml")))
"""A language is a file there: its function words, and terms; `la` is read in every instruction."""
_LISTS = frozenset({"part_of", "members", "set_mates", "is_a", "same_label"})
_REGIONS = frozenset({"exam_of"})
_FLAGS = frozenset({"generic", "volume"})
_PLAIN = frozenset({"name", "kind", "region", "paired", "side", "number", "code", "needs", "default_site", "sex"})
_TERMS = frozenset({*LANGUAGES, "adj", "maybe", "also", "left", "right", "says", "says_left", "says_right", "label"})
_MORE = (("sex", str), ("generic", bool), ("volume", bool))
_ID = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)?")
_SIZE_LIMIT = 2**20
_ABBREVIATION = re.compile(r"[A-Z][A-Za-z0-9&/+]{0,5}")

Table = dict[str, Any]
"""`concepts`: id -> fields; `terms`: key -> meanings; `says`: [words, id]; `everyday`: common words;
`rt_names`: part -> abbreviation -> words;
`languages`: key of a concept's term -> the languages that have it; `letters`: language -> letters that tell it."""


def empty_table() -> Table:
    """A table without any entry."""
    return {"concepts": {}, "terms": {}, "says": [], "everyday": [], "languages": {}, "letters": {}, "rt_names": {}}


def data_files() -> list[Path]:
    """The concept files, the words that all languages share, and the languages, in a fixed order."""
    return [*sorted(DATA.glob("*.yaml")), *sorted((DATA / "languages").glob("*.yaml"))]


def compile_files(files: Iterable[Path], added: Iterable[tuple[Path, bytes]] = ()) -> Table:
    """Read and check the data files.

    Args:
        files: The shipped files.
        added: A site's own files with their content, see `read_added`; what a term means there, it means.

    Raises:
        VocabularyError: Naming the file and the entry.
    """
    table = empty_table()
    for file in files:
        content = _parsed(file.read_bytes(), str(file))
        if file.stem == "everyday":
            table["everyday"] = sorted({stem(word) for word in content.split()})
        elif file.stem == "words":
            _add_words(content, table, str(file))
        elif file.stem == "rt_names":
            table["rt_names"] = _rt_names(content, str(file))
        elif file.parent.name == "languages":
            _add_language(content, table, str(file), file.stem)
        else:
            _add_concepts(content, table, str(file))
    for file, raw in added:
        _add_site(_parsed(raw, str(file)), table, str(file))
    _check_references(table)
    return table


def read_added(file: Path) -> bytes:
    """The content of a site's own vocabulary file.

    Raises:
        VocabularyError: If it cannot be read, is too large, or refers to itself as YAML allows (`&name`, `*name`).
    """
    import yaml

    try:
        if file.stat().st_size > _SIZE_LIMIT:
            raise VocabularyError(f"larger than {_SIZE_LIMIT >> 20} MiB", "Split it, or name fewer terms.", str(file))
        content = file.read_bytes()
        # A few lines of anchors can stand for gigabytes; nobody needs them here.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, Loader=yaml.SafeLoader)):
            raise VocabularyError("uses a YAML alias (*name)", "Write the value out.", str(file))
    except OSError as error:
        raise VocabularyError(f"cannot be read ({error.strerror})", "Name a YAML file.", str(file)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise VocabularyError(f"not readable YAML ({error})", "Fix the file.", str(file)) from error
    return content


def _parsed(raw: bytes, where: str) -> Any:
    import yaml  # only when the cache is stale

    try:
        return yaml.load(raw, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise VocabularyError(f"not readable YAML ({error})", "Fix the file.", where) from error


def _add_site(content: Any, table: Table, where: str) -> None:
    """Terms of a site replace what the same terms meant before; entries of known concepts only add to them."""
    if not isinstance(content, dict) or not content.keys() <= {"defaults", "concepts", "words"}:
        raise VocabularyError("needs 'concepts' or 'words', and nothing else", "See data/README.md.", where)
    own = empty_table()
    known = table["concepts"]
    if "concepts" in content:
        _add_concepts(content, own, where, known)
    for id_, entry in own["concepts"].items():
        known[id_] = (known[id_] | {"synonyms": known[id_]["synonyms"] + entry["synonyms"]}) if id_ in known else entry
    if "words" in content:
        _add_words(content["words"], own, where)
    table["terms"].update(own["terms"])
    table["languages"].update(own["languages"])
    table["says"] += own["says"]


def _add_concepts(content: Any, table: Table, where: str, known: Container[str] = ()) -> None:
    """Add entries; those of `known` concepts may hold terms only."""
    if not isinstance(content, dict) or not isinstance(content.get("concepts"), dict):
        raise VocabularyError("needs a 'concepts' mapping", "See data/README.md.", where)
    defaults = content.get("defaults") or {}
    for given_id, given in content["concepts"].items():
        id_ = str(given_id)
        place = f"{where}: {id_}"
        if id_ in table["concepts"]:
            raise VocabularyError("this concept is defined twice", "Merge the two entries.", place)
        if not isinstance(given or {}, dict) or not isinstance(defaults, dict):
            raise VocabularyError("is no mapping", "See data/README.md for the keys.", place)
        if id_ in known and (fixed := sorted((given or {}).keys() - _TERMS)):
            raise VocabularyError(f"changes {fixed} of a known concept", "Only terms can be added to it.", place)
        if id_ not in known and not _ID.fullmatch(id_):
            raise VocabularyError("is no id", "Use small letters, digits, _ and one dot.", place)
        entry = (given or {}) if id_ in known else defaults | (given or {})
        if unknown := sorted(entry.keys() - _LISTS - _REGIONS - _FLAGS - _PLAIN - _TERMS):
            raise VocabularyError(f"unknown keys {unknown}", "See data/README.md for the keys.", place)
        table["concepts"][id_] = _fields(id_, entry, place)
        _add_terms(id_, entry, table)


def _fields(id_: str, entry: dict[str, Any], where: str) -> dict[str, Any]:
    for key, type_ in (("kind", str), ("region", str), ("side", str), ("paired", bool), ("number", int), *_MORE):
        if not isinstance(entry.get(key, type_()), type_):
            raise VocabularyError(f"{key} is {entry[key]!r}", f"Give one of type {type_.__name__}.", where)
    name = str(entry.get("name") or id_.replace("_", " "))
    out: dict[str, Any] = {"name": name}
    for key in (_LISTS | _REGIONS) & entry.keys():
        out[key] = _split(entry[key])
    out |= {
        key: entry[key]
        for key in ("kind", "region", "paired", "side", "number", "default_site", "sex", *_FLAGS)
        if key in entry
    }
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
        name = str(entry.get("name") or id_.replace("_", " "))
        _add(terms, name, f"n:{id_}")
        _add_language_of(name, "en", table)
    for key in (*LANGUAGES, "left", "right"):
        side = f"@{key}" if key in ("left", "right") else ""
        for term in _split(entry.get(key)):
            _add(terms, term, f"{'b' if _is_abbreviation(term) else 'n'}:{id_}{side}")
            if key in LANGUAGES and not _is_abbreviation(term):
                _add_language_of(term, key, table)
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


def _rt_names(content: Any, where: str) -> dict[str, dict[str, str]]:
    """Abbreviations in lower case, by the place in a name where they stand for something."""
    if not isinstance(content, dict):
        raise VocabularyError("needs a mapping", "See data/README.md.", where)
    names = {
        part: {str(short).lower(): str(words) for short, words in content[part].items()}
        for part in ("first", "last", "words")
    }
    lists = {part: {word.lower(): "" for word in _split(content[part])} for part in ("volumes", "margins")}
    return names | lists


def _add_language_of(term: str, language: str, table: Table) -> None:
    for variant in _variants(term):
        known = table["languages"].setdefault(variant, [])
        if language not in known:
            known.append(language)


def _add_language(content: Any, table: Table, where: str, language: str) -> None:
    """A language's function words, and its terms for concepts that other files define."""
    if not isinstance(content, dict) or not content.keys() <= {"name", "letters", "words", "terms"}:
        raise VocabularyError("needs 'name', 'words' and 'terms', and nothing else", "See docs/languages.md.", where)
    table["letters"][language] = str(content.get("letters") or "")
    _add_words(content.get("words") or {}, table, where, language)
    for id_, given in (content.get("terms") or {}).items():
        if id_ not in table["concepts"]:
            raise VocabularyError(
                "this concept is not defined", "Define it in a file of its region.", f"{where}: {id_}"
            )
        for term in _split(given):
            _add(table["terms"], term, f"n:{id_}")
            _add_language_of(term, language, table)
            table["concepts"][id_]["synonyms"].append(term)


def _add_words(content: Any, table: Table, where: str, language: str = "") -> None:
    if not isinstance(content, dict):
        raise VocabularyError("needs a mapping of word classes", "See data/README.md.", where)
    for category, group in content.items():
        for value, words in group.items() if isinstance(group, dict) else [("", group)]:
            for word in _split(words):
                _add(table["terms"], word, f"w:{category}:{value}@{language}" if language else f"w:{category}:{value}")


def _check_references(table: Table) -> None:
    concepts = table["concepts"]
    for id_, entry in concepts.items():
        named = [item for key in _LISTS for item in entry.get(key, ())]
        named += [item for group in entry.get("needs", ()) for item in group]
        for item in named:
            bare = item.partition(":")[0]
            if not all(piece in concepts for piece in ([bare] if bare in concepts else bare.split(".", 1))):
                raise VocabularyError(f"names {item!r}, which is not defined", "Define it or fix the name.", id_)
        if _is_its_own(id_, "is_a", concepts) or _is_its_own(id_, "part_of", concepts):
            raise VocabularyError("is a kind or a part of itself", "Break the circle.", id_)


def _is_its_own(id_: str, key: str, concepts: dict[str, Any]) -> bool:
    seen: set[str] = set()
    todo = list(concepts[id_].get(key, ()))
    while todo:
        current = todo.pop()
        if current not in seen:
            seen.add(current)
            todo += concepts.get(current, {}).get(key, ())
    return id_ in seen


CONCEPT_FIELDS = frozenset(field.name for field in fields(Concept))
