"""The agents that act: Executor (models and votes) and Reporter (figures, pictures, one honest paragraph)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict

from medsegagent.agents.seats import TypedAgent
from medsegagent.engines.forecast import foresee
from medsegagent.engines.isolation import predict_isolated
from medsegagent.engines.nnunet.runner import predict
from medsegagent.engines.prediction import Failure
from medsegagent.errors import ExitCode, Lacking
from medsegagent.export.formats import export_results
from medsegagent.fusion.segmentation import Segmentation, Structure
from medsegagent.fusion.vote import fuse
from medsegagent.matching.selection import Selection
from medsegagent.planning.downloads import for_the_rest
from medsegagent.planning.plan import Plan, Skipped
from medsegagent.planning.planner import plan, refusal
from medsegagent.reporting.results import paragraph, write_results
from medsegagent.reporting.run_folder import writing
from medsegagent.reporting.statistics import structure_statistics
from medsegagent.road.messages import (
    CardsUnusable,
    Executed,
    Planned,
    Refined,
    Refused,
    Reported,
    Selected,
    StructureResult,
)
from medsegagent.road.refiner import refine_run
from medsegagent.road.run import Workspace


class ExecutorAgent(TypedAgent):
    """Selection -> Plan -> Predictions -> Segmentation.

    What cannot run goes back to the LabelMatcher, which answers with what is left; predictions made so far are kept.
    """

    hears = (Selected,)
    says = (Executed, CardsUnusable, Planned)

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("Executor", "Runs the models of the selected cards and fuses their answers.")
        self._workspace = workspace

    def answer(self, heard: Selected) -> Executed | CardsUnusable | Planned | Refused:
        """Plan; send back what is unusable; run what has not run yet; fuse."""
        workspace = self._workspace
        todo = plan(
            heard.selection,
            workspace.store,
            workspace.volumes,
            workspace.options.device,
            without=frozenset(workspace.failed),
            choice=workspace.options.choice,
            effort=workspace.options.effort,
        )
        todo = foresee(todo, workspace.volumes)
        if workspace.lacking is None:
            offers = for_the_rest(
                todo, heard.selection, workspace.library, workspace.store, workspace.volumes[0].grid.spacing
            )
            workspace.lacking = tuple(
                Lacking(offer.entry.id, offer.labels or frozenset(), offer.reason) for offer in offers
            )
        if not todo.models:
            return self._nothing_to_run(todo, heard.selection)
        if workspace.options.dry_run:
            return Planned(selection=heard.selection, plan=todo)
        if workspace.options.complete and workspace.lacking:
            return self._incomplete(todo, heard.selection)
        if gone := self._cards_without_models(todo, heard.selection):
            return CardsUnusable(skipped=gone)
        if broken := self._run(todo):
            return CardsUnusable(skipped=broken)
        return self._fuse(heard.selection, todo)

    def _nothing_to_run(self, todo: Plan, selection: Selection) -> Refused:
        if failed := self._workspace.failed:
            reasons = " ".join(f"{model}: {item.reason}" for model, item in failed.items())
            remedy = "Repair or reinstall them; `medsegagent doctor` lists what is installed."
            return Refused(exit_code=ExitCode.ALL_FAILED, what=f"Every planned model failed. {reasons}", remedy=remedy)
        if full := [item for item in todo.skipped if item.lacks == "memory"]:
            what = "there is no memory for it: " + " ".join(f"{item.model}: {item.reason}" for item in full)
            return Refused(exit_code=ExitCode.ALL_FAILED, what=what, remedy="")
        error = refusal(todo, selection, self._workspace.library)
        lacking = self._workspace.lacking or ()
        return Refused(exit_code=error.exit_code, what=error.what, remedy=error.remedy, lacking=lacking)

    def _incomplete(self, todo: Plan, selection: Selection) -> Refused:
        planned = {target.target for item in todo.models for target in item.targets}
        names = ", ".join(target.name for target in selection.request.targets if target.id not in planned)
        lacking = self._workspace.lacking or ()
        return Refused(
            exit_code=ExitCode.NO_MODEL,
            what=f"no installed model gives {names}",
            remedy=_install_command(lacking),
            lacking=lacking,
            others_run=True,
        )

    def _cards_without_models(self, todo: Plan, selection: Selection) -> tuple[Skipped, ...]:
        running = {item.model.card for item in todo.models}
        reasons = {item.card: item.reason for item in todo.skipped}
        reasons |= {item.card: f"its model failed: {item.reason}" for item in self._workspace.failed.values()}
        return tuple(
            Skipped(card=card.card, reason=reasons.get(card.card, "no usable model"))
            for card in selection.cards
            if card.card not in running
        )

    def _run(self, todo: Plan) -> tuple[Skipped, ...]:
        """Run what has no prediction yet; return the failures."""
        workspace = self._workspace
        fresh = tuple(item for item in todo.models if item.model.id not in workspace.predictions)
        broken = []
        started = time.perf_counter()
        todo = todo.model_copy(update={"models": fresh})
        if workspace.options.isolate:
            outcomes = predict_isolated(todo, workspace.volumes, workspace.progress)
        else:
            outcomes = predict(todo, workspace.volumes, workspace.progress, workspace.networks)
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                failure = Skipped(card=outcome.card, model=outcome.model, reason=outcome.reason)
                workspace.failed[outcome.model] = failure
                broken.append(failure)
            else:
                workspace.predictions[outcome.model] = outcome
        workspace.add_seconds("inference", time.perf_counter() - started)
        return tuple(broken)

    def _fuse(self, selection: Selection, done: Plan) -> Executed:
        workspace = self._workspace
        started = time.perf_counter()
        predictions = [workspace.predictions[item.model.id] for item in done.models]
        covered = {target for prediction in predictions for target in prediction.masks}
        targets = [target for target in selection.request.targets if target.id in covered]
        segmentation = fuse(
            predictions,
            targets,
            workspace.volumes[0].grid,
            workspace.vocabulary.may_hold,
            rule=workspace.options.fusion,
            keep_outliers=workspace.options.keep_outliers,
        )
        workspace.segmentation = segmentation
        workspace.add_seconds("fusion", time.perf_counter() - started)
        voxel_ml = segmentation.grid.voxel_ml
        return Executed(
            selection=selection,
            plan=done,
            structures=tuple(_result(structure, voxel_ml) for structure in segmentation.structures),
            failed=tuple(workspace.failed.values()),
            warnings=self._warnings(selection, segmentation, covered, done),
            seconds=dict(workspace.seconds),
        )

    def _warnings(
        self, selection: Selection, segmentation: Segmentation, covered: set[str], done: Plan
    ) -> tuple[str, ...]:
        warnings = [f"{item.model} failed: {item.reason}" for item in self._workspace.failed.values()]
        warnings += [
            f"{target.name}: not segmented, no model that ran gives it."
            for target in selection.request.targets
            if target.id not in covered
        ]
        if self._workspace.lacking and len(covered) < len(selection.request.targets):
            warnings.append(_install_command(self._workspace.lacking))
        warnings += [
            f"{structure.name}: not found by {ballot.model}."
            for structure in segmentation.structures
            for ballot in structure.ballots
            if ballot.voxels == 0
        ]
        for item in done.models:
            warnings += item.warnings
            warnings += [f"{item.model.id}: {note}." for note in self._workspace.predictions[item.model.id].notes]
        warnings += [warning for volume in self._workspace.volumes for warning in volume.warnings]
        return (*warnings, *segmentation.warnings)


def _install_command(lacking: Iterable[Lacking]) -> str:
    models = " ".join(item.model for item in lacking)
    return f"`medsegagent models install {models}` gets what is lacking."


class RefinerAgent(TypedAgent):
    """Between Executor and Reporter: corrects masks with a promptable model, and says every turn."""

    hears = (Executed,)
    says = (Executed, Refined)

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("Refiner", "Corrects masks by prompts to a promptable model, turn by turn.")
        self._workspace = workspace

    def answer(self, heard: Executed) -> Executed:
        """Refine what can be refined; the models' masks are kept as first versions."""
        workspace = self._workspace
        assert workspace.segmentation is not None  # Executed is said after fusion
        started = time.perf_counter()
        with writing(workspace.folder):
            workspace.refined = refine_run(
                workspace.segmentation,
                workspace.volumes[0],
                workspace.folder,
                workspace.options.refinement,
                lambda turn: self.asides.append(Refined(**asdict(turn))),
            )
        workspace.segmentation = workspace.refined.segmentation
        workspace.add_seconds("refining", time.perf_counter() - started)
        voxel_ml = workspace.segmentation.grid.voxel_ml
        return heard.model_copy(
            update={
                "structures": tuple(_result(item, voxel_ml) for item in workspace.segmentation.structures),
                "warnings": (*heard.warnings, *workspace.refined.warnings),
            }
        )


