"""Versions of masks: a correction never overwrites. `masks.json` in the run folder says who made what from what."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medsegagent.errors import OutputError, UsageError
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid
from medsegagent.images.write import write_mask
from medsegagent.prompting.prompts import Prompt, Seed, describe

HISTORY = "masks.json"
_LARGEST = 64 << 20


class Version(BaseModel):
    """One mask of a structure.

    Attributes:
        version: Its number, from 1.
        parent: The version it was made from; None for what the models gave.
        who: Who made it: the models that voted, or a policy and a promptable model with its licence.
        why: In the policy's words, one line per turn.
        prompts: What was given, in few words each; all of it is in the episode.
        voxels: How many are in.
        volume_ml: How much that is.
        file: The mask, relative to the run folder.
        episode: The episode, relative to the run folder; empty for what the models gave.
        created: When.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(ge=1)
    parent: int | None
    who: str
    why: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    voxels: int
    volume_ml: float
    file: str = Field(pattern=r"^masks/[\w.-]+\.nii\.gz$")
    episode: str = Field(default="", pattern=r"^(episodes/[\w.-]+\.jsonl)?$")
    created: str


class Versions(BaseModel):
    """All masks of a structure, and which of them counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chosen: int
    versions: tuple[Version, ...]

    @property
    def current(self) -> Version:
        """The one that counts."""
        return self.get(self.chosen)

    def get(self, number: int) -> Version:
        """Find a version.

        Raises:
            UsageError: If there is none of that number.
        """
        for version in self.versions:
            if version.version == number:
                return version
        known = ", ".join(str(version.version) for version in self.versions)
        raise UsageError(f"there is no version {number}", f"There are {known}.", "--choose")


class History(BaseModel):
    """`masks.json`: the versions by structure id; structures that were never corrected are not in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    structures: dict[str, Versions] = {}

    def with_version(self, structure: str, version: Version) -> History:
        """Add a version and choose it."""
        known = self.structures.get(structure)
        versions = Versions(chosen=version.version, versions=(*(known.versions if known else ()), version))
        return self.model_copy(update={"structures": {**self.structures, structure: versions}})

    def choosing(self, structure: str, number: int) -> History:
        """Choose a version.

        Raises:
            UsageError: If there is no such structure or version.
        """
        known = self.of(structure)
        chosen = known.model_copy(update={"chosen": known.get(number).version})
        return self.model_copy(update={"structures": {**self.structures, structure: chosen}})

    def of(self, structure: str) -> Versions:
        """The versions of a structure.

        Raises:
            UsageError: If it was never corrected.
        """
        if structure not in self.structures:
            raise UsageError(f"{structure} was never corrected, so there is no other version", "", structure)
        return self.structures[structure]

    def next_number(self, structure: str) -> int:
        """The number of the next version."""
        known = self.structures.get(structure)
        return max((version.version for version in known.versions), default=0) + 1 if known else 1


def read_history(folder: Path) -> History:
    """Read a run folder's `masks.json`; empty if there is none.

    Raises:
        OutputError: If it is damaged.
    """
    file = folder / HISTORY
    if not file.is_file():
        return History()
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        return History.model_validate_json(file.read_bytes())
    except (OSError, ValueError, ValidationError) as error:
        what = f"{HISTORY} is damaged ({' '.join(str(error).split())[:150]})"
        raise OutputError(what, "Restore it; the masks themselves are in masks/.", str(file)) from error


def write_history(history: History, folder: Path) -> None:
    """Write `masks.json` in one step: the old one stays until the new one is whole."""
    temporary = folder / f".{HISTORY}.{secrets.token_hex(4)}"
    temporary.write_text(history.model_dump_json(indent=2) + "\n", "utf-8")
    os.replace(temporary, folder / HISTORY)


def store(
    folder: Path,
    history: History,
    structure: str,
    mask: Boxed[np.bool_],
    grid: Grid,
    *,
    who: str,
    parent: int | None,
    prompts: tuple[Prompt, ...] = (),
    why: tuple[str, ...] = (),
    episode: str = "",
) -> History:
    """Write a mask as the next version of a structure and choose it; `masks.json` is the caller's to write."""
    number = history.next_number(structure)
    file = f"masks/{structure}.{number}.nii.gz"
    (folder / "masks").mkdir(exist_ok=True)
    temporary = folder / "masks" / f".{secrets.token_hex(4)}.nii.gz"
    write_mask(mask.dense(), grid, temporary)
    os.replace(temporary, folder / file)
    version = Version(
        version=number,
        parent=parent,
        who=who,
        why=why,
        prompts=tuple(describe(prompt) for prompt in prompts if not isinstance(prompt, Seed)),
        voxels=mask.count,
        volume_ml=round(mask.count * grid.voxel_ml, 4),
        file=file,
        episode=episode,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return history.with_version(structure, version)
