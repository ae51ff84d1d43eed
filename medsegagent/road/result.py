"""What a segmentation gives: masks, figures, pictures. Files are written where a folder is named."""

# mypy: allow-untyped-calls
from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import UsageError
from medsegagent.fusion.segmentation import Segmentation, Structure
from medsegagent.images.volume import Grid
from medsegagent.matching.selection import Selection
from medsegagent.planning.plan import Plan
from medsegagent.reporting.preview import write_preview
from medsegagent.reporting.record import RunRecord, StructureResult
from medsegagent.reporting.run_folder import RunFolder
from medsegagent.road.report import write_run
from medsegagent.road.run import NO_USAGE, Finished
from medsegagent.wording import some

if TYPE_CHECKING:
    import nibabel
    import SimpleITK as sitk  # noqa: N813

_RAS_OF_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Mask:
    """One structure on the image's own grid.

    Attributes:
        figures: Volume, voters, agreement.
        grid: The image's grid.
    """

    figures: StructureResult
    grid: Grid
    _structure: Structure = field(repr=False)

    @property
    def array(self) -> NDArray[np.bool_]:
        """The mask, `(Z, Y, X)`; kept as a bounding box and spread over the volume at each access."""
        return self._structure.mask

    def to_sitk(self) -> sitk.Image:
        """As a SimpleITK image, uint8, with the image's spacing, origin and direction."""
        import SimpleITK as sitk  # noqa: N813

        image = sitk.GetImageFromArray(self.array.astype(np.uint8))
        image.SetSpacing(self.grid.spacing)
        image.SetOrigin(self.grid.origin)
        image.SetDirection(self.grid.direction)
        return image

    def to_nibabel(self) -> nibabel.Nifti1Image:
        """As a nibabel image, uint8, axes x, y, z, with the image's affine (RAS+)."""
        import nibabel

        affine = np.eye(4)
        axes = np.array(self.grid.direction).reshape(3, 3) * np.array(self.grid.spacing)
        affine[:3, :3] = _RAS_OF_LPS @ axes
        affine[:3, 3] = _RAS_OF_LPS @ np.array(self.grid.origin)
        return nibabel.Nifti1Image(self.array.astype(np.uint8).transpose(), affine)

    def __repr__(self) -> str:
        """Name, volume and voters."""
        return f"<Mask {self.figures.summary}>"


class _Arrays(Mapping[str, NDArray[np.bool_]]):
    """Structure -> array, decoded when it is looked at."""

    def __init__(self, masks: Mapping[str, Mask]) -> None:
        self._masks = masks

    def __getitem__(self, name: str) -> NDArray[np.bool_]:
        return self._masks[name].array

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __repr__(self) -> str:
        return f"<masks of {some(list(self._masks)) or 'nothing'}>"


@dataclass(frozen=True, repr=False)
class Result:
    """What a run gave. After a dry run there is only the selection and the plan.

    Attributes:
        selection: Which cards and labels answer.
        plan: Which models ran, and which did not and why.
        warnings: What the user must know.
        usage: Calls and tokens of the language model, in all and per agent; empty figures where none was asked.
        paragraph: What was and was not found, in plain words.
        folder: Where files were written; None if nowhere.
        files: What was written.
    """

    selection: Selection
    plan: Plan
    warnings: tuple[str, ...] = ()
    usage: Mapping[str, Any] = field(default_factory=lambda: NO_USAGE)
    paragraph: str = ""
    folder: Path | None = None
    files: tuple[Path, ...] = ()
    _finished: Finished | None = None

    @property
    def segmentation(self) -> Segmentation | None:
        """The fused structures with their votes; None after a dry run."""
        return self._finished.segmentation if self._finished else None

    @property
    def structures(self) -> tuple[StructureResult, ...]:
        """Each structure in figures."""
        return self._finished.structures if self._finished else ()

    @property
    def record(self) -> RunRecord | None:
        """What `run.json` holds; None after a dry run."""
        return self._finished.record if self._finished else None

    @property
    def masks(self) -> Mapping[str, NDArray[np.bool_]]:
        """Structure id -> boolean array `(Z, Y, X)` on the image's own grid, made when it is looked at."""
        return _Arrays({figures.id: self[figures.id] for figures in self.structures})

    def __getitem__(self, name: str) -> Mask:
        """One structure, by its id ("left_kidney") or its name ("left kidney").

        Raises:
            KeyError: If it is not in the result.
        """
        if self._finished is not None:
            for figures, structure in zip(self.structures, self._finished.segmentation.structures, strict=True):
                if name in (figures.id, figures.name):
                    return Mask(figures, self._finished.segmentation.grid, structure)
        known = ", ".join(figures.id for figures in self.structures) or "nothing"
        raise KeyError(f"{name!r} is not in the result, which holds {known}")

    def save(self, folder: Path | str, *, overwrite: bool = False) -> Path:
        """Write the run folder that `segment` writes.

        Args:
            folder: Appears complete or not at all.
            overwrite: Replace an earlier run in it.

        Returns:
            The folder: another one beside it, if something else filled it meanwhile.

        Raises:
            UsageError: After a dry run, which has nothing to save.
            OutputError: If the folder cannot be written.
        """
        if self._finished is None:
            raise UsageError("a dry run has no result", "Segment without dry_run.", "dry_run")
        place = RunFolder(Path(folder), overwrite)
        with place as staging:
            write_run(self._finished, staging, Path(folder))
        return place.place if place.notes else Path(folder)

    def __repr__(self) -> str:
        """The structures in one line."""
        if self._finished is None:
            return f"<Result of a dry run: {some([item.model.id for item in self.plan.models])}>"
        found = "; ".join(figures.summary for figures in self.structures)
        return f"<Result {found}, {len(self.warnings)} warning(s)>"

    def _repr_html_(self) -> str:
        """The picture, the paragraph and the warnings, for notebooks."""
        if self._finished is None:
            return f"<p>{escape(repr(self))}</p>"
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / "preview.png"
            instruction = self._finished.record.asked.instruction
            write_preview(self._finished.segmentation, self._finished.case.volumes[0], picture, title=instruction)
            png = base64.b64encode(picture.read_bytes()).decode("ascii")
        told = "".join(f"<li>{escape(warning)}</li>" for warning in self.warnings)
        alt = escape(self.paragraph, quote=True)
        return (
            f'<img src="data:image/png;base64,{png}" alt="{alt}" style="max-width:100%">'
            f"<p>{escape(self.paragraph)}</p>" + (f"<ul>{told}</ul>" if told else "")
        )
