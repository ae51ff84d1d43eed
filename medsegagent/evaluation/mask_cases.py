"""Predictions and references, one case or a folder of them, to scores."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from medsegagent.errors import ImageError, UsageError
from medsegagent.evaluation.masks import Score, pair_up, score
from medsegagent.export.reading import read_segments
from medsegagent.export.segment import Segments
from medsegagent.images.read import READERS, extension

COLUMNS = (
    *("case", "target", "dice", "nsd", "hd95_mm"),
    *("volume_ml", "reference_ml", "difference_ml", "difference_percent"),
)

_ANYTHING = "foreground"
"""The target where no case has any label."""


@dataclass(frozen=True)
class Case:
    """One prediction with its reference; either may be a file or a run's folder."""

    name: str
    prediction: Path
    reference: Path


@dataclass(frozen=True)
class Evaluation:
    """All scores, and what could not be compared; `failed` are cases of several that could not be."""

    scores: tuple[Score, ...]
    cases: tuple[Case, ...]
    tolerance_mm: float
    warnings: tuple[str, ...]
    failed: tuple[str, ...] = ()

    @property
    def worst(self) -> Score | None:
        """The score with the lowest Dice."""
        scored = [item for item in self.scores if not math.isnan(item.dice)]
        return min(scored, key=lambda item: (item.dice, item.nsd), default=None)


def find_cases(prediction: Path, reference: Path) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """Pair files with files: two files (or run folders) are one case, two folders are paired by name.

    A file's name counts without its extension; a run's folder counts as a file of the folder's name.

    Returns:
        The cases, sorted by name, and warnings on what has no partner.

    Raises:
        ImageError: If nothing pairs.
        UsageError: If one is a folder of cases and the other a single case.
    """
    for path in (prediction, reference):
        if not path.exists():
            raise ImageError("no such file or folder", "Check the path.", str(path))
    many = [_is_many(path) for path in (prediction, reference)]
    if many == [False, False]:
        return (Case(_stem(reference), prediction, reference),), ()
    if many != [True, True]:
        what = "one of the two is a folder of cases and the other a single case"
        raise UsageError(what, "Give two files or two folders.", f"{prediction}, {reference}")
    ours, theirs = _entries(prediction), _entries(reference)
    cases = tuple(Case(name, ours[name], theirs[name]) for name in sorted(ours.keys() & theirs.keys()))
    if not cases:
        names = f"{', '.join(sorted(ours)[:3])} against {', '.join(sorted(theirs)[:3])}"
        raise ImageError(f"no case has the same name in both folders ({names})", "Rename the files.", str(prediction))
    alone = sorted(ours.keys() ^ theirs.keys())
    return cases, (f"without a partner: {', '.join(alone)}",) if alone else ()


def evaluate(prediction: Path, reference: Path, *, mapping: Mapping[str, str], tolerance_mm: float) -> Evaluation:
    """Score every target of every case; see `find_cases` and `pair_up`.

    Raises:
        ImageError: If a file cannot be read or nothing can be compared; of several cases, only if no case can be.
        UsageError: If the mapping or the tolerance makes no sense.
    """
    if not 0 <= tolerance_mm < math.inf:
        raise UsageError(f"a tolerance of {tolerance_mm} mm", "Give 0 or more.", "tolerance_mm")
    cases, warnings = find_cases(prediction, reference)
    scores: list[Score] = []
    empty: list[str] = []
    failed: list[str] = []
    for case in cases:
        try:
            found, more = _scores(case, mapping, tolerance_mm)
        except ImageError as error:
            if len(cases) == 1:
                raise
            failed.append(case.name)
            warnings += (f"{case.name}: not compared: {error}",)
            continue
        scores += found
        if not found:
            empty.append(case.name)
        warnings += tuple(f"{case.name}: {text}" for text in more)
    if len(failed) == len(cases):
        raise ImageError(f"no case could be compared: {'; '.join(warnings)}", "Check the files.", str(prediction))
    # Two empty masks agree on every target that there is; which these are, other cases say.
    targets = tuple(dict.fromkeys(item.target for item in scores)) or (_ANYTHING,)
    scores += [Score(name, target, math.nan, math.nan, math.nan, 0.0, 0.0) for name in empty for target in targets]
    return Evaluation(tuple(scores), cases, tolerance_mm, warnings, tuple(failed))


