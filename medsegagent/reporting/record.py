"""`run.json`: one type for who writes it, the report, replay and resume."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medsegagent.errors import OutputError
from medsegagent.language.request import Request
from medsegagent.matching.selection import CardSelection
from medsegagent.planning.plan import Plan, Skipped
from medsegagent.reporting.staging import RECORD as RECORD
from medsegagent.untrusted import read_json_object

SCHEMA_VERSION = 2
"""Raised with each change that an older reader would misread. 1: records without a version."""

_LARGEST = 64 * 2**20


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer record's further fields are no fault


class StructureResult(_Part):
    """One fused structure in figures."""

    id: str
    name: str
    volume_ml: float
    voxels: int
    voters: tuple[str, ...]
    """Whose votes count."""
    outliers: tuple[str, ...] = ()
    """Who disagrees far beyond the others; among the voters only if the user wants it."""
    agreement: float | None
    """Mean pairwise Dice between the voters; None with fewer than two."""

    @model_validator(mode="before")
    @classmethod
    def _no_nan(cls, fields: Any) -> Any:
        if isinstance(fields, Mapping) and isinstance(value := fields.get("agreement"), float) and math.isnan(value):
            return {**fields, "agreement": None}
        return fields

    @property
    def summary(self) -> str:
        """Volume and voters."""
        return f"{self.name} {self.volume_ml:.1f} mL by {len(self.voters)} model(s)"


class InputRecord(_Part):
    """One image."""

    channel: str
    file: str
    """Its name without the folder."""
    sha256: str
    size: tuple[int, int, int]
    """Voxels along x, y, z."""
    spacing_mm: tuple[float, float, float]
    modality: str | None
    modality_reason: str


class Asked(_Part):
    """All that decides a run's result besides the images and the models installed: equal ones give the same."""

    instruction: str
    modality: str | None = None
    library: str | None = None
    """What the user called the cards; a folder in full; None if they were given as an object."""
    vocabulary: str = ""
    """Digest, where a site added terms of its own."""
    mind: str = "rules"
    language_model: str | None = None
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_version_1(cls, fields: Any) -> Any:
        """Nested `choice` and `effort` become the flat options of today."""
        if not isinstance(fields, Mapping) or not isinstance(options := fields.get("options"), Mapping):
            return fields
        flat = dict(options)
        choice, effort = flat.pop("choice", None), flat.pop("effort", None)
        if isinstance(choice, Mapping):
            flat |= {_RENAMED.get(name, name): value for name, value in choice.items()}
        if isinstance(effort, Mapping):
            flat |= effort
        flat.pop("force", None)
        return {**fields, "options": flat}


_RENAMED = {"per_target": "max_models"}


class RunRecord(_Part):
    """What ran, on what, what did not, and why."""

    schema_version: int = SCHEMA_VERSION
    created: str
    """UTC, ISO 8601."""
    versions: dict[str, str]
    """Package -> version."""
    asked: Asked
    inputs: tuple[InputRecord, ...]
    request: Request
    selection: tuple[CardSelection, ...]
    plan: Plan
    structures: tuple[StructureResult, ...]
    failed: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    seconds: dict[str, float]
    """Stage -> wall time."""
    mind: dict[str, Any] = Field(default_factory=dict)
    """Who thought, and what that cost."""
    corrections: tuple[dict[str, Any], ...] = ()
    """The version that counts of each corrected structure: its id, who, from what, by which prompts."""
    promptable: str = ""
    """The promptable model of the Refiner, with the licence of its weights; empty if it had no seat."""
    files: tuple[str, ...] = ()
    """What the run wrote, relative to its folder, with forward slashes: what `--overwrite` may replace."""
    research_use: str = "Research software, not a medical device."

    @model_validator(mode="before")
    @classmethod
    def _from_version_1(cls, fields: Any) -> Any:
        if isinstance(fields, Mapping) and "schema_version" not in fields:
            known, asked = {"instruction": "", "library": fields.get("library")}, fields.get("asked", {})
            merged = known | dict(asked) if isinstance(asked, Mapping) else asked
            return {**fields, "schema_version": 1, "asked": merged}
        return fields


def read_record(folder: Path) -> RunRecord:
    """Read a run folder's record, of this version or an older one.

    Raises:
        OutputError: If there is none, or it is none of ours.
    """
    file = folder / RECORD
    try:
        return RunRecord.model_validate(read_json_object(file, _LARGEST))
    except FileNotFoundError as error:
        raise OutputError("there is no finished run", "Give the folder of one.", str(folder)) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        what = f"no record of a run ({'.'.join(map(str, first['loc']))}: {first['msg']})"
        raise OutputError(what, "Give the folder of a finished run.", str(file)) from error
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot be read ({error})", "Give the folder of a finished run.", str(file)) from error
