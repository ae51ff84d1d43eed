"""Install public models: fetch, check, unpack, and move into place in one step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

from medsegagent.cards.card import DatasetCard, NnunetEntry, NnunetPart, Source
from medsegagent.errors import AnswerNeededError, ModelError, NoModelError
from medsegagent.models.compare import differences
from medsegagent.models.download import Patience, Progress, download
from medsegagent.models.folder import read_trained_folder
from medsegagent.models.hashes import check_archive, pin, sha256_of, write_object
from medsegagent.models.own_store import ModelHome, folder_name
from medsegagent.models.unpack import Unpacked, holds, open_source, take_model

RECORD = "medsegagent.json"
"""Lies in each model folder that we installed: where it came from, and every file's checksum."""


@dataclass(frozen=True)
class Installation:
    """How to install.

    Attributes:
        home: The store.
        archive: A local archive or folder to take the model from, instead of its publisher's.
        mirror: A folder, or the address of one, that holds `MODEL/ARCHIVE` for each model, MODEL as in the store.
        licence_accepted: The user has a licence from the publisher, for models that are bound to one.
        progress: Given a part's name, makes what is told of the bytes as they come.
        notice: Told in a sentence what goes on.
        patience: How long to try a download.
    """

    home: ModelHome
    archive: Path | None = None
    mirror: str = ""
    licence_accepted: bool = False
    progress: Callable[[str], Progress] | None = None
    notice: Callable[[str], None] = field(default=lambda _: None)
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True)
class InstalledFolder:
    """One part that is in place.

    Attributes:
        folder: `.../DATASET/TRAINER__PLANS__CONFIGURATION`.
        new: False if it was there before.
        differences: Where its own files and its card disagree, for people.
    """

    folder: Path
    new: bool
    differences: tuple[str, ...] = ()


def parts_for(card: DatasetCard, entry: NnunetEntry, labels: Collection[str] | None) -> tuple[NnunetPart, ...]:
    """The parts of a model that give at least one of the card's labels; all of them for None."""
    if labels is None:
        return entry.parts
    return tuple(part for part in entry.parts if not set(labels).isdisjoint(part.labels or card.labels))


def install(
    card: DatasetCard, entry: NnunetEntry, how: Installation, labels: Collection[str] | None = None
) -> tuple[InstalledFolder, ...]:
    """Install a model, or the parts of it that give some labels; what is there already stays.

    Nothing of a part is seen by others before all of it is in place, and a failure leaves no part half installed.

    Raises:
        AnswerNeededError: If the model is bound to a licence that is not accepted.
        NoModelError: If it cannot be had: no direct download, refused, or cut off.
        ModelError: If what was got is not the model, damaged, or not safe.
        OutputError: If the disk is full or the store cannot be written.
    """
    parts = parts_for(card, entry, labels)
    require_licence(entry, how.licence_accepted)
    if how.archive and len(entry.parts) > 1:
        parts = _parts_in(how.archive, parts)
    with how.home.lock(entry.id, lambda: how.notice(f"Waiting for another process that installs {entry.id}.")):
        staging = how.home.staging_of(entry.id)
        shutil.rmtree(staging, ignore_errors=True)  # left over by a process that was killed
        try:
            return tuple(_install_part(card, entry, part, how, staging) for part in parts)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _parts_in(source: Path, parts: tuple[NnunetPart, ...]) -> tuple[NnunetPart, ...]:
    """Of a model in parts, those that a source has under their own names: one must not stand in for another."""
    with open_source(source) as tree:
        held = tuple(part for part in parts if holds(tree, part))
    if not held:
        what = f"holds none of the parts {', '.join(part.folder for part in parts)}"
        raise ModelError(what, "Give the publisher's own archive, or a folder of such.", str(source))
    return held


def require_licence(entry: NnunetEntry, accepted: bool) -> None:
    """Check that a model may be installed.

    Raises:
        AnswerNeededError: If it is bound to a licence that the user has not said to have.
    """
    bound = [part.source for part in entry.parts if part.source and part.source.licence_required]
    if bound and not accepted:
        what = f"the publisher gives {entry.id} only to holders of a licence ({bound[0].licence or 'unknown'})"
        remedy = "Get a licence number and the archive from the publisher; then use --accept-licence --from ARCHIVE."
        raise AnswerNeededError(what, remedy, bound[0].url)


