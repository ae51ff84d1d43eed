"""Predictions to one segmentation: label-wise voting by one of several rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medsegagent.engines.base import Prediction
from medsegagent.fusion.agreement import count_ballots, side_of
from medsegagent.fusion.outliers import find_outliers
from medsegagent.fusion.overlap import Contains, Draft, layers, settle
from medsegagent.fusion.rules import Rule, rule_named
from medsegagent.fusion.segmentation import Segmentation, Structure
from medsegagent.fusion.sides import LEFT, RIGHT, assign_sides
from medsegagent.fusion.tally import count
from medsegagent.images.boxed import Boxed, hull
from medsegagent.images.volume import Grid
from medsegagent.language.request import Side, Target

SWAPPED = 0.5
"""Share of a model's sided voxels on the other side than the fused result, above which it is called out."""


_SIDES: dict[Side | None, Literal["left", "right"] | None] = {None: None, Side.LEFT: "left", Side.RIGHT: "right"}


def fuse(
    predictions: Sequence[Prediction],
    targets: Sequence[Target],
    grid: Grid,
    vocabulary_contains: Contains,
    *,
    rule: str = "majority",
    keep_outliers: bool = False,
) -> Segmentation:
    """Vote on each target and settle what the structures then share.

    A target's voters are the predictions that have it in `masks`; an empty mask is a vote against. Which voxels are in
    is the rule's affair (`medsegagent.fusion.rules`). A pair target that some voters split is voted on as a whole by
    all and then written as left and right (see `assign_sides`), whatever the rule. A model that disagrees far beyond
    the others (see `find_outliers`) is named in a warning and has no vote on that target. The order of
    `predictions` does not matter.

    Args:
        predictions: Masks on `grid`, weights positive; ranks settle ties, equal ranks the model's id.
        targets: What was asked for, in order; one without a voter becomes a warning.
        grid: The input's.
        vocabulary_contains: Whether the first concept holds the second by anatomy; such structures may overlap, all
            others are made disjoint.
        rule: One of `RULES`.
        keep_outliers: Let outliers vote all the same.

    Returns:
        Structures in the targets' order (left before right), values from 1. Memory beyond the predictions: per
        structure two bytes per voxel of the box that holds all votes for it.

    Raises:
        UsageError: If there is no such rule.
    """
    decide = rule_named(rule)
    ranked = sorted(predictions, key=lambda prediction: (prediction.rank, prediction.model))
    drafts: list[Draft] = []
    warnings: list[str] = []
    for target in targets:
        voters = tuple(prediction for prediction in ranked if target.id in prediction.masks)
        if not voters:
            warnings.append(f"{target.name}: no model voted on it.")
            continue
        for voter in voters:
            if (shape := voter.masks[target.id].shape) != grid.shape:
                raise ValueError(f"{voter.model}: mask of {target.id} is {shape}, not {grid.shape}")
        outliers = find_outliers(
            {voter.model: voter.masks[target.id] for voter in voters}, {voter.model: voter.weight for voter in voters}
        )
        warnings += _about(target, outliers, keep_outliers)
        draft = _vote_on(target, voters, frozenset(outliers), keep_outliers, decide)
        drafts += _unique(_sides(draft, grid, warnings), {known.id for known in drafts})
    settle(drafts, vocabulary_contains)
    depth = layers(drafts, vocabulary_contains)
    structures = tuple(
        _structure(draft, layer, value, grid, keep_outliers)
        for value, (draft, layer) in enumerate(zip(drafts, depth, strict=True), start=1)
    )
    return Segmentation(grid=grid, structures=structures, warnings=tuple(warnings))


