"""Planned nnU-Nets -> their masks, one after the other, in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medsegagent.engines.base import Failure, Prediction, Progress
from medsegagent.engines.nnunet.crop import box_around, cut, grown, paste, widened
from medsegagent.engines.nnunet.label_map import label
from medsegagent.engines.nnunet.masks import LabelledPart, mask_of, sides_of
from medsegagent.engines.nnunet.network import TrainedNetwork, read_design
from medsegagent.engines.nnunet.prepare import Ahead, Job
from medsegagent.errors import MedSegAgentError
from medsegagent.images.boxed import Box
from medsegagent.images.volume import Volume
from medsegagent.models.installed import NnunetFolder, NnunetModel
from medsegagent.planning.plan import Locator, PartValues, PlannedModel

LabelMaps = Mapping[int, NDArray[np.unsignedinteger]]
"""Part index -> that network's label map."""


def predict(
    models: Sequence[PlannedModel],
    volumes: Sequence[Volume],
    device: str,
    progress: Progress,
    load: Callable[[NnunetFolder], TrainedNetwork],
) -> Iterator[Prediction | Failure]:
    """Run nnU-Nets, in the order given. One that fails never stops the others.

    Args:
        models: What to run.
        volumes: The images that it was planned for.
        device: In torch's words.
        progress: Told of each tile.
        load: Gives a part's network.

    Yields:
        Per model its masks on the first volume's grid, or why there are none.
    """
    runner = _Runner(volumes, device, progress, load)
    # What sees the whole image can be made ready ahead; a box has to be found first.
    jobs = {planned.model.id: _jobs(planned) for planned in models if not planned.locator}
    with Ahead([job for own in jobs.values() for job in own.values()], volumes, runner.load) as ahead:
        for planned in models:
            try:
                yield runner.predict(planned, jobs.get(planned.model.id, {}), ahead)
            except MedSegAgentError as error:
                yield Failure(planned.model.id, planned.model.card, str(error))
            except MemoryError:
                yield Failure(planned.model.id, planned.model.card, "out of memory")
            except Exception as error:  # nnU-Net and torch raise what they like; the other models go on
                reason = str(error).strip().partition("\n")[0] or "no reason given"
                yield Failure(planned.model.id, planned.model.card, f"{type(error).__name__}: {reason}")


def _own(runs: PlannedModel | Locator) -> NnunetModel:
    """The model, which planning knows as one of any kind."""
    assert isinstance(runs.model, NnunetModel)  # the engines' table hands each its own kind
    return runs.model


def _jobs(runs: PlannedModel | Locator) -> dict[int, Job]:
    """Per part that runs, what it needs."""
    model = _own(runs)
    return {part: Job(model.parts[part], runs.inputs, model.reorient == "RAS") for part in runs.needed_parts}


def _parts(maps: LabelMaps) -> dict[int, LabelledPart]:
    return {part: LabelledPart(labels) for part, labels in maps.items()}


def _patch_mm(part: NnunetFolder) -> float:
    """The longest edge of what a network sees at once; less would spare nothing and hide context."""
    configuration = read_design(part.folder).configuration
    return float(max(mm * size for mm, size in zip(configuration.spacing, configuration.patch_size, strict=True)))


class _Runner:
    """One case: its images, where it computes, and the boxes found so far."""

    def __init__(
        self,
        volumes: Sequence[Volume],
        device: str,
        progress: Progress,
        load: Callable[[NnunetFolder], TrainedNetwork],
    ) -> None:
        self._volumes, self._device, self._progress, self.load = volumes, device, progress, load
        self._boxes: dict[tuple[str, tuple[PartValues, ...], float], Box | None] = {}

    def predict(self, planned: PlannedModel, jobs: Mapping[int, Job], ahead: Ahead) -> Prediction:
        """Every target of one model."""
        started = time.perf_counter()
        notes: list[str] = []
        maps = self._in_box(planned, notes) if planned.locator else self._label_maps(planned, jobs, ahead, notes)
        parts = _parts(maps)
        masks = {target.target: mask_of(parts, target.whole) for target in planned.targets}
        sides = {
            target.target: sides_of(mask_of(parts, target.left), mask_of(parts, target.right))
            for target in planned.targets
            if target.left and target.right
        }
        seconds = time.perf_counter() - started
        model = planned.model
        return Prediction(model.id, model.card, planned.weight, planned.rank, masks, sides, seconds, tuple(notes))

    def _label_maps(
        self, runs: PlannedModel | Locator, jobs: Mapping[int, Job], ahead: Ahead, notes: list[str]
    ) -> LabelMaps:
        """The label map of each part, on the grid of the volumes that are prepared ahead; notes are added to."""
        model = _own(runs)
        maps: dict[int, NDArray[np.unsignedinteger]] = {}
        for count, (index, job) in enumerate(jobs.items()):

            def tick(done: int, total: int, before: int = count) -> None:
                # Parts have much the same number of tiles; the total is corrected as they come.
                self._progress(model.id, before * total + done, len(jobs) * total)

            labelled = label(
                *ahead.take(job),
                self._device,
                mirror=model.use_mirroring is not False,
                tile_step=model.tile_step_size,
                low_precision=runs.low_precision,
                wanted={value for use in runs.uses if use.part == index for value in use.values},
                tick=tick,
            )
            maps[index] = labelled.labels
            notes += labelled.notes
        return maps

    def _in_box(self, runs: PlannedModel | Locator, notes: list[str]) -> LabelMaps:
        """The same, on the whole grid, of a model that sees a box only, or everything if it has no locator."""
        grid = self._volumes[0].grid
        if runs.locator is None:
            return self._now(runs, self._volumes, notes)
        box = self._box(runs.locator, notes)
        if box is None and not runs.locator.grows:
            notes.append(f"it did not run, for {runs.locator.model.id} found nothing to look around")
            return {part: np.zeros(grid.shape, dtype=np.uint8) for part in runs.needed_parts}
        box = box or (slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, grid.shape[2]))
        if runs.locator.grows:
            box = widened(box, grid, max(_patch_mm(job.part) for job in _jobs(runs).values()))
        maps = self._now(runs, [cut(volume, box) for volume in self._volumes], notes)
        while runs.locator.grows:
            larger = grown(box, mask_of(_parts(maps), runs.uses).box, grid, runs.locator.margin_mm)
            if larger == box:
                break
            box = larger
            maps = self._now(runs, [cut(volume, box) for volume in self._volumes], notes)
        if runs.locator.grows:
            share = math.prod(side.stop - side.start for side in box) / math.prod(grid.shape)
            notes.append(f"it saw {share:.0%} of the image, around what {runs.locator.model.id} finds (--roi auto)")
        return {part: paste(labels, box, grid) for part, labels in maps.items()}

    def _now(self, runs: PlannedModel | Locator, volumes: Sequence[Volume], notes: list[str]) -> LabelMaps:
        jobs = _jobs(runs)
        with Ahead(jobs.values(), volumes, self.load) as ahead:
            return self._label_maps(runs, jobs, ahead, notes)

    def _box(self, locator: Locator, notes: list[str]) -> Box | None:
        """Where the locator finds what it is to find, with its margin; None: nowhere."""
        key = locator.model.id, locator.found, locator.margin_mm
        if key not in self._boxes:
            found = mask_of(_parts(self._in_box(locator, notes)), locator.found)
            self._boxes[key] = box_around(found.box, self._volumes[0].grid, locator.margin_mm)
        return self._boxes[key]
