"""The Executor's step: Selection -> Plan -> Predictions -> Segmentation.

What cannot run goes back to the LabelMatcher, which answers with what is left; predictions made so far are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from medsegagent.engines.base import Failure
from medsegagent.engines.forecast import settle
from medsegagent.engines.isolation import predict_isolated
from medsegagent.engines.run import predict
from medsegagent.errors import ExitCode, Lacking
from medsegagent.fusion.segmentation import Segmentation, Structure
from medsegagent.fusion.vote import fuse
from medsegagent.matching.selection import Selection
from medsegagent.planning.downloads import for_the_rest
from medsegagent.planning.plan import Plan, Skipped
from medsegagent.planning.planner import plan, refusal
from medsegagent.reporting.record import StructureResult
from medsegagent.road.case import Case
from medsegagent.road.messages import CardsUnusable, Executed, Planned, Refused, Selected
from medsegagent.road.resources import Resources
from medsegagent.road.run import Run

_LOG = logging.getLogger(__name__)


def execute(heard: Selected, run: Run) -> Executed | CardsUnusable | Planned | Refused:
    """Plan; send back what is unusable; run what has not run yet; fuse."""
    case, resources, selection = _case(run), _resources(run), heard.selection
    todo = plan(
        selection,
        resources.store,
        case.volumes,
        resources.device,
        without=frozenset(run.failed),
        choice=run.options.choice,
        effort=run.options.effort,
    )
    todo = settle(todo, case.volumes, resources.engines)
    if run.lacking is None:
        run.lacking = _lacking(todo, selection, run)
    if not todo.models:
        return _nothing_to_run(todo, selection, run)
    if run.options.dry_run:
        return Planned(selection=selection, plan=todo)
    if run.options.complete and run.lacking:
        return _incomplete(todo, selection, run.lacking)
    if gone := _cards_without_models(todo, selection, run):
        return CardsUnusable(skipped=gone)
    if broken := _predict(todo, run):
        return CardsUnusable(skipped=broken)
    return _fuse(selection, todo, run)


def _case(run: Run) -> Case:
    assert run.case is not None  # who only chooses cards does not come here
    return run.case


def _resources(run: Run) -> Resources:
    assert run.resources is not None  # likewise
    return run.resources


def _lacking(todo: Plan, selection: Selection, run: Run) -> tuple[Lacking, ...]:
    """What could be installed for the targets that the plan leaves out."""
    resources = _resources(run)
    if not resources.offers_installs:  # what is installed by command would not be found
        return ()
    grid = _case(run).grid
    offers = for_the_rest(todo, selection, run.library, resources.store, grid.spacing)
    return tuple(Lacking(offer.entry.id, offer.labels or frozenset(), offer.reason) for offer in offers)


def _nothing_to_run(todo: Plan, selection: Selection, run: Run) -> Refused:
    if run.failed:
        reasons = " ".join(f"{model}: {item.reason}" for model, item in run.failed.items())
        remedy = "Repair or reinstall them; `medsegagent doctor` lists what is installed."
        return Refused(exit_code=ExitCode.ALL_FAILED, what=f"Every planned model failed. {reasons}", remedy=remedy)
    if full := [item for item in todo.skipped if item.lacks == "memory"]:
        what = "there is no memory for it: " + " ".join(f"{item.model}: {item.reason}" for item in full)
        return Refused(exit_code=ExitCode.ALL_FAILED, what=what, remedy="")
    return Refused.of(refusal(todo, selection, run.library)).model_copy(update={"lacking": run.lacking or ()})


def _incomplete(todo: Plan, selection: Selection, lacking: tuple[Lacking, ...]) -> Refused:
    planned = {target.target for item in todo.models for target in item.targets}
    names = ", ".join(target.name for target in selection.request.targets if target.id not in planned)
    return Refused(
        exit_code=ExitCode.NO_MODEL,
        what=f"no installed model gives {names}",
        remedy=_install_command(lacking),
        lacking=lacking,
        others_run=True,
    )


def _cards_without_models(todo: Plan, selection: Selection, run: Run) -> tuple[Skipped, ...]:
    running = {item.model.card for item in todo.models}
    reasons = {item.card: item.reason for item in todo.skipped}
    reasons |= {item.card: f"its model failed: {item.reason}" for item in run.failed.values()}
    return tuple(
        Skipped(card=card.card, reason=reasons.get(card.card, "no usable model"))
        for card in selection.cards
        if card.card not in running
    )


def _predict(todo: Plan, run: Run) -> tuple[Skipped, ...]:
    """Run what has no prediction yet; return the failures."""
    fresh = tuple(item for item in todo.models if item.model.id not in run.predictions)
    todo, volumes, resources = todo.model_copy(update={"models": fresh}), _case(run).volumes, _resources(run)
    broken = []
    with resources.lent_device(run.stop), run.timed("inference"):
        how = predict_isolated if run.options.isolate else predict
        for outcome in how(todo, volumes, run.tile, resources.engines):
            if isinstance(outcome, Failure):
                failure = Skipped(card=outcome.card, model=outcome.model, reason=outcome.reason)
                run.failed[outcome.model] = failure
                broken.append(failure)
            else:
                run.predictions[outcome.model] = outcome
    return tuple(broken)


def _fuse(selection: Selection, done: Plan, run: Run) -> Executed:
    predictions = [run.predictions[item.model.id] for item in done.models]
    covered = {target for prediction in predictions for target in prediction.masks}
    targets = [target for target in selection.request.targets if target.id in covered]
    with run.timed("fusion"):
        segmentation = fuse(
            predictions,
            targets,
            _case(run).grid,
            run.library.vocabulary.may_hold,
            rule=run.options.fusion,
            keep_outliers=run.options.keep_outliers,
        )
    _LOG.info("fused %d structures of %d models", len(segmentation.structures), len(predictions))
    run.segmentation = segmentation
    voxel_ml = segmentation.grid.voxel_ml
    return Executed(
        selection=selection,
        plan=done,
        structures=tuple(_result(structure, voxel_ml) for structure in segmentation.structures),
        failed=tuple(run.failed.values()),
        warnings=_warnings(selection, segmentation, covered, done, run),
        seconds=dict(run.seconds),
    )


def _warnings(
    selection: Selection, segmentation: Segmentation, covered: set[str], done: Plan, run: Run
) -> tuple[str, ...]:
    warnings = [*selection.notes, *(f"{item.model} failed: {item.reason}" for item in run.failed.values())]
    warnings += [
        f"{target.name}: not segmented, no model that ran gives it."
        for target in selection.request.targets
        if target.id not in covered
    ]
    if run.lacking and len(covered) < len(selection.request.targets):
        warnings.append(_install_command(run.lacking))
    warnings += [
        f"{structure.name}: not found by {ballot.model}."
        for structure in segmentation.structures
        for ballot in structure.ballots
        if ballot.voxels == 0
    ]
    for item in done.models:
        warnings += item.warnings
        warnings += [f"{item.model.id}: {note}." for note in run.predictions[item.model.id].notes]
    warnings += [warning for volume in _case(run).volumes for warning in volume.warnings]
    return (*warnings, *segmentation.warnings)


def _install_command(lacking: Iterable[Lacking]) -> str:
    models = " ".join(item.model for item in lacking)
    return f"`medsegagent models install {models}` gets what is lacking."


def _result(structure: Structure, voxel_ml: float) -> StructureResult:
    voxels = structure.where.count
    return StructureResult(
        id=structure.id,
        name=structure.name,
        volume_ml=voxels * voxel_ml,
        voxels=voxels,
        voters=tuple(ballot.model for ballot in structure.ballots if ballot.counted),
        outliers=tuple(ballot.model for ballot in structure.ballots if ballot.outlier),
        agreement=structure.mean_dice,
    )
