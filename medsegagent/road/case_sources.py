"""Several cases: a folder of images, or a table of them. Both come from outside, so nothing in them is trusted."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsegagent.errors import CaseListError, UsageError
from medsegagent.images.channels import channel_of_file
from medsegagent.images.read import READERS, extension
from medsegagent.reporting.case_table import CASES
from medsegagent.reporting.record import RECORD
from medsegagent.untrusted import parse_json, read_regular, reason

_LARGEST = 32 * 2**20
_LONGEST_NAME = 200
"""Bytes; file systems take 255."""
_FORBIDDEN = frozenset('/\\:*?"<>|')
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", CASES, *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))]
)
_CHANNEL = "image:"
_COLUMNS = ("case", "image", "instruction")
_FIRST = "_0000"
"""nnU-Net's suffix of the first channel's file."""


@dataclass(frozen=True)
class ListedCase:
    """One case of several: `name` is its folder below the output folder, `images` are channel name -> file."""

    name: str
    images: Mapping[str, Path]
    instruction: str


def read_cases(source: Path, instruction: str = "") -> tuple[ListedCase, ...]:
    """Read which cases there are.

    Args:
        source: A folder in which each image file, and each folder (a DICOM series, one image, or channels that their
            file names tell apart), is a case; or a table: `.csv` with a header, or `.jsonl` with one object per line.
            Columns: `case`; `image`, or `image:NAME` for each channel; `instruction`, where it is not the common one.
            Paths are relative to the table.
        instruction: For the cases that have none of their own.

    Returns:
        In the table's order, or by name; at least one. Names are safe as folder names and unique, even where case does
        not count. Images need not exist.

    Raises:
        CaseListError: If the source cannot be read as such.
        UsageError: If it is neither.
    """
    if source.is_dir():
        cases = [ListedCase(name, images, instruction) for name, images in _in_folder(source)]
    elif source.suffix.lower() in _TABLES:
        rows = _TABLES[source.suffix.lower()](_text(source), source)
        cases = [_case(row, instruction, source, f"row {number}") for number, row in rows]
    else:
        what = f"{source} is neither a folder nor a .csv or .jsonl file"
        raise UsageError(what, "Give one of these; a single image goes with -i.", "cases")
    if not cases:
        raise CaseListError("there is no case in it", "Give image files, folders of them, or a table.", str(source))
    for case in cases:
        _check_name(case.name, source)
        if not case.instruction:
            what = f"case {case.name!r} has no instruction"
            raise CaseListError(what, "Give one for all cases, or one in its row.", str(source))
    twice = [name for name, count in Counter(case.name.casefold() for case in cases).items() if count > 1]
    if twice:
        raise CaseListError(f"{twice[0]!r} names more than one case", "Give each its own name.", str(source))
    return tuple(cases)


def _check_name(name: str, source: Path) -> None:
    """Refuse what could leave the output folder, hide, or be no folder name on some system."""
    bad = next((char for char in name if char in _FORBIDDEN or unicodedata.category(char)[0] == "C"), None)
    if bad is not None:
        why = f"holds {bad!r}"
    elif not (name[:1].isalnum() or name[:1] == "_"):
        why = "does not begin with a letter, a digit or _"
    elif name[-1] in ". ":
        why = "ends with a dot or a space"
    elif len(name.encode()) > _LONGEST_NAME:
        why = f"is longer than {_LONGEST_NAME} bytes"
    elif name.casefold() in _RESERVED or name.casefold().partition(".")[0] in _RESERVED:
        why = "is reserved"
    else:
        return
    shown = name if len(name) <= 60 else f"{name[:60]}…"
    raise CaseListError(f"{shown!r} cannot name a case: it {why}", "Name it by letters, digits, - and _.", str(source))


def _text(table: Path) -> str:
    try:
        return read_regular(table, _LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CaseListError("the table is not UTF-8 text", "Save it as UTF-8.", str(table)) from error
    except (OSError, ValueError) as error:
        what = f"the table cannot be read ({reason(error)})"
        raise CaseListError(what, "Check the path given with --cases.", str(table)) from error


def _csv_rows(text: str, table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows as spreadsheets save them: separated by commas, semicolons or tabs, with empty columns and rows around."""
    first = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=first.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
        header: list[str] | None = None
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [_column(name) for name in cells]
                named = [name for name in header if name]
                if len(set(named)) < len(named):
                    raise CaseListError("two columns have the same name", "Give each its own.", str(table))
                continue
            cells += [""] * (len(header) - len(cells))
            if any(cell.strip() for cell in cells[len(header) :]):
                raise _bad_row(
                    table,
                    f"row {reader.line_num}",
                    "it has more cells than the header",
                    "Put quotes around cells with commas.",
                )
            pairs = list(zip(header, cells, strict=False))
            if any(cell.strip() for name, cell in pairs if not name):
                raise _bad_row(
                    table, f"row {reader.line_num}", "it has text in a column without a name", "Name the column."
                )
            yield reader.line_num, {name: cell for name, cell in pairs if name}
    except csv.Error as error:
        raise CaseListError(
            f"the table is not CSV ({error})", "Save it as comma-separated text.", str(table)
        ) from error


