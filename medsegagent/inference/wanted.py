"""Selection -> the public models worth installing for it, where nothing installed answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from medsegagent.cards.library import Library
from medsegagent.inference.ranking import rank
from medsegagent.matching.selection import CardSelection, Selection
from medsegagent.models.catalogue import Offer
from medsegagent.models.install import parts_for

_UNKNOWN_SCAN = (1.0, 1.0, 1.0)


def wanted(
    selection: Selection,
    library: Library,
    *,
    installed: Collection[str] = (),
    scan_mm: tuple[float, float, float] = _UNKNOWN_SCAN,
    per_target: int = 1,
) -> tuple[Offer, ...]:
    """The best models that can be downloaded, until each target has enough voters.

    Installed models count as voters first, so that nothing is fetched for what they answer. Models bound to a licence
    number, and ones without a direct address, are left out.

    Args:
        selection: Cards and labels that answer the request.
        library: Where the selection's cards are.
        installed: Ids of installed models.
        scan_mm: The scan's spacing, x, y, z; 1 mm if none is at hand.
        per_target: Voters wanted for each target.

    Returns:
        Best rank first, each with the labels it is wanted for.
    """
    candidates = [
        (Offer(card, entry), chosen)
        for chosen in selection.cards
        for card in [library.cards[chosen.card]]
        for entry in card.models
    ]
    candidates.sort(key=lambda item: (item[0].entry.id not in installed, rank(item[0].entry, item[0].card, scan_mm)))
    voters: Counter[str] = Counter()
    heard: set[tuple[str, str]] = set()
    chosen_offers: list[Offer] = []
    for offer, chosen in candidates:
        entry = offer.entry
        there = entry.id in installed
        if not there and offer.access != "download":
            continue
        targets = _answers(offer, chosen)
        targets = {name: labels for name, labels in targets.items() if voters[name] < per_target}
        targets = {name: labels for name, labels in targets.items() if (entry.voter or entry.id, name) not in heard}
        voters.update(targets.keys())
        heard.update((entry.voter or entry.id, name) for name in targets)
        if targets and not there:
            why = rank(entry, offer.card, scan_mm).reason
            labels = frozenset(label for labels in targets.values() for label in labels)
            chosen_offers.append(Offer(offer.card, entry, labels, f"for {', '.join(targets)}: {why}"))
    return tuple(chosen_offers)


def _answers(offer: Offer, chosen: CardSelection) -> dict[str, frozenset[str]]:
    """Target -> the labels it needs, for the targets that this model can give whole."""
    given = {label for part in offer.entry.parts for label in part.labels or offer.card.labels}
    found = {}
    for target in chosen.targets:
        needed = frozenset((*target.whole.plus, *target.whole.minus))
        if needed <= given and parts_for(offer.card, offer.entry, needed):
            found[target.target] = needed
    return found
