"""How models and their installation look on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.prompt import Confirm

from medsegagent.cli import screen
from medsegagent.errors import AnswerNeededError
from medsegagent.models.catalogue import Offer
from medsegagent.models.download import Progress as Bytes
from medsegagent.models.home import ModelHome
from medsegagent.models.install import Installation, InstalledFolder, install, parts_for


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
        ("access", f"installed in {root}" if root else offer.access),
    ]
    if entry.spacing_mm:
        rows.append(("grid", " x ".join(f"{edge:.3g}" for edge in entry.spacing_mm) + " mm"))
    if entry.crop:
        rows.append(("trained on", f"the box around {', '.join(entry.crop.labels)} ({entry.crop.model})"))
    if entry.notes:
        rows.append(("note", entry.notes))
    for part in entry.parts:
        labels = list(part.labels or card.labels)
        shown = ", ".join(labels[:8]) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")
        rows.append((part.dataset_folder, f"{shown}\n{part.source.url if part.source else 'no source'}"))
    screen.table(("", ""), rows)


def confirm(offers: Sequence[Offer], *, yes: bool) -> None:
    """Show what would be installed, with licences, and ask.

    Raises:
        AnswerNeededError: If nobody can be asked, or the answer is no.
    """
    for offer in offers:
        count = len(parts_for(offer.card, offer.entry, offer.labels))
        parts = f", {count} of {len(offer.entry.parts)} parts" if len(offer.entry.parts) > 1 else ""
        reason = f" ({offer.reason})" if offer.reason else ""
        screen.err.print(f"{offer.entry.id}{parts}; licence: {offer.licence}{reason}", markup=False)
    if yes:
        return
    if not sys.stdin.isatty():
        raise AnswerNeededError("installing needs your consent", "Add --yes to install what is listed above.")
    if not Confirm.ask("Install?", console=screen.err):
        raise AnswerNeededError("nothing was installed", "Name another model, or add --yes.")


def install_all(offers: Iterable[Offer], how: Callable[[Callable[[str], Bytes]], Installation]) -> None:
    """Install with bars on stderr, and tell what differs from the cards."""
    for offer in offers:
        with _bars() as progress:
            done = install(offer.card, offer.entry, how(progress), offer.labels)
        _tell(offer, done)


def _tell(offer: Offer, done: Sequence[InstalledFolder]) -> None:
    for part in done:
        screen.out.print(
            f"{offer.entry.id}: {'installed' if part.new else 'already there'}, {part.folder}", markup=False
        )
        for difference in part.differences:
            screen.warn(f"{part.folder.parent.name}: {difference}")


@contextmanager
def _bars() -> Iterator[Callable[[str], Bytes]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen.err, transient=True) as shown:

        def bar(part: str) -> Bytes:
            task: TaskID = shown.add_task(part, total=None)
            return lambda done, total: shown.update(task, completed=done, total=total)

        yield bar