def _scores(case: Case, mapping: Mapping[str, str], tolerance_mm: float) -> tuple[list[Score], tuple[str, ...]]:
    prediction, truth = read_pair(case)
    pairs, notes = pair_up(prediction, truth, mapping)
    return [score(case.name, pair, truth.grid.spacing, tolerance_mm) for pair in pairs], notes


def read_pair(case: Case) -> tuple[Segments, Segments]:
    """Read a prediction and its reference; the one that is no DICOM SEG says where the other's slices lie.

    Raises:
        ImageError: If a file cannot be read.
    """
    if extension(case.reference) in READERS or case.reference.is_dir():
        truth = read_segments(case.reference)
        return read_segments(case.prediction, truth.grid), truth
    prediction = read_segments(case.prediction)
    return prediction, read_segments(case.reference, prediction.grid)


def means(scores: Sequence[Score]) -> tuple[Score, ...]:
    """Per target, the mean over its cases, NaN and infinite values left out; `case` says how many there are."""
    targets = dict.fromkeys(item.target for item in scores)
    found = []
    for target in targets:
        own = [item for item in scores if item.target == target]
        found.append(
            Score(
                case=f"mean of {len(own)}",
                target=target,
                dice=_mean([item.dice for item in own]),
                nsd=_mean([item.nsd for item in own]),
                hd95_mm=_mean([item.hd95_mm for item in own]),
                volume_ml=_mean([item.volume_ml for item in own]),
                reference_ml=_mean([item.reference_ml for item in own]),
            )
        )
    return tuple(found)


def parse_mapping(texts: Sequence[str]) -> dict[str, str]:
    """Turn `PREDICTED=REFERENCE` texts into a mapping.

    Raises:
        UsageError: If one is not of that form.
    """
    found: dict[str, str] = {}
    for text in texts:
        left, separator, right = text.partition("=")
        if not (separator and left.strip() and right.strip()):
            raise UsageError(f"{text!r} is not PREDICTED=REFERENCE", "For example: --map 3=kidney_left.", "mapping")
        found[left.strip()] = right.strip()
    return found


def record(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation for machines; NaN and infinite values are null."""
    return {
        "tolerance_mm": evaluation.tolerance_mm,
        "scores": [dict(zip(COLUMNS, _plain(item), strict=True)) for item in evaluation.scores],
        "warnings": list(evaluation.warnings),
        "failed": list(evaluation.failed),
    }


def write_scores(evaluation: Evaluation, folder: Path) -> None:
    """Write `scores.csv` (NaN and infinite values empty) and `scores.json`."""
    with (folder / "scores.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_plain(item) for item in evaluation.scores)
    text = json.dumps(record(evaluation), indent=2, ensure_ascii=False)
    (folder / "scores.json").write_text(text + "\n", "utf-8", errors="backslashreplace")


def _plain(item: Score) -> list[object]:
    values = [getattr(item, column) for column in COLUMNS]
    return [
        (round(value, 6) if math.isfinite(value) else None) if isinstance(value, float) else value for value in values
    ]


def _is_many(path: Path) -> bool:
    return path.is_dir() and not (path / "segmentation.nii.gz").is_file()


def _entries(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()):
        if extension(entry) in (*READERS, ".dcm") or (entry / "segmentation.nii.gz").is_file():
            if _stem(entry) in found:
                what = f"{entry.name} and {found[_stem(entry)].name} are one case by name"
                raise ImageError(what, "Leave one of them.", str(folder))
            found[_stem(entry)] = entry
    return found


def _stem(path: Path) -> str:
    if path.is_dir():
        return path.name
    return path.name[: len(path.name) - len(extension(path))].removesuffix(".seg")


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return fmean(finite) if finite else math.nan
