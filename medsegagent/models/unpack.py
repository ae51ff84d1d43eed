"""Take one trained model out of an archive or a folder, and nothing else.

Archives are untrusted: one that holds a path out of itself, a link, or far more than its size suggests is refused as
a whole. Of a good one only a model's own files are written: its JSON files and the checkpoints asked for.
"""

from __future__ import annotations

import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from medsegagent.cards.card import Fold, NnunetPart
from medsegagent.errors import ModelError, OutputError
from medsegagent.models.download import require_space
from medsegagent.models.folder import JSON_LIMIT
from medsegagent.untrusted import open_regular

MEMBER_LIMIT = 20_000
UNPACKED_LIMIT = 64 * 2**30
RATIO_LIMIT = 100
"""Checkpoints hardly shrink when zipped; a bomb does."""
_RATIO_MATTERS = 64 * 2**20

_CHUNK = 2**20
_JSON_FILES = ("dataset.json", "plans.json", "dataset_fingerprint.json")
_NEEDED = ("dataset.json", "plans.json")
_GET_ANOTHER = "Do not use this archive; get it from its publisher."
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error)
"""What Python's readers raise at an archive that is damaged, encrypted, or of a kind they do not know."""


@dataclass(frozen=True)
class Member:
    """One file inside an archive or folder. `size` is in bytes."""

    size: int
    open: Callable[[], IO[bytes]]


Tree = Mapping[PurePosixPath, Member]


@dataclass(frozen=True)
class Unpacked:
    """What was taken out.

    Attributes:
        original: `DATASET/TRAINER__PLANS__CONFIGURATION` as far as the source has it; "." for its top.
        folds: Folds taken.
        missing: Folds asked for that the source lacks.
    """

    original: str
    folds: tuple[Fold, ...]
    missing: tuple[Fold, ...]


@contextmanager
def open_source(source: Path) -> Iterator[Tree]:
    """The files of a zip archive or a folder, checked.

    Raises:
        ModelError: If there is no such thing, it is no zip archive, or it is not safe to unpack.
    """
    if source.is_dir():
        yield _folder_tree(source)
        return
    with ExitStack() as opened:
        try:
            archive = opened.enter_context(zipfile.ZipFile(opened.enter_context(open_regular(source))))
            tree = _zip_tree(archive, source)
        except FileNotFoundError as error:
            raise ModelError("there is no such file or folder", "Check the path.", str(source)) from error
        except _DAMAGE as error:
            what = f"not a zip archive that can be read ({error})"
            raise ModelError(what, "Download it again, or unpack it and give the folder.", str(source)) from error
        yield tree


def holds(tree: Tree, part: NnunetPart) -> bool:
    """Whether a source has the very folder that the card names for this part."""
    return any(folder.parts[-2:] == PurePosixPath(part.folder).parts for folder in _model_folders(tree))


def take_model(tree: Tree, part: NnunetPart, into: Path, where: str) -> Unpacked:
    """Write the files of the model that `part` describes to a folder.

    Args:
        tree: From `open_source`.
        part: Which model; where the source holds several, its folder name or configuration tells which.
        into: The new model folder, `.../DATASET/TRAINER__PLANS__CONFIGURATION`.
        where: The source, for errors.

    Raises:
        ModelError: If the model is not in there, is ambiguous, incomplete or damaged.
        OutputError: If the disk is full.
    """
    folder = _choose(_model_folders(tree), part, where)
    checkpoints = _checkpoints(tree, folder)
    offered = {fold: files for fold, files in checkpoints.items() if part.checkpoint in files}
    if not offered:
        found = ", ".join(sorted({name for names in checkpoints.values() for name in names}))
        raise ModelError(f"no fold holds {part.checkpoint} (found: {found})", _GET_ANOTHER, where)
    folds = tuple(fold for fold in part.folds or offered if fold in offered)
    if not folds:
        has = ", ".join(map(str, offered))
        raise ModelError(f"fold {', '.join(map(str, part.folds))} is wanted, it has {has}", _GET_ANOTHER, where)
    files = [PurePosixPath(name) for name in _JSON_FILES if folder / name in tree]
    files += [PurePosixPath(f"fold_{fold}", part.checkpoint) for fold in folds]
    if large := [name for name in _NEEDED if tree[folder / name].size > JSON_LIMIT]:
        what = f"its {large[0]} has more than {JSON_LIMIT >> 20} MiB"
        raise ModelError(what, _GET_ANOTHER, where)
    into.mkdir(parents=True, exist_ok=True)
    require_space(into, sum(tree[folder / file].size for file in files), "unpack it")
    for file in files:
        _copy(tree[folder / file], into / file, where)
    return Unpacked(str(folder), folds, tuple(fold for fold in part.folds if fold not in offered))


def _model_folders(tree: Tree) -> list[PurePosixPath]:
    """Folders that look like a trained model: both JSON files and at least one checkpoint."""
    folders = {path.parent for path in tree if path.name == "plans.json"}
    complete = [folder for folder in folders if all(folder / name in tree for name in _NEEDED)]
    return sorted(folder for folder in complete if _checkpoints(tree, folder))


def _checkpoints(tree: Tree, folder: PurePosixPath) -> dict[Fold, list[str]]:
    """Fold -> names of its checkpoints, numbered folds first."""
    found: dict[Fold, list[str]] = {}
    for path in sorted(tree):
        fold = re.fullmatch(r"fold_(\d{1,3}|all)", path.parent.name)
        if fold and path.parent.parent == folder and path.suffix == ".pth":
            found.setdefault("all" if fold[1] == "all" else int(fold[1]), []).append(path.name)
    return dict(sorted(found.items(), key=lambda item: (item[0] == "all", str(item[0]).zfill(3))))


