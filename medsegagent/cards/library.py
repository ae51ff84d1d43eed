"""Load cards from disk. A broken card is reported and never takes the others down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medsegagent.cards import cached_library
from medsegagent.cards.binding import Binding, bind
from medsegagent.cards.card import DatasetCard, card_fields
from medsegagent.cards.channels import Accepted, card_accepts
from medsegagent.errors import CardError
from medsegagent.untrusted import read_json_object, reason
from medsegagent.vocabulary import Sided, Vocabulary, load

_CARD_SIZE_LIMIT = 4 * 2**20
_MOST_COMPLAINTS = 10
_WORTH_COMPILING = 50
"""Files; fewer are read as fast as their compiled form."""


@dataclass(frozen=True)
class Library:
    """The cards in use, by name, and what was wrong with the ones that did not load.

    Attributes:
        cards: The cards.
        problems: Why others are not among them.
        name: What the user called them: "all", "zoo", "benchmark", or a folder in full; "" if they were put together.
        vocabulary: What their labels are bound with, and what every instruction to this library is read with.
    """

    cards: Mapping[str, DatasetCard]
    problems: tuple[CardError, ...] = ()
    vocabulary: Vocabulary = field(default_factory=load, repr=False)
    name: str = ""

    @classmethod
    def load(cls, which: str | Path = "all", vocabulary: Sequence[str | Path] = ()) -> Library:
        """Load a library.

        Args:
            which: "benchmark" (the 23 cards), "zoo" (cards of public checkpoints), "all", or a folder of cards.
            vocabulary: YAML files with a site's own terms, as in `medsegagent/vocabulary/data`.

        Raises:
            CardError: If the folder does not exist or holds no usable card.
            VocabularyError: If a vocabulary file cannot be used.
        """
        shipped = _shipped_folder()
        built_in = {
            "benchmark": (shipped, shipped.glob("*.json")),
            "zoo": (shipped / "zoo", (shipped / "zoo").rglob("*.json")),
            "all": (shipped, shipped.rglob("*.json")),
        }
        folder, files = built_in.get(str(which)) or (Path(which), Path(which).rglob("*.json"))
        if not folder.is_dir():
            raise CardError(
                "there is no such folder", "Give a folder of JSON cards, or benchmark, zoo or all.", str(which)
            )
        library = cls.of_files(sorted(files), load([Path(file) for file in vocabulary]))
        if not library.cards:
            detail = f" ({library.problems[0]})" if library.problems else ""
            raise CardError(f"no usable card{detail}", "Put at least one JSON card there.", str(folder))
        name = str(which) if str(which) in built_in else str(folder.resolve())
        # Its properties may be filled already, from the compiled form: they go along.
        object.__setattr__(library, "name", name)
        return library

    @classmethod
    def of_files(cls, files: Iterable[Path], vocabulary: Vocabulary | None = None) -> Library:
        """The cards in these files; what does not load, or has a name that another has, is in `problems`.

        A large library is compiled once and opened from the user's cache from then on.
        """
        listed, vocabulary = tuple(files), vocabulary or load()
        if len(listed) < _WORTH_COMPILING:
            return cls._read(listed, vocabulary)
        key = cached_library.key_of(listed, vocabulary.digest)
        compiled = cached_library.read(listed, key)
        if compiled is None:
            library = cls._read(listed, vocabulary)
            cached_library.write(listed, key, _compiled(library))
            return library
        return cls._opened(compiled, vocabulary)

    @classmethod
    def _read(cls, files: Iterable[Path], vocabulary: Vocabulary) -> Library:
        cards: dict[str, DatasetCard] = {}
        problems: list[CardError] = []
        for file in files:
            try:
                card = load_card(file)
            except CardError as error:
                problems.append(error)
                continue
            if card.name in cards:
                problems.append(CardError(f"a card named {card.name!r} exists already", "Rename one.", str(file)))
            else:
                cards[card.name] = card
        return cls(dict(sorted(cards.items())), tuple(problems), vocabulary)

    @classmethod
    def _opened(cls, compiled: dict[str, Any], vocabulary: Vocabulary) -> Library:
        problems = tuple(CardError(*texts) for texts in compiled["problems"])
        library = cls(cached_library.Lazy(compiled["cards"], DatasetCard.model_validate), problems, vocabulary)
        names = tuple(compiled["cards"])
        kinds = tuple(
            tuple(frozenset(Accepted(*item) for item in channel) for channel in channels)
            for channels in compiled["channels"]["kinds"]
        )
        # What is compiled takes the place of what the properties would compute.
        vars(library).update(
            label_values=cached_library.Lazy(compiled["cards"], lambda card: _values(card["labels"])),
            channels=dict(zip(names, (kinds[i] for i in compiled["channels"]["of"]), strict=True)),
            bindings=cached_library.Lazy(compiled["bindings"], _bindings),
            cards_with={
                Sided(*key.split("|")): tuple(names[i] for i in places) for key, places in compiled["index"].items()
            },
        )
        return library

    def get(self, name: str) -> DatasetCard:
        """One card by name.

        Raises:
            CardError: If there is none; names the nearest ones.
        """
        if name not in self.cards:
            near = get_close_matches(name, self.cards, n=3, cutoff=0.4)
            hint = f"Did you mean {', '.join(near)}?" if near else "`medsegagent cards list` shows all."
            raise CardError("no such card", hint, name)
        return self.cards[name]

    @cached_property
    def bindings(self) -> Mapping[str, tuple[Binding, ...]]:
        """Card name -> what each of its labels means."""
        return {card.name: bind(card, self.vocabulary) for card in self}

    @cached_property
    def label_values(self) -> Mapping[str, Mapping[str, tuple[int, ...]]]:
        """Card name -> label -> stored values."""
        return {card.name: card.labels for card in self}

    @cached_property
    def channels(self) -> Mapping[str, tuple[frozenset[Accepted], ...]]:
        """Card name -> per channel, the kinds of image that it takes."""
        return {card.name: card_accepts(card, self.vocabulary) for card in self}

    @cached_property
    def cards_with(self) -> Mapping[Sided, tuple[str, ...]]:
        """Concept and side -> the cards with a label of exactly that meaning: the index of every search."""
        index: dict[Sided, dict[str, None]] = {}
        for name, bindings in self.bindings.items():
            for binding in bindings:
                for concept in (*binding.concepts, *(Sided(lesion) for lesion in binding.lesions)):
                    index.setdefault(concept, {})[name] = None
        return {concept: tuple(names) for concept, names in index.items()}

    @cached_property
    def lesions(self) -> frozenset[str]:
        """Every lesion that some label means."""
        return frozenset(item.id for item in self.cards_with if self.vocabulary.concept(item.id).kind == "lesion")

    def __iter__(self) -> Iterator[DatasetCard]:
        return iter(self.cards.values())

    def __len__(self) -> int:
        return len(self.cards)


def _compiled(library: Library) -> dict[str, Any]:
    """The library as plain JSON, for `Library._opened`."""
    places = {name: index for index, name in enumerate(library.cards)}
    kinds = {channels: index for index, channels in enumerate(dict.fromkeys(library.channels.values()))}
    return {
        "cards": {c.name: c.model_dump(mode="json", by_alias=True, exclude_defaults=True) for c in library},
        "channels": {
            "kinds": [[sorted(channel) for channel in channels] for channels in kinds],
            "of": [kinds[library.channels[name]] for name in library.cards],
        },
        "bindings": {
            name: [[b.label, list(b.concepts), list(b.lesions)] for b in bindings]
            for name, bindings in library.bindings.items()
        },
        "index": {f"{c.id}|{c.side}": [places[name] for name in names] for c, names in library.cards_with.items()},
        "problems": [[error.what, error.remedy, error.where] for error in library.problems],
    }


def _values(labels: dict[str, int | list[int]]) -> dict[str, tuple[int, ...]]:
    named = {name: value for name, value in labels.items() if name != "background"}
    return {name: (value,) if isinstance(value, int) else tuple(value) for name, value in named.items()}


def _bindings(raw: list[tuple[str, list[tuple[str, str]], list[str]]]) -> tuple[Binding, ...]:
    return tuple(Binding(label, tuple(Sided(*c) for c in concepts), tuple(lesions)) for label, concepts, lesions in raw)


def load_card(file: Path) -> DatasetCard:
    """Read one card, in this project's schema, as a bare nnU-Net dataset.json, or in the field's older style.

    Raises:
        CardError: Naming file, field, value and what was expected.
    """
    try:
        raw = read_json_object(file, _CARD_SIZE_LIMIT)
    except (OSError, ValueError) as error:
        what = f"not a readable JSON file ({reason(error)})"
        raise CardError(what, "Fix the file or remove it; docs/add_a_card.md shows a valid card.", str(file)) from error
    try:
        return DatasetCard.model_validate(card_fields(raw, file.stem))
    except ValidationError as error:
        wrong = "; ".join(_complaint(item) for item in error.errors()[:_MOST_COMPLAINTS])
        raise CardError(wrong, "Fix these fields; docs/add_a_card.md shows a valid card.", str(file)) from error


def _complaint(item: Any) -> str:
    field = ".".join(str(step) for step in item["loc"]) or "card"
    found = "" if item["type"] == "missing" else f", got {item['input']!r:.80}"
    return f"{field}: {item['msg']}{found}"


def _shipped_folder() -> Path:
    package = Path(__file__).resolve().parents[1]
    in_wheel = package / "dataset"
    return in_wheel if in_wheel.is_dir() else package.parent / "dataset"
