"""Selection -> the public models worth installing for it, where nothing installed answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from medsegagent.cards.card import DatasetCard, NnunetEntry
from medsegagent.cards.library import Library
from medsegagent.matching.selection import CardSelection, Selection
from medsegagent.models.catalogue import Offer
from medsegagent.models.store import Store
from medsegagent.planning.plan import Plan
from medsegagent.planning.ranking import Rank, rank

_UNKNOWN_SCAN = (1.0, 1.0, 1.0)


def wanted(
    selection: Selection,
    library: Library,
    *,
    installed: Mapping[str, Collection[str]] | None = None,
    scan_mm: tuple[float, float, float] = _UNKNOWN_SCAN,
    per_target: int = 1,
) -> tuple[Offer, ...]:
    """The models to download, until each target has enough voters: first those that answer most, then the best rank.

    Installed models count as voters first, so that nothing is fetched for what they answer. Models bound to a licence
    number, and ones without a direct address, are left out. What finds a box for a model is installed with it.

    Args:
        selection: Cards and labels that answer the request.
        library: Where the selection's cards are.
        installed: Id of each installed model -> the card labels that its installed parts give.
        scan_mm: The scan's spacing, x, y, z; 1 mm if none is at hand.
        per_target: Voters wanted for each target.

    Returns:
        Each with the labels it is wanted for, and why.
    """
    ready: list[_Candidate] = []
    rest: list[_Candidate] = []
    for chosen in selection.cards:
        card = library.cards[chosen.card]
        for entry in card.models:
            offer, answers = Offer(card, entry), _answers(card, entry, chosen)
            there = set((installed or {}).get(entry.id, ()))
            now = {name: labels for name, labels in answers.items() if labels <= there}
            ready.append(_Candidate(offer, rank(entry, card, scan_mm), now))
            if offer.access == "download":
                later = {name: labels for name, labels in answers.items() if name not in now}
                rest.append(_Candidate(offer, rank(entry, card, scan_mm), later))
    fullest = list(_fullest(selection, [*ready, *rest]))
    ready, rest = fullest[: len(ready)], fullest[len(ready) :]
    votes = _Votes(per_target)
    for one in sorted(ready, key=lambda one: one.rank):
        votes.add(one)
    found = []
    while rest:
        best = min(rest, key=lambda one: (-len(votes.open_to(one)), one.rank))
        rest.remove(best)
        if targets := votes.add(best):
            labels = frozenset(label for name in targets for label in best.answers[name])
            reason = f"for {', '.join(targets)}: {best.rank.reason}"
            found.append(Offer(best.offer.card, best.offer.entry, labels, reason))
    return (*found, *_locators(found, library, installed or {}))


def _locators(offers: Iterable[Offer], library: Library, installed: Mapping[str, Collection[str]]) -> Iterator[Offer]:
    """What finds the boxes that the models to be installed were trained on."""
    named: dict[str, Offer] = {}
    for offer in offers:
        if (crop := offer.entry.crop) is None or set(crop.labels) <= set(installed.get(crop.model, ())):
            continue
        for card in library:
            for entry in card.models:
                locator = Offer(card, entry, frozenset(crop.labels), f"finds the box that {offer.entry.id} sees")
                if entry.id == crop.model and locator.access == "download":
                    before = named.get(entry.id, locator)
                    named[entry.id] = replace(before, labels=(before.labels or frozenset()) | frozenset(crop.labels))
    yield from named.values()


def for_the_rest(
    todo: Plan, selection: Selection, library: Library, store: Store, scan_mm: tuple[float, float, float]
) -> tuple[Offer, ...]:
    """The models to download for the targets that a plan leaves out."""
    planned = {target.target for item in todo.models for target in item.targets}
    cards = []
    for chosen in selection.cards:
        if left := tuple(answer for answer in chosen.targets if answer.target not in planned):
            cards.append(chosen.model_copy(update={"targets": left}))
    rest = selection.model_copy(update={"cards": tuple(cards)})
    return wanted(rest, library, installed=store.labels, scan_mm=scan_mm)


class _Candidate(NamedTuple):
    offer: Offer
    rank: Rank
    answers: dict[str, frozenset[str]]
    """Target -> the labels it needs."""


class _Votes:
    """Who votes on which target so far."""

    def __init__(self, per_target: int) -> None:
        self._wanted = per_target
        self._voters: dict[str, set[str]] = {}

    def open_to(self, one: _Candidate) -> list[str]:
        """The targets that want one more voter, and this one."""
        voter = one.offer.entry.voter or one.offer.entry.id
        heard = {name: self._voters.get(name, set()) for name in one.answers}
        return [name for name, voters in heard.items() if len(voters) < self._wanted and voter not in voters]

    def add(self, one: _Candidate) -> list[str]:
        """Count its votes; the targets that they are for."""
        targets = self.open_to(one)
        for name in targets:
            self._voters.setdefault(name, set()).add(one.offer.entry.voter or one.offer.entry.id)
        return targets


def _fullest(selection: Selection, candidates: Iterable[_Candidate]) -> Iterator[_Candidate]:
    """The candidates without answers that have only a part of a target of which another one has all."""
    partial = {(card.card, answer.target) for card in selection.cards for answer in card.targets if answer.partial}
    candidates = list(candidates)
    whole = {name for one in candidates for name in one.answers if (one.offer.card.name, name) not in partial}
    for one in candidates:
        kept = {
            n: labels for n, labels in one.answers.items() if n not in whole or (one.offer.card.name, n) not in partial
        }
        yield one._replace(answers=kept)


def _answers(card: DatasetCard, entry: NnunetEntry, chosen: CardSelection) -> dict[str, frozenset[str]]:
    """Target -> the labels it needs, for the targets that this model can give whole."""
    given = {label for part in entry.parts for label in part.labels or card.labels}
    needed = {target.target: frozenset((*target.whole.plus, *target.whole.minus)) for target in chosen.targets}
    return {name: labels for name, labels in needed.items() if labels <= given}