def _choose(folders: list[PurePosixPath], part: NnunetPart, where: str) -> PurePosixPath:
    wanted = PurePosixPath(part.folder)
    tests: list[Callable[[PurePosixPath], bool]] = [
        lambda folder: folder.parts[-2:] == wanted.parts,
        lambda folder: folder.name == wanted.name,
        lambda folder: folder.name.split("__")[-1] == part.configuration,
        lambda folder: True,
    ]
    for test in tests:
        fitting = [folder for folder in folders if test(folder)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            listed = ", ".join(map(str, fitting))
            raise ModelError(f"holds several models ({listed})", "Give the folder of the one that is meant.", where)
    what = "holds no trained nnU-Net (a folder with dataset.json, plans.json and fold_N/checkpoint)"
    raise ModelError(what, "Check that it is the right archive.", where)


def _copy(member: Member, file: Path, where: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    left = member.size
    try:
        with file.open("wb") as target:
            for chunk in _chunks(member, file.name, where):
                left -= len(chunk)
                if left < 0:
                    raise ModelError(f"{file.name} is longer than the archive says", _GET_ANOTHER, where)
                target.write(chunk)
    except OSError as error:
        what = f"cannot write {file.name} ({error.strerror or error})"
        raise OutputError(what, "Make room and run the command again.", str(file.parent)) from error
    if left:
        raise ModelError(f"{file.name} is shorter than the archive says", _GET_ANOTHER, where)


def _chunks(member: Member, name: str, where: str) -> Iterator[bytes]:
    """A member's content. What goes wrong here is the archive's fault, not that of the disk that is written."""
    try:
        with member.open() as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    except (*_DAMAGE, MemoryError) as error:  # LZMA may ask for a dictionary of 4 GiB
        what = f"{name} in it cannot be read ({str(error) or type(error).__name__})"
        raise ModelError(what, "Download it again, or unpack it and give the folder.", where) from error


def _zip_tree(archive: zipfile.ZipFile, source: Path) -> Tree:
    infos = archive.infolist()
    if len(infos) > MEMBER_LIMIT:
        raise ModelError(f"holds {len(infos)} files", _GET_ANOTHER, str(source))
    for info in infos:
        if info.file_size > max(_RATIO_MATTERS, RATIO_LIMIT * info.compress_size):
            what = f"{info.orig_filename[-80:]!r} would unpack to {info.file_size >> 20} MiB, far more than it holds"
            raise ModelError(what, _GET_ANOTHER, str(source))
    total = sum(info.file_size for info in infos)
    if total > UNPACKED_LIMIT or total > max(_RATIO_MATTERS, RATIO_LIMIT * source.stat().st_size):
        raise ModelError(f"would unpack to {total >> 20} MiB, far more than it holds", _GET_ANOTHER, str(source))
    tree: dict[PurePosixPath, Member] = {}
    seen: set[str] = set()
    for info in infos:
        path = _safe_path(info, source)
        if info.is_dir():
            continue
        if str(path).casefold() in seen:
            raise ModelError(f"holds {path} twice", _GET_ANOTHER, str(source))
        seen.add(str(path).casefold())
        tree[path] = Member(info.file_size, _opener(archive, info))
    return tree


def _opener(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(info)


def _safe_path(info: zipfile.ZipInfo, source: Path) -> PurePosixPath:
    # `orig_filename` is the name as stored: zipfile cuts `filename` at a NUL and turns backslashes on Windows.
    name = info.orig_filename
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or re.match(r"^[A-Za-z]:|^$", name) or set("\\\0") & set(name):
        raise ModelError(f"holds the path {name!r}, which leads out of it", _GET_ANOTHER, str(source))
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ModelError(f"holds a link or device ({name!r})", _GET_ANOTHER, str(source))
    if info.flag_bits & 1:
        raise ModelError("is encrypted", "Unpack it and give the folder.", str(source))
    return path


def _folder_tree(source: Path) -> Tree:
    """Files below a folder. A link is followed to a file in the folder, and refused where it leads out."""
    top = source.resolve()
    tree: dict[PurePosixPath, Member] = {}
    for current, _, names in os.walk(source):
        for name in names:
            file = Path(current, name)
            relative = PurePosixPath(file.relative_to(source).as_posix())
            if relative.name not in _JSON_FILES and relative.suffix != ".pth":
                continue
            size = _own_size(file, top, source)
            tree[relative] = Member(size, lambda file=file: open_regular(file))  # type: ignore[misc]
            if len(tree) > MEMBER_LIMIT:
                raise ModelError("holds too many files", "Give the model's own folder.", str(source))
    return tree


def _own_size(file: Path, top: Path, source: Path) -> int:
    """Bytes of a regular file inside `top`."""
    name = file.relative_to(source)
    try:
        inside, status = file.resolve().is_relative_to(top), file.stat()
    except (OSError, RuntimeError) as error:  # a link to nowhere, or to itself
        raise ModelError(f"{name} cannot be read ({error})", "Copy the file there.", str(source)) from error
    if not inside:
        raise ModelError(f"{name} is a link that leads out of the folder", "Copy the file there.", str(source))
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"{name} is no regular file", "Give the model's own folder.", str(source))
    return status.st_size
