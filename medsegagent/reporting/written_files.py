"""The files that a run wrote, as `run.json` lists them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from medsegagent.files import write_json
from medsegagent.reporting.staging import RECORD, files_below, is_safe
from medsegagent.untrusted import read_json_object, read_regular

_WRITTEN = (
    *(RECORD, "transcript.jsonl", "report.html", "preview.png", "statistics.json", "statistics.csv"),
    *("segmentation.nii.gz", "segmentation.json", "segmentation_itksnap.txt", "segmentation.seg.nrrd"),
    *("segmentation_seg.dcm", "segmentation_rtstruct.dcm", "meshes/*.stl", "meshes/*.obj"),
    *("targets/*.nii.gz", "agreement/*.nii.gz", "predictions/*/*.nii.gz"),
)
"""What a run has always written: the files of one whose record has no list of them."""

_RECORD_LIMIT = 64 * 2**20


def files_of_run(folder: Path) -> list[str]:
    """What the run in a folder wrote and is still there, relative: as its record lists, else what runs always wrote."""
    try:
        listed = read_json_object(folder / RECORD, _RECORD_LIMIT).get("files")
    except (OSError, ValueError):
        listed = None
    if isinstance(listed, list):
        names = {name for name in listed if is_safe(folder, name)} | {RECORD}
    else:
        found = (path.relative_to(folder).as_posix() for pattern in _WRITTEN for path in folder.glob(pattern))
        names = {name for name in found if is_safe(folder, name)}
    return sorted(name for name in names if os.path.lexists(folder / name) and not (folder / name).is_dir())


def add_file(folder: Path, name: str, content: bytes) -> bool:
    """Add a file to a run that is there; False if something else of that name is.

    Raises:
        OSError: If it cannot be written.
    """
    file = folder / name
    if os.path.lexists(file) and name not in files_of_run(folder):
        return False
    new = folder / f".{name}.{os.getpid()}"
    new.write_bytes(content)
    new.replace(file)
    list_files(folder, [*files_of_run(folder), name])
    return True


def list_files(folder: Path, names: Sequence[str] | None = None) -> None:
    """Put the list of a run's files into its record, by default all there are; a folder without one has no list."""
    record = folder / RECORD
    try:
        content = read_json_object(record, _RECORD_LIMIT)
    except (OSError, ValueError):
        return
    new = folder / f".{RECORD}.{os.getpid()}"
    write_json(new, content | {"files": sorted(set(files_below(folder) if names is None else names))})
    new.replace(record)


def record_of(folder: Path) -> bytes:
    """The record as it stands; empty if it is no regular file."""
    try:
        return read_regular(folder / RECORD, _RECORD_LIMIT)
    except ValueError:
        return b""
