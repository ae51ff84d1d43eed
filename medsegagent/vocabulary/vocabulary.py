"""The compiled vocabulary: terms to concepts, and how concepts relate."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from medsegagent.vocabulary import cache
from medsegagent.vocabulary.closures import Sided, closure_of, packed, unpacked
from medsegagent.vocabulary.compile import CONCEPT_FIELDS, Table, compile_files, data_files, empty_table, read_added
from medsegagent.vocabulary.concept import Concept
from medsegagent.vocabulary.text import term_key

_FORMAT = "6"
"""Part of the cache key: raise it when the compiled form changes."""
_LOADED: dict[str, Vocabulary] = {}
_LOADING = Lock()


class Meaning(NamedTuple):
    """What a term may mean. `flag`: n noun, a adjective, b abbreviation, l label name, m only in a fitting
    context, o a less usual meaning, to be asked about where no context decides, w function word: then `id` is its
    class and value ("side:left") and `side` the language, "" if all share it.
    """

    flag: str
    id: str
    side: str = ""


class Vocabulary:
    """Look-up over the compiled table. Immutable in use; concepts are built when asked for."""

    def __init__(self, table: Table, digest: str = "") -> None:
        self.digest = digest
        """Identifies the data that it was compiled from."""
        self._entries: dict[str, dict[str, Any]] = table["concepts"]
        self._terms: dict[str, list[str]] = table["terms"]
        self._says: list[list[str]] = table["says"]
        self._everyday = frozenset(table["everyday"])
        self._languages: dict[str, list[str]] = table["languages"]
        self.rt_names: dict[str, dict[str, str]] = table["rt_names"]
        """How radiotherapy plans abbreviate: "first", "last", "words", ... -> abbreviation -> words."""
        self.letters: dict[str, str] = table["letters"]
        """Language -> letters that hardly any other language has."""
        self._groups: dict[str, list[str]] = table.get("closures", {})
        # What is kept below is kept when it is whole, never before: several threads may look things up at once.
        self._concepts: dict[str, Concept] = {}
        self._closures: dict[Sided, frozenset[Sided]] = {}
        self._ancestors: dict[str, frozenset[str]] = {}
        self._meanings: dict[str, tuple[Meaning, ...]] = {}

    # ---- concepts

    @property
    def ids(self) -> tuple[str, ...]:
        """Every concept that has an entry of its own."""
        return tuple(self._entries)

    def __contains__(self, id_: object) -> bool:
        if not isinstance(id_, str):
            return False
        kind, _, site = id_.partition(".")
        return id_ in self._entries or (bool(site) and kind in self._entries and site in self._entries)

    def concept(self, id_: str) -> Concept:
        """The concept of this id; `tumor.liver` is composed of its two halves.

        Raises:
            KeyError: If there is no such concept.
        """
        if id_ not in self._concepts:
            self._concepts[id_] = self._build(id_)
        return self._concepts[id_]

    def _build(self, id_: str) -> Concept:
        given = self._entries.get(id_)
        family_id, _, site_id = id_.partition(".")
        if not site_id:
            if given is None:
                raise KeyError(id_)
            fields = self._inherited(given) | given
        else:
            family, site = self.concept(family_id), self.concept(site_id)
            fields = {
                "name": f"{site.name} {family.name}",
                "kind": family.kind,
                "region": site.region,
                "paired": site.paired,
                "side": site.side,
                "part_of": [site_id],
                "is_a": [f"{general}.{site_id}" for general in family.is_a],
                "same_label": [f"{other}.{site_id}" for other in family.same_label],
                "members": [f"{member}.{site_id}" for member in family.members],
            } | {key: value for key, value in (given or {}).items() if key != "name" or "." not in value}
        clean: dict[str, Any] = {
            key: tuple(tuple(item) if isinstance(item, list) else item for item in value)
            if isinstance(value, list)
            else value
            for key, value in fields.items()
            if key in CONCEPT_FIELDS
        }
        return Concept(id=id_, **clean)

    def _inherited(self, given: dict[str, Any]) -> dict[str, Any]:
        """A named lesion is where its general kind is."""
        for general in given.get("is_a", ()):
            parent = self.concept(general)
            if parent.part_of:
                return {"region": parent.region, "paired": parent.paired, "part_of": list(parent.part_of)}
        return {}

    def site(self, id_: str) -> str:
        """The organ or region that a lesion is in, or that a composed part belongs to; empty if unsaid."""
        concept = self.concept(id_)
        return concept.part_of[0] if concept.kind in ("lesion", "part") and concept.part_of else ""

    # ---- relations

    def ancestors(self, id_: str) -> frozenset[str]:
        """The more general lesions of a lesion, itself included."""
        if id_ not in self._ancestors:
            generals = (self.ancestors(general) for general in self.concept(id_).is_a)
            self._ancestors[id_] = frozenset({id_}).union(*generals)
        return self._ancestors[id_]

    def closure(self, id_: str, side: str = "") -> frozenset[Sided]:
        """Everything whose union is this concept: itself, its sides, its members and theirs.

        Args:
            id_: The concept.
            side: "left" or "right" keeps what lies on that side; "" takes both.
        """
        key = Sided(id_, side)
        found = self._closures.get(key)
        if found is None:
            compiled = self._groups.get(f"{id_}|{side}")
            found = unpacked(compiled) if compiled is not None else closure_of(key, self.concept)
            self._closures[key] = found
        return found

    def wholes(self, id_: str) -> frozenset[str]:
        """Everything that this concept lies in, itself included: wholes, groups, lesion sites, regions."""
        return self._wholes[id_] if id_ in self._wholes else self._find_wholes(id_)

    @cached_property
    def _wholes(self) -> dict[str, frozenset[str]]:
        return {}

    @cached_property
    def _groups_of(self) -> dict[str, tuple[str, ...]]:
        groups: dict[str, list[str]] = {}
        for id_, entry in self._entries.items():
            for member in entry.get("members", ()):
                groups.setdefault(member.partition(":")[0], []).append(id_)
        return {id_: tuple(found) for id_, found in groups.items()}

    def _find_wholes(self, id_: str) -> frozenset[str]:
        found: set[str] = set()
        todo = [id_]
        while todo:
            current = todo.pop()
            if current in found:
                continue
            found.add(current)
            concept = self.concept(current)
            todo += concept.part_of
            if concept.region in self._entries:
                todo.append(concept.region)
            todo += self.concept(current).is_a
            todo += self._groups_of.get(current, ())
        self._wholes[id_] = frozenset(found)
        return self._wholes[id_]

    def contains(self, outer: str, inner: str) -> bool:
        """Whether `inner` lies in `outer` by anatomy: a part, a member, or a lesion of it (or the same concept)."""
        known = self._wholes.get(inner)
        return outer in known if known is not None else inner in self and outer in self.wholes(inner)

    def may_hold(self, outer: str, inner: str) -> bool:
        """Whether voxels of `inner` may be voxels of `outer` too: by anatomy, or as a lesion that may lie anywhere."""
        if self.contains(outer, inner):
            return True
        if inner not in self or outer not in self:
            return False
        anywhere = not (site := self.site(inner)) or self.concept(site).kind in ("region", "group")
        return anywhere and self.concept(inner).kind == "lesion" and self.concept(outer).kind != "lesion"

    # ---- terms

    def meanings(self, key: str) -> tuple[Meaning, ...]:
        """What the term with this key (see `text.term_key`) may mean; empty if it is unknown."""
        if key not in self._meanings:
            codes = self._terms.get(key)
            if codes is None:
                return ()
            self._meanings[key] = tuple(_decode(code) for code in codes)
        return self._meanings[key]

    def languages_of(self, key: str) -> frozenset[str]:
        """The languages in which this is a concept's term; empty for abbreviations."""
        return frozenset(self._languages.get(key, ()))

    @cached_property
    def reach(self) -> dict[str, int]:
        """First stem of a term -> the number of stems of the longest term that starts with it."""
        reach: dict[str, int] = {}
        for key in self._terms:
            first, _, _ = key.partition(" ")
            reach[first] = max(reach.get(first, 0), key.count(" ") + 1)
        return reach

    @cached_property
    def squashed(self) -> dict[str, str]:
        """Terms of several words written as one -> their key."""
        return {key.replace(" ", ""): key for key in self._terms if " " in key[2:-2] and key.isascii()}

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """Every stem of every term and English word: what a misspelt word may have been."""
        keys = (key for key, codes in self._terms.items() if any(_is_for_typos(code) for code in codes))
        pieces = {piece for key in keys for piece in key.split(" ") if len(piece) > 2 and piece.isascii()}
        common = pieces & self._everyday  # Dutch "lever" is an ordinary English word
        foreign = {piece for piece in common if {"en", "la"}.isdisjoint(self.languages_of(piece) or {"en"})}
        return tuple(sorted(pieces - foreign))

    @cached_property
    def stem_set(self) -> frozenset[str]:
        """Every stem of every term and description, of any length: words that are spelt right."""
        keys = [*self._terms, *(key for key, _ in self._says)]
        return frozenset(piece for key in keys for piece in key.split(" "))

    @property
    def everyday(self) -> frozenset[str]:
        """Common words that are no misspelling of anything medical."""
        return self._everyday

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of every term."""
        return tuple(self._terms)

    @cached_property
    def descriptions(self) -> tuple[tuple[frozenset[str], str], ...]:
        """Functional descriptions: their content words, and the concept."""
        return tuple((frozenset(key.split(" ")), id_) for key, id_ in self._says)

    def nearest(self, text: str, count: int = 3) -> tuple[str, ...]:
        """Preferred names of the concepts whose terms look most like `text`, best first."""
        from rapidfuzz import fuzz, process  # only for what is unknown

        names: list[str] = []
        for key, _, _ in process.extract(
            term_key(text), self._concept_keys, scorer=fuzz.ratio, limit=4 * count, score_cutoff=60
        ):
            name = self.concept(self._concept_keys_to_id[key]).name
            if name not in names:
                names.append(name)
        return tuple(names[:count])

    @cached_property
    def _concept_keys_to_id(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for key, codes in self._terms.items():
            flag, id_, _ = _decode(codes[0])
            if flag in "nb" and len(key) > 2 and key.isascii():
                found[key] = id_
        return found

    @cached_property
    def _concept_keys(self) -> tuple[str, ...]:
        return tuple(self._concept_keys_to_id)


def _is_for_typos(code: str) -> bool:
    return not code.startswith("w:") or "@" not in code or code.endswith("@en")


def _decode(code: str) -> Meaning:
    flag, _, rest = code.partition(":")
    id_, _, side = rest.partition("@")
    return Meaning(flag, id_, side)


def load(added: Sequence[Path] = ()) -> Vocabulary:
    """The shipped vocabulary, with a site's own terms if there are any; the same files give the same object.

    It is taken from the user's cache where that is fresh.

    Args:
        added: YAML files as in `vocabulary/data`; they add terms to concepts, new concepts, and function words.

    Raises:
        VocabularyError: If a data file is broken.
    """
    with _LOADING:
        if not added and "" in _LOADED:
            return _LOADED[""]
        found = open_files(added)
        vocabulary = _LOADED.setdefault(found.digest, found)
        if not added:
            _LOADED[""] = vocabulary
        return vocabulary


def open_files(added: Sequence[Path]) -> Vocabulary:
    """A new object for the shipped files and a site's own; from the user's cache where that is fresh.

    Raises:
        VocabularyError: If a data file is broken.
    """
    files, own = data_files(), [(file, read_added(file)) for file in added]
    digest = hashlib.sha256(_FORMAT.encode())
    for file, content in (*((file, file.read_bytes()) for file in files), *own):
        digest.update(f"{file.name} {len(content)} ".encode() + content)
    key = digest.hexdigest()
    name = f"vocabulary-{key[:16]}.json" if own else "vocabulary.json"
    table = cache.read(name, key)
    if not isinstance(table, dict) or table.keys() != {*empty_table(), "closures"}:
        table = compile_files(files, own)
        plain = Vocabulary(table)
        groups = [id_ for id_ in plain.ids if plain.concept(id_).members]
        table["closures"] = {
            f"{id_}|{side}": packed(plain.closure(id_, side)) for id_ in groups for side in ("", "left", "right")
        }
        cache.write(name, key, table)
    return Vocabulary(table, key)
