"""How models look on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from medsegagent.cli import screen
from medsegagent.models.catalogue import Offer
from medsegagent.models.own_store import ModelHome
from medsegagent.wording import some

_HOW = {
    "download": "download: `medsegagent models install` fetches it",
    "page": "from its publisher's page: get the archive there, then `medsegagent models install ID --from ARCHIVE`",
    "licence": "licence: never fetched; get a licence number and the archive from the publisher, then "
    "`medsegagent models install ID --from ARCHIVE --accept-licence`",
    "local": "no public source: `medsegagent models install ID --from ARCHIVE` takes what you have",
}


def offer_json(offer: Offer, home: ModelHome) -> dict[str, Any]:
    """One model, for machines."""
    root = home.roots().get(offer.entry.id)
    return {
        "id": offer.entry.id,
        "card": offer.card.name,
        "access": offer.access,
        "licence": offer.licence,
        "installed": str(root) if root else None,
        "channels": dict(offer.card.channel_names),
        "labels": list(offer.card.labels),
        "model": offer.entry.model_dump(mode="json", exclude_defaults=True),
    }


def show_offers(offers: Iterable[Offer], home: ModelHome) -> None:
    """A table of models."""
    installed = home.roots()
    rows = [
        (
            offer.entry.id,
            offer.card.name,
            " + ".join(dict.fromkeys(offer.card.channel_names.values())),
            len(offer.card.labels),
            offer.licence,
            "installed" if offer.entry.id in installed else offer.access,
        )
        for offer in offers
    ]
    screen.table(("model", "card", "images", "labels", "licence", "access"), rows)


def show_offer(offer: Offer, home: ModelHome) -> None:
    """Everything about one model."""
    card, entry = offer.card, offer.entry
    root = home.roots().get(entry.id)
    rows: list[tuple[str, object]] = [
        ("model", entry.id),
        ("card", f"{card.name}: {card.description}"),
        ("images", " + ".join(card.channel_names[key] for key in entry.channels or card.channel_names)),
        ("licence", offer.licence),
        ("access", f"installed in {root}" if root else _HOW[offer.access]),
    ]
    if entry.spacing_mm:
        rows.append(("grid", " x ".join(f"{edge:.3g}" for edge in entry.spacing_mm) + " mm"))
    if entry.crop:
        rows.append(("trained on", f"the box around {', '.join(entry.crop.labels)} ({entry.crop.model})"))
    if entry.notes:
        rows.append(("note", entry.notes))
    for part in entry.parts:
        labels = list(part.labels or card.labels)
        rows += [("part", f"{part.folder}: {some(labels, 8)}"), ("", part.source.url if part.source else "no source")]
    for name, told in rows:
        screen.out.print(f"{name:12}{told}", markup=False, soft_wrap=True)
