"""`report.html`: one page that says what was asked, what was found, by which models, and how far to trust it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from medsegagent.fusion.segmentation import Segmentation, Structure
from medsegagent.images.volume import Volume
from medsegagent.language.request import Request
from medsegagent.matching.selection import Dropped
from medsegagent.planning.plan import Plan
from medsegagent.reporting.html import Cell, Figure, Raw, join, table, tag, text
from medsegagent.reporting.panel import Scene, scene_of
from medsegagent.reporting.pictures import Picture, agreement_scale, of_structure, overview
from medsegagent.reporting.preview import RESEARCH_USE
from medsegagent.reporting.record import InputRecord, RunRecord
from medsegagent.reporting.statistics import OtherSide, StructureStatistics

MOST_PICTURED = 24
"""Structures with pictures of their own; a page of a whole skeleton would not open on a phone."""


@dataclass(frozen=True)
class Correction:
    """How a structure's mask was corrected.

    Attributes:
        structure: Its id.
        who: Who chose the prompts, and the promptable model.
        before_ml: Volume as the models gave it.
        after_ml: Volume now.
        version: Number of the version that counts.
        turns: Prompt and reason of each turn.
        pictures: PNG of each turn, the mask before them first.
    """

    structure: str
    who: str
    before_ml: float
    after_ml: float
    version: int
    turns: tuple[tuple[str, str], ...] = ()
    pictures: tuple[bytes, ...] = ()


def write_report(
    path: Path,
    record: RunRecord,
    segmentation: Segmentation,
    volume: Volume,
    statistics: Mapping[str, StructureStatistics],
    dropped: Sequence[Dropped] = (),
    corrections: Sequence[Correction] = (),
) -> None:
    """Write the page: self-contained (no network, no script), readable on a phone, on paper and by a screen reader.

    Args:
        path: `report.html`.
        record: What goes into `run.json`.
        segmentation: The fused structures.
        volume: The image to draw on.
        statistics: By structure id.
        dropped: The cards that were not selected, and why.
        corrections: Which masks were corrected, how, by whom.
    """
    scene = scene_of(segmentation, volume)
    request = record.request
    body = (
        tag("h1", "Segmentation report"),
        tag("p", f"medsegagent {record.versions.get('medsegagent', '')}, {record.created}", class_="soft"),
        tag("p", RESEARCH_USE, class_="research"),
        tag("blockquote", _marked(request)),
        _warnings(record),
        _overview(scene, segmentation),
        _measurements(segmentation, statistics, scene),
        _corrections(corrections),
        _structures(segmentation, scene, statistics),
        tag("h2", "How the instruction was understood"),
        _understood(request),
        tag("h2", "Models"),
        _models(record.plan),
        _dropped(dropped),
        tag("h2", "Input, versions, timings"),
        _provenance(record),
    )
    style = files("medsegagent.reporting").joinpath("report.css").read_text("utf-8")
    head = (
        Raw('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Raw(
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
            "style-src 'unsafe-inline'\">"
        ),
        tag("title", "Segmentation report"),
        tag("style", Raw(style)),
    )
    page = tag("html", tag("head", *head), tag("body", tag("main", *body)), lang="en")
    path.write_text(f"<!doctype html>\n{page}\n", "utf-8", errors="replace")


def _marked(request: Request) -> Raw:
    """Return the instruction with the words that decided something marked."""
    kinds = (("target", request.targets), ("exclusion", request.exclusions))
    spans = [(span, kind) for kind, targets in kinds for target in targets for span in target.spans]
    spans += [(span, "modality") for span in request.modality.spans]
    spans += [(item.span, "unresolved") for item in request.unresolved]
    instruction = request.instruction
    parts: list[Cell] = []
    at = 0
    for span, kind in sorted(spans, key=lambda item: (item[0].start, -item[0].end)):
        if span.start >= at:
            parts += [instruction[at : span.start], tag("mark", span.text, class_=kind, title=kind)]
            at = span.end
    return join([*parts, instruction[at:]])


def _warnings(record: RunRecord) -> Raw:
    if not record.warnings:
        return Raw()
    items = tag("ul", *(tag("li", _with_commands(warning)) for warning in record.warnings))
    return tag("section", tag("h2", "Warnings"), items, class_="warnings", role="note")


def _with_commands(sentence: str) -> Raw:
    """Set what stands between backticks as code."""
    return join(tag("code", part) if place % 2 else part for place, part in enumerate(sentence.split("`")))


def _swatch(colour: str) -> Raw:
    return tag("span", class_="swatch", style=f"background:{colour}")


def _gallery(pictures: Iterable[Picture]) -> Raw:
    return tag(
        "div",
        *(
            tag(
                "figure",
                Raw(f'<img src="{picture.uri}" alt="{text(picture.alt)}">'),
                tag("figcaption", picture.caption),
                style=f"--aspect:{picture.aspect:.3f}",
            )
            for picture in pictures
        ),
        class_="pictures",
    )


def _overview(scene: Scene, segmentation: Segmentation) -> Raw:
    legend = (
        tag("span", _swatch(scene.colours[item.id]), item.name) for item in segmentation.structures if item.where.any()
    )
    note = f"Window: {scene.window.text}. Radiological view: the patient's right (R) is on the left of the picture."
    return join(
        [
            tag("h2", "What was found"),
            _gallery(overview(scene)),
            tag("div", *legend, class_="legend"),
            tag("p", note, class_="soft"),
        ]
    )


def _measurements(segmentation: Segmentation, statistics: Mapping[str, StructureStatistics], scene: Scene) -> Raw:
    channels = list(dict.fromkeys(name for item in statistics.values() for name in item.fused.intensity))
    units = {name: item.fused.intensity[name].unit for item in statistics.values() for name in item.fused.intensity}
    intensities = [f"{_short(name, channels)}, {units[name]}: mean ± SD" for name in channels]
    head = [
        "Structure",
        "Volume, mL",
        *intensities,
        "Largest diameter, mm",
        "Surface, cm²",
        "Pieces",
        "Touches the border",
    ]
    paired = any(item.other_side for item in statistics.values())
    head += [*(["Against the other side"] if paired else []), "Models", "Agreement, Dice"]
    rows = [
        [
            join([_swatch(scene.colours[item.id]), item.name]),
            *_figures(statistics[item.id], channels),
            *([_other_side(statistics[item.id].other_side)] if paired else []),
            len(item.ballots),
            _dice(statistics[item.id].agreement),
        ]
        for item in segmentation.structures
    ]
    return join([tag("h2", "Measurements"), table(head, rows)])


def _short(channel: str, channels: Sequence[str]) -> str:
    return "Intensity" if len(channels) == 1 else channel


def _figures(item: StructureStatistics, channels: Sequence[str]) -> list[Cell]:
    if item.shape is None:
        return [Figure("not found"), *(None for _ in channels), None, None, None, None]
    values = (item.fused.intensity[channel] for channel in channels)
    return [
        item.fused.volume_ml,
        *(Figure(f"{text(value.mean)} ± {text(value.sd)}") for value in values),
        item.shape.largest_diameter_mm,
        item.shape.surface_cm2,
        item.shape.components,
        "yes" if item.fused.touches_border else "no",
    ]


def _other_side(other: OtherSide | None) -> Cell:
    return Figure(f"{other.ratio:.2f} × ({other.difference_ml:+.1f} mL)") if other else None


def _dice(value: float | None) -> Cell:
    return None if value is None or value != value else Figure(f"{value:.2f}")


def _structures(segmentation: Segmentation, scene: Scene, statistics: Mapping[str, StructureStatistics]) -> Raw:
    """Return a part for each structure that was found: pictures, and what each model says of it."""
    found = [item for item in segmentation.structures if item.where.any()]
    parts: list[Cell] = [tag("h2", "Structure by structure")]
    if any(len(item.ballots) > 1 for item in found):
        key = tag("i", style=f"background:linear-gradient(to right, {agreement_scale()})")
        parts.append(tag("p", "Share of votes: 0 %", key, "100 %", class_="scale"))
    for item in found[:MOST_PICTURED]:
        parts += [
            tag("h3", _swatch(scene.colours[item.id]), item.name),
            _gallery(of_structure(scene, item.id, item.name, len(item.ballots))),
            _votes(item, statistics[item.id]),
        ]
    if more := len(found) - MOST_PICTURED:
        parts.append(tag("p", f"{more} more structures are in statistics.json.") if more > 0 else Raw())
    return join(parts) if found else Raw()


def _votes(item: Structure, figures: StructureStatistics) -> Raw:
    rows = [
        [
            ballot.model,
            ballot.weight if ballot.counted else Figure("outlier, left out"),
            figures.models[ballot.model].volume_ml if ballot.voxels else Figure("not found"),
            _dice(ballot.dice),
        ]
        for ballot in item.ballots
    ]
    votes = table(["Model", "Weight", "Its own volume, mL", "Dice against the result"], rows, "Votes, best rank first")
    if len(item.ballots) < 2:
        return votes
    names = [ballot.model for ballot in item.ballots]
    numbered = list(enumerate(names, start=1))
    matrix = [[f"{number} {name}", *(_pair(item, name, other) for other in names)] for number, name in numbered]
    pairs = table(["Model", *(str(number) for number, _ in numbered)], matrix, "Dice between the models")
    return tag("div", votes, pairs, class_="beside")


def _pair(item: Structure, first: str, second: str) -> Cell:
    if first == second:
        return None
    known = item.pairwise_dice.get((first, second), item.pairwise_dice.get((second, first)))
    return _dice(known)


def _corrections(corrections: Sequence[Correction]) -> Raw:
    """Before, after and why; a mask that went back to what the models gave is said to have."""
    if not corrections:
        return Raw()
    parts: list[Cell] = [tag("h2", "Corrections")]
    for item in corrections:
        change = f"{item.before_ml:.1f} mL as the models gave it, {item.after_ml:.1f} mL now (version {item.version})"
        parts += [tag("h3", item.structure), tag("p", f"{change}. {item.who}.")]
        if item.turns:
            rows: list[list[Cell]] = [[number, prompt, why] for number, (prompt, why) in enumerate(item.turns, 1)]
            parts.append(table(["Turn", "Prompt", "Why"], rows))
        parts.append(_gallery(_turn_pictures(item)))
    return join(parts)


def _turn_pictures(item: Correction) -> Iterator[Picture]:
    for number, picture in enumerate(item.pictures):
        uri = f"data:image/png;base64,{b64encode(picture).decode('ascii')}"
        caption = f"Turn {number}" if number else "Before"
        yield Picture(uri, f"{item.structure}: {caption.lower()}", caption, 0.92)


def _understood(request: Request) -> Raw:
    modality = request.modality
    joint = " with " if modality.combined else " or "
    named = joint.join(modality.families) or "not named"
    facts: list[tuple[str, Cell]] = [
        ("Targets", ", ".join(target.name for target in request.targets) or None),
        ("Modality", ", ".join([named, *modality.subtypes])),
    ]
    if request.exclusions:
        facts.append(("Left out", ", ".join(target.name for target in request.exclusions)))
    if request.unresolved:
        facts.append(("Not understood", ", ".join(item.span.text for item in request.unresolved)))
    return _facts(facts)


def _facts(facts: Iterable[tuple[str, Cell]]) -> Raw:
    return tag("dl", *(join([tag("dt", key), tag("dd", value)]) for key, value in facts))


def _models(plan: Plan) -> Raw:
    rows: list[list[Cell]] = [
        [
            item.model.id,
            item.model.card,
            item.rank,
            item.weight,
            ", ".join(target.target for target in item.targets),
            item.reason,
        ]
        for item in plan.models
    ]
    parts = [table(["Model", "Card", "Rank", "Weight", "Gave", "Why this rank"], rows)]
    if plan.skipped:
        skipped = ([item.card, item.model or None, item.reason] for item in plan.skipped)
        parts.append(table(["Card", "Model", "Why not"], skipped, "Matched, but not run"))
    return join(parts)


def _dropped(dropped: Sequence[Dropped]) -> Raw:
    if not dropped:
        return Raw()
    rows = ([item.card, item.stage, item.reason] for item in dropped)
    summary = tag("summary", f"{len(dropped)} cards that did not fit, and why")
    return tag("details", summary, table(["Card", "Dropped by", "Why"], rows))


def _provenance(record: RunRecord) -> Raw:
    inputs = ([item.file, *_input(item)] for item in record.inputs)
    seconds = ((f"{stage}, s", f"{value:.1f}") for stage, value in sorted(record.seconds.items()))
    device = record.plan
    return join(
        [
            table(["File", "Size, voxels", "Spacing, mm", "Modality", "SHA-256"], inputs),
            tag(
                "div",
                _facts([("Device", f"{device.device}: {device.device_reason}"), *seconds]),
                _facts(sorted(record.versions.items())),
                class_="beside",
            ),
        ]
    )


def _input(item: InputRecord) -> Iterator[Cell]:
    yield " × ".join(str(voxels) for voxels in item.size)
    yield " × ".join(f"{mm:.3g}" for mm in item.spacing_mm)
    yield f"{item.modality or 'unknown'} ({item.modality_reason})"
    yield item.sha256[:16] + "…"
