"""Installing from the terminal: what is meant, consent, bars."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.prompt import Confirm

from medsegagent.cards.library import Library
from medsegagent.cli import screen
from medsegagent.engines.installed import find_installed
from medsegagent.errors import AnswerNeededError, NoMatchError, NoModelError, UsageError
from medsegagent.matching.instruction import match_instruction
from medsegagent.models.catalogue import Offer, find, of_card
from medsegagent.models.download import Progress as Bytes
from medsegagent.models.install import Installation, InstalledFolder, install, parts_for
from medsegagent.models.own_store import ModelHome, default_home
from medsegagent.planning.downloads import wanted

Consent = Literal["never", "ask", "yes"]
"""Whether a lacking model may be installed."""


def offers_for(
    library: Library,
    models: Sequence[str],
    card: str | None,
    instruction: str | None,
    modality: str | None,
    max_models: int,
    archive: Path | None,
) -> tuple[Offer, ...]:
    """The models that the command line means, by id, by card, or by instruction.

    Raises:
        UsageError: If nothing, or too much, is named.
        NoMatchError: If the instruction matches nothing.
    """
    if sum(map(bool, (models, card, instruction))) != 1:
        raise UsageError("name what to install", "Give ids, or --card NAME, or --for INSTRUCTION.", "models install")
    if instruction:
        offers = _for_instruction(library, instruction, modality, max_models)
    else:
        offers = tuple(find(library, model) for model in models) if models else of_card(library, str(card))[:1]
    if archive and len(offers) != 1:
        raise UsageError("an archive holds one model", "Give one id with --from.", "archive")
    return offers


def _for_instruction(library: Library, instruction: str, modality: str | None, max_models: int) -> tuple[Offer, ...]:

    selection = match_instruction(instruction, library, modality)
    if not selection.cards:
        raise NoMatchError(
            selection.refusal or "nothing matches", "`medsegagent targets` lists what there is.", "instruction"
        )
    installed = find_installed(library).labels
    offers = wanted(selection, library, installed=installed, per_target=max_models)
    if not offers:
        state = "all that it needs is installed" if installed else "no model for it can be downloaded"
        screen.err.print(f"{state}: {', '.join(card.card for card in selection.cards)}", markup=False)
    return offers


def confirm(offers: Sequence[Offer], *, yes: bool) -> None:
    """Show what would be installed, with licences, and ask.

    Raises:
        AnswerNeededError: If nobody can be asked, or the answer is no.
    """
    show_wanted(offers)
    if yes or not offers:
        return
    if not sys.stdin.isatty():
        raise AnswerNeededError("installing needs your consent", "Add --yes to install what is listed above.")
    if not Confirm.ask("Install?", console=screen.err):
        raise AnswerNeededError("nothing was installed", "Name another model, or add --yes.")


def show_wanted(offers: Iterable[Offer]) -> None:
    """What would be installed, with licences."""
    for offer in offers:
        count = len(parts_for(offer.card, offer.entry, offer.labels))
        parts = f", {count} of {len(offer.entry.parts)} parts" if len(offer.entry.parts) > 1 else ""
        reason = f" ({offer.reason})" if offer.reason else ""
        line = f"{offer.entry.id}{parts}; licence: {offer.licence}{reason}"
        screen.err.print(line, markup=False, soft_wrap=True)


def install_lacking(error: NoModelError, library: Library, consent: Consent) -> bool:
    """Offer what a run lacks, and install it.

    Args:
        error: Says what that is.
        library: Where its cards are.
        consent: "ask" asks.

    Returns:
        Whether something was installed.

    Raises:
        MedSegAgentError: If installing failed.
    """
    if not error.lacking or consent == "never":
        return False
    offers = [replace(find(library, model), labels=labels, reason=reason) for model, labels, reason in error.lacking]
    screen.err.print(f"{error.what}. These can be installed:", markup=False, soft_wrap=True)
    show_wanted(offers)
    if consent == "ask" and not Confirm.ask("Install?", console=screen.err):
        return False
    install_all(offers, Installation(default_home(), mirror=os.environ.get("MEDSEGAGENT_MIRROR", "")))
    return True


def install_all(offers: Iterable[Offer], how: Installation) -> None:
    """Install with bars on stderr, and tell what differs from the cards."""
    for offer in offers:
        with _bars() as bar:
            told = replace(how, progress=bar, notice=lambda text: screen.err.print(text, markup=False, soft_wrap=True))
            done = install(offer.card, offer.entry, told, offer.labels)
        _tell(offer, done)


def install_promptable(home: ModelHome, source: str, *, accepted: bool) -> None:
    """Install the weights of nnInteractive; the licence is shown, and asked for where somebody can be asked.

    Raises:
        AnswerNeededError: If it is not accepted.
    """
    from medsegagent.prompting.weights import LICENCE, MODEL, SHA256, SOURCE, install_nninteractive

    for line in (f"from {source or SOURCE}", f"sha256 {SHA256}", f"licence {LICENCE}: no commercial use"):
        screen.err.print(line, markup=False, highlight=False, soft_wrap=True)
    if not accepted and sys.stdin.isatty():
        accepted = Confirm.ask("Does this licence allow your use?", console=screen.err, default=False)
    with _bars() as bar:
        folder, new = install_nninteractive(home, accepted=accepted, source=source, progress=bar)
    state = "installed" if new else "already there"
    screen.out.print(f"{MODEL}: {state}, {folder}", markup=False, soft_wrap=True)


def _tell(offer: Offer, done: Iterable[InstalledFolder]) -> None:
    for part in done:
        state = "installed" if part.new else "already there"
        screen.out.print(f"{offer.entry.id}: {state}, {part.folder}", markup=False, soft_wrap=True)
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
            task = shown.add_task(part, total=None)
            return lambda done, total: shown.update(task, completed=done, total=total)

        yield bar