def address(entry: NnunetEntry, source: Source, mirror: str = "") -> str:
    """Where to fetch an archive: the publisher's address, or the mirror's.

    Raises:
        NoModelError: If there is no address that gives the archive itself.
    """
    if not source.archive or (source.licence_required and not mirror):
        how = "against a licence" if source.licence_required else "from a page, not by a direct address"
        what = f"{entry.id} is given {how}"
        raise NoModelError(what, "Get the archive there and install it with --from ARCHIVE.", source.url)
    if not mirror:
        return source.url
    if urlsplit(mirror).scheme in ("http", "https"):
        return f"{mirror.rstrip('/')}/{quote(folder_name(entry.id), safe='+@')}/{quote(source.archive)}"
    return str(Path(mirror).expanduser() / folder_name(entry.id) / source.archive)


def _install_part(
    card: DatasetCard, entry: NnunetEntry, part: NnunetPart, how: Installation, staging: Path
) -> InstalledFolder:
    target = how.home.root_of(entry.id) / part.folder
    if target.is_dir():
        return InstalledFolder(target, new=False)
    staged = staging / part.folder
    if how.archive:
        digest = sha256_of(how.archive) if how.archive.is_file() else ""
        taken = _take(how.archive, part, staged)
    else:
        archive, digest = _fetch(entry, part, how)
        try:
            taken = _take(archive, part, staged)
        finally:
            if archive.is_relative_to(how.home.downloads):
                archive.unlink()
    found = (*_unexpected(part, taken), *differences(card, entry, part, read_trained_folder(staged), staged))
    record = {
        "model": entry.id,
        "card": card.name,
        "source": str(how.archive or (part.source and part.source.url) or ""),
        "archive_sha256": digest,
        "licence": part.source.licence if part.source else None,
        "installed": datetime.now(UTC).isoformat(timespec="seconds"),
        "differences": found,
        "files": {file.relative_to(staged).as_posix(): sha256_of(file) for file in _files(staged)},
    }
    write_object(staged / RECORD, record)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(staged, target)
    if part.source and not how.archive:
        pin(how.home, part.source.url, digest)
    return InstalledFolder(target, new=True, differences=found)


def _take(source: Path, part: NnunetPart, staged: Path) -> Unpacked:
    with open_source(source) as tree:
        return take_model(tree, part, staged, str(source))


def _fetch(entry: NnunetEntry, part: NnunetPart, how: Installation) -> tuple[Path, str]:
    """The archive on this disk, and its checksum."""
    source = part.source
    if source is None:
        raise NoModelError(f"{entry.id} names no source", "Give an archive or folder with --from.", part.folder)
    where = address(entry, source, how.mirror)
    if urlsplit(where).scheme not in ("http", "https"):
        return Path(where), check_archive(how.home, source.url, Path(where), source.sha256)
    # Named by model and part: two publishers, or two parts, may call their archives alike.
    archive = how.home.downloads / f"{folder_name(entry.id)}--{part.folder.replace('/', '--')}.zip"
    how.notice(f"Downloading {where}")
    download(
        where,
        archive,
        size=source.size,
        progress=how.progress(part.dataset_folder) if how.progress else None,
        patience=how.patience,
    )
    try:
        return archive, check_archive(how.home, source.url, archive, source.sha256)
    except Exception:
        archive.unlink(missing_ok=True)  # it would be wrong the next time too
        raise


def _unexpected(part: NnunetPart, taken: Unpacked) -> tuple[str, ...]:
    told = []
    if taken.original not in (".", part.folder) and not part.folder.endswith(f"/{taken.original}"):
        told.append(f"its folder is called {taken.original}, the card says {part.folder}")
    if taken.missing:
        told.append(f"fold {', '.join(map(str, taken.missing))} is not in it")
    return tuple(told)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