def _vote_on(
    target: Target, voters: tuple[Prediction, ...], outliers: frozenset[str], keep_outliers: bool, decide: Rule
) -> Draft:
    """Count the votes on one target and decide."""
    counted = tuple(voter for voter in voters if keep_outliers or voter.model not in outliers)
    box = hull(voter.masks[target.id].box for voter in counted)
    votes = count([voter.masks[target.id].at(box) for voter in counted], [voter.weight for voter in counted])
    return Draft(
        id=target.id,
        name=target.name,
        target=target.id,
        concepts=target.concepts,
        covers=frozenset(target.concepts + target.lesions),
        side=_SIDES[target.side],
        split=False,
        box=box,
        mask=decide(votes),
        agreement=votes.agreement,
        voters=counted,
        everybody=voters,
        outliers=outliers,
    )


def _about(target: Target, outliers: Mapping[str, tuple[float, float]], kept: bool) -> Iterator[str]:
    done = "it votes all the same (--keep-outliers)" if kept else "its vote is left out (--keep-outliers counts it)"
    for model, (own, theirs) in outliers.items():
        yield (
            f"{target.name}: {model} disagrees with the others far more than they with each other "
            f"(Dice {own:.2f} against {theirs:.2f}); {done}."
        )


def _sides(draft: Draft, grid: Grid, warnings: list[str]) -> Iterator[Draft]:
    """Yield the draft as it is, or its halves if voters tell them apart."""
    sided = [voter for voter in draft.voters if draft.target in voter.sides]
    if not sided:
        yield draft
        return
    told = [voter.sides[draft.target].at(draft.box) for voter in sided]
    assigned = assign_sides(draft.agreement > 0, told, [voter.weight for voter in sided], grid.spacing)
    if assigned is None and draft.mask.any():
        warnings.append(f"{draft.name}: the models that tell left from right found nothing, so it is left unsplit.")
        yield draft
        return
    if assigned is None:
        assigned = np.zeros(draft.mask.shape, dtype=np.uint8)
    swapped = [voter.model for voter, sides in zip(sided, told, strict=True) if _swaps(sides, assigned)]
    warnings += [
        f"{draft.name}: {model} calls left what the result calls right; one of them is mirrored." for model in swapped
    ]
    yield _half(draft, "left", assigned == LEFT)
    yield _half(draft, "right", assigned == RIGHT)


def _half(draft: Draft, side: Literal["left", "right"], here: NDArray[np.bool_]) -> Draft:
    """Cut one side out of a pair."""
    concept = draft.concepts[0]
    plain = len(draft.concepts) == 1 and concept.isidentifier()
    noun = concept.replace("_", " ") if plain else draft.name.removeprefix("both ")
    return replace(
        draft,
        id=f"{draft.id}_{side}",
        name=f"{side} {noun}",
        side=side,
        split=True,
        mask=draft.mask & here,
        agreement=np.where(here, draft.agreement, np.uint8(0)),
    )


def _swaps(sides: NDArray[np.uint8], assigned: NDArray[np.uint8]) -> bool:
    spoken = (sides > 0) & (assigned > 0)
    wrong = int(np.count_nonzero(spoken & (sides != assigned)))
    return wrong > SWAPPED * int(np.count_nonzero(spoken))


def _unique(drafts: Iterator[Draft], taken: set[str]) -> Iterator[Draft]:
    """Rename a draft whose id is taken ("kidneys and left kidney" gives kidney_left twice)."""
    for draft in drafts:
        name, count = draft.id, 2
        while name in taken:
            name, count = f"{draft.id}_{count}", count + 1
        taken.add(name)
        yield replace(draft, id=name)


def _structure(draft: Draft, layer: int, value: int, grid: Grid, keep_outliers: bool) -> Structure:
    side = draft.side if draft.split else None
    where = Boxed.within(grid.shape, draft.box, draft.mask)
    support = Boxed.within(grid.shape, draft.box, draft.agreement)
    own = {voter.model: side_of(voter, draft.target, side, support) for voter in draft.everybody}
    ballots, pairwise = count_ballots(where, own, draft.everybody, draft.outliers, keep_outliers)
    return Structure(
        id=draft.id,
        name=draft.name,
        target=draft.target,
        concepts=draft.concepts,
        where=where,
        support=support,
        ballots=ballots,
        pairwise_dice=pairwise,
        layer=layer,
        value=value,
        side=side,
    )