class ReporterAgent(TypedAgent):
    """Writes the run folder's files and says in one paragraph what was and was not done."""

    hears = (Executed,)
    says = (Reported,)

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("Reporter", "Writes masks, figures and pictures, and one honest paragraph.")
        self._workspace = workspace

    def answer(self, heard: Executed) -> Reported:
        """Write everything below the workspace's folder."""
        with writing(self._workspace.folder):
            return self._write(heard)

    def _write(self, heard: Executed) -> Reported:
        workspace = self._workspace
        assert workspace.segmentation is not None  # Executed is said after fusion
        predictions = [workspace.predictions[item.model.id] for item in heard.plan.models]
        workspace.figures = structure_statistics(workspace.segmentation, workspace.volumes, predictions)
        write_results(
            workspace.folder,
            workspace.segmentation,
            workspace.volumes,
            predictions,
            workspace.figures,
            instruction=heard.selection.request.instruction,
            separate=workspace.options.separate,
            keep_predictions=workspace.options.keep_predictions,
        )
        exported = export_results(
            workspace.segmentation, workspace.volumes[0], workspace.folder, workspace.options.formats
        )
        warnings = (*heard.warnings, *exported.warnings)
        return Reported(paragraph=paragraph(workspace.segmentation, warnings), warnings=exported.warnings)


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