def _column(name: str) -> str:
    """A column's name: `case`, `image`, `instruction` and what stands before a channel in any spelling."""
    name = name.strip()
    kind, colon, channel = name.partition(":")
    return f"{kind.strip().casefold()}{colon}{channel.strip()}" if kind.strip().casefold() in _COLUMNS else name


def _json_rows(text: str, table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise _bad_row(table, f"row {number}", "it is not JSON", "Write one JSON object on each line.") from error
        if not isinstance(row, dict):
            raise _bad_row(table, f"row {number}", "it is not an object", "Write one JSON object on each line.")
        row = {_column(name): value for name, value in row.items()}
        if isinstance(channels := row.get("image"), dict):
            del row["image"]
            row |= {f"{_CHANNEL}{name}": file for name, file in channels.items()}
        yield number, row


_TABLES = {".csv": _csv_rows, ".jsonl": _json_rows}


def _case(row: Mapping[str, Any], instruction: str, table: Path, where: str) -> ListedCase:
    for column, cell in row.items():
        if column not in _COLUMNS and not column.startswith(_CHANNEL):
            reason = f"{column!r} is no column known here; case, image, image:NAME and instruction are"
            raise _bad_row(table, where, reason)
        if not isinstance(cell, str) or "\0" in cell:
            raise _bad_row(table, where, f"{column!r} is not text", "Put its value in quotes.")
    cells = {column: cell.strip() for column, cell in row.items() if cell.strip()}
    images = {
        column.removeprefix(_CHANNEL) if column.startswith(_CHANNEL) else "": table.absolute().parent / cell
        for column, cell in cells.items()
        if column == "image" or column.startswith(_CHANNEL)
    }
    if not cells.get("case"):
        raise _bad_row(table, where, "it names no case", "Fill in its column case.")
    if not images:
        raise _bad_row(
            table, where, "it names no image", "Fill in its column image, or one image:NAME for each channel."
        )
    if "" in images and len(images) > 1:
        raise _bad_row(table, where, "it has an image without a channel beside others", "Use image, or image:NAME.")
    name = unicodedata.normalize("NFC", cells["case"])
    return ListedCase(name, images, cells.get("instruction", instruction))


def _bad_row(
    table: Path, where: str, reason: str, remedy: str = "Columns: case, image (or image:NAME), instruction."
) -> CaseListError:
    return CaseListError(f"{where} cannot be used: {reason}", remedy, str(table))


def _in_folder(folder: Path) -> Iterator[tuple[str, dict[str, Path]]]:
    """Yield name and images of each case; what is no image, and runs of ours, are passed over."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    for entry in entries:
        if entry.is_dir():
            if not any((entry / name).exists() for name in (RECORD, CASES)):
                yield _name_of(entry.name), _channels(entry, folder)
        elif (suffix := extension(entry)) == ".dcm":
            raise CaseListError("it is a DICOM series itself", "One case goes with -i.", str(folder))
        elif suffix in READERS or suffix == ".zip":
            yield _name_of(_stem(entry, entries)), {"": entry}


def _name_of(file: str) -> str:
    """A case's name by its file's: bytes that are no character, which one file alone may have, become `_`."""
    return unicodedata.normalize("NFC", re.sub("[\ud800-\udfff]", "_", file))


def _stem(file: Path, files: list[Path]) -> str:
    """The file's name without its extension, and without nnU-Net's channel number if there is one channel."""
    name = file.name[: -len(extension(file))]
    base = name[: -len(_FIRST)]
    if (
        name[-5:-4] == "_"
        and name[-4:].isdecimal()
        and (name.endswith(_FIRST) or file.with_name(f"{base}{_FIRST}{extension(file)}") in files)
    ):
        if not name.endswith(_FIRST) or file.with_name(f"{base}_0001{extension(file)}") in files:
            what = f"{base!r} has several channels, and their names do not say which"
            raise CaseListError(what, "Give a table with a column image:NAME for each.", str(file.parent))
        return base
    return name


def _channels(folder: Path, source: Path) -> dict[str, Path]:
    """The images of a patient's folder; of DICOM the folder itself."""
    files = sorted(file for file in folder.iterdir() if extension(file) in READERS and not file.name.startswith("."))
    if not files:
        return {"": folder}
    if len(files) == 1:
        return {"": files[0]}
    images = {channel_of_file(file): file for file in files}
    if "" in images or len(images) < len(files):
        what = f"the names of the images in {folder.name!r} do not say which channel each is"
        raise CaseListError(what, "Give a table with a column image:NAME for each.", str(source))
    return images
