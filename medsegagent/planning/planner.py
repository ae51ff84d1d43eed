"""Selection -> Plan: which installed models run, on which volumes, for which targets, and what does not and why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from medsegagent.cards.library import Library
from medsegagent.errors import ImageError, MedSegAgentError, NoModelError
from medsegagent.images.volume import Volume
from medsegagent.matching.selection import CardSelection, Selection, TargetLabels
from medsegagent.models.effort import Effort
from medsegagent.models.installed import InstalledModel
from medsegagent.models.store import Store
from medsegagent.planning.channel_assignment import assign_channels
from medsegagent.planning.choice import Choice
from medsegagent.planning.label_values import planned_target
from medsegagent.planning.locators import Helpers
from medsegagent.planning.plan import Locator, Plan, PlannedModel, PlannedTarget, Skipped
from medsegagent.planning.ranking import Rank, rank
from medsegagent.wording import some

_COARSER = 3.0
"""Times a model's voxel volume that another one's must have to be worth running first."""
_ROOM_MM = 20.0
"""Around what a coarse model finds: some of its voxels, and context for the fine one."""


class _Candidate(NamedTuple):
    preference: int
    rank: Rank
    model: InstalledModel
    inputs: tuple[int, ...]
    chosen: CardSelection


def plan(
    selection: Selection,
    store: Store,
    volumes: Sequence[Volume],
    device: str = "auto",
    *,
    without: Collection[str] = (),
    choice: Choice = Choice(),  # noqa: B008  frozen
    effort: Effort = Effort(),  # noqa: B008  frozen
) -> Plan:
    """Make a selection runnable.

    A target that a model cannot give whole is left out for that model. Models of one voter (speeds, versions) answer
    each target once, the highest-ranked first; a target that has enough voters takes no more. An answer that has only a
    part of a target votes only where no other has more.

    Args:
        selection: Cards and labels.
        store: Installed models.
        volumes: The images; the first one's grid is the one that predictions are on.
        device: What the user asks for; `engines.forecast.settle` finds what is there.
        without: Model ids not to use, e.g. because they failed.
        choice: What the user says of which models may run.
        effort: What the user says of how thoroughly they run.

    Returns:
        Best rank first; no models if nothing can run (`refusal` then says why).
    """
    skipped: list[Skipped] = []
    candidates: list[_Candidate] = []
    for chosen in selection.cards:
        card = store.cards[chosen.card]
        assigned = assign_channels(card.channel_names, volumes, selection.request.modality.families)
        if isinstance(assigned, str):
            skipped.append(Skipped(card=card.name, reason=assigned, lacks="channels"))
            continue
        models = [model for model in store.of_card(card.name) if model.id not in without]
        if not models:
            reason = "its model failed" if store.of_card(card.name) else _why_no_model(store, card.name)
            skipped.append(Skipped(card=card.name, reason=reason, lacks="model"))
        for model in models:
            if why_not := choice.forbids(model.id, card.name) or model.lacks(effort):
                skipped.append(Skipped(card=card.name, model=model.id, reason=why_not))
                continue
            inputs = tuple(assigned[key] for key in model.channels)
            place = choice.position(model.id, card.name)
            candidates.append(_Candidate(place, rank(model, card, volumes[0].grid.spacing), model, inputs, chosen))
    families = selection.request.modality.families
    helpers = Helpers(store, volumes, families, frozenset(without), choice)
    planned: list[PlannedModel] = []
    answered: dict[tuple[str, str], str] = {}
    voters: Counter[str] = Counter()
    candidates.sort(key=lambda candidate: (candidate.preference, candidate.rank))
    fullest = _fullest(candidates)
    for candidate in candidates:
        model = candidate.model
        answers = {labels.target: labels for labels in candidate.chosen.targets}
        able = [target for labels in answers.values() if (target := planned_target(model, labels))]
        given = [target for target in able if _held(answers[target.target]) == fullest[target.target]]
        open_targets = [target for target in given if voters[target.target] < choice.per_target]
        fresh = tuple(target for target in open_targets if (model.voter, target.target) not in answered)
        voters.update(target.target for target in fresh)
        if fresh:
            weight, why = choice.weight(model.id, model.card)
            answered |= {(model.voter, target.target): model.id for target in fresh}
            locator, told = helpers.locator_of(model)
            if effort.roi and locator is None:
                locator = _region_of_interest(candidate, fresh, candidates)
            planned.append(
                PlannedModel(
                    model=model.tuned(effort),
                    inputs=candidate.inputs,
                    targets=fresh,
                    weight=weight,
                    weight_reason=why,
                    rank=len(planned) + 1,
                    reason=candidate.rank.reason + (f"; on the box that {locator.model.id} finds" if locator else ""),
                    low_precision=effort.fast,
                    locator=locator,
                    warnings=(*told, *_shortfalls(model, [answers[target.target] for target in fresh])),
                )
            )
        elif given and not open_targets:
            reason = f"{choice.per_target} models that rank higher answer already (--max-models)"
            skipped.append(Skipped(card=model.card, model=model.id, reason=reason))
        elif given:
            reason = f"another version of {answered[model.voter, open_targets[0].target]}, which ranks higher"
            skipped.append(Skipped(card=model.card, model=model.id, reason=reason))
        elif able:
            reason = "; ".join(f"has {answers[target.target].partial} of {target.target}" for target in able)
            skipped.append(Skipped(card=model.card, model=model.id, reason=f"{reason}, others have more"))
        else:
            wanted = ", ".join(labels.target for labels in candidate.chosen.targets)
            skipped.append(Skipped(card=model.card, model=model.id, reason=f"does not give {wanted}", lacks="model"))
    return Plan(models=tuple(planned), skipped=tuple(skipped), device=device, device_reason="not looked for yet")


def _held(answer: TargetLabels) -> tuple[str, ...] | None:
    """The parts that an answer has; None: all, or near enough."""
    return answer.partial.held if answer.partial else None


def _fullest(candidates: Iterable[_Candidate]) -> dict[str, tuple[str, ...] | None]:
    """Target -> the parts that its fullest answer has, of equally full ones the best ranked: the others do not vote."""
    best: dict[str, tuple[str, ...] | None] = {}
    for candidate in candidates:
        for answer in candidate.chosen.targets:
            if planned_target(candidate.model, answer):
                held, before = _held(answer), best.setdefault(answer.target, _held(answer))
                if before is not None and (held is None or len(held) > len(before)):
                    best[answer.target] = held
    return best


def _shortfalls(model: InstalledModel, answers: Iterable[TargetLabels]) -> Iterator[str]:
    for answer in answers:
        if answer.partial:
            yield f"{answer.target}: {model.id} has {answer.partial}; no model that can run has more."


def _region_of_interest(
    fine: _Candidate, targets: Sequence[PlannedTarget], candidates: Sequence[_Candidate]
) -> Locator | None:
    """The coarsest other model that gives the same targets, if its voxels make it much quicker."""
    names = {target.target for target in targets}
    least = _COARSER * math.prod(fine.model.spacing_mm or (math.inf,))
    for other in sorted(candidates, key=lambda other: -math.prod(other.model.spacing_mm or (0,))):
        if math.prod(other.model.spacing_mm or (0,)) < least:
            return None
        given = [planned_target(other.model, labels) for labels in other.chosen.targets if labels.target in names]
        found = tuple(use for target in given if target for use in target.whole)
        if other.model.crop is None and {target.target for target in given if target} == names:
            return Locator(model=other.model, inputs=other.inputs, found=found, margin_mm=_ROOM_MM, grows=True)
    return None


def refusal(todo: Plan, selection: Selection, library: Library) -> MedSegAgentError:
    """The error for a plan without models: which cards match, what each lacks, and what to do."""
    no_channels = [item for item in todo.skipped if item.lacks == "channels"]
    no_model = {item.card: item.reason for item in todo.skipped if item.lacks == "model"}
    channels = "; ".join(f"{item.card} {item.reason}" for item in no_channels)
    if no_channels and not no_model:
        remedy = "Give each image by its channel's name: -i NAME=IMAGE, once per channel."
        return ImageError(f"the images given fill no matching card's channels: {channels}", remedy)
    if not no_model and not no_channels:
        unwanted = "; ".join(f"{item.model}: {item.reason}" for item in todo.skipped)
        what = f"models are installed that match, but none may run ({unwanted})"
        return NoModelError(what, "Loosen the option that rules them out.")
    cards = "; ".join(f"{card}: {reason}" for card, reason in no_model.items())
    what = f"{len(selection.cards)} card(s) match, but no usable model is installed ({cards})"
    if channels:
        what += f". Not usable with the images given: {channels}"
    return NoModelError(what, _how_to_get(sorted(no_model), library))


def _how_to_get(cards: Sequence[str], library: Library) -> str:
    name = cards[0] if cards else "NAME"
    how = (
        f"Put a trained nnU-Net v2 where nnUNet_results (or --models-dir) points, e.g. DatasetNNN_{name}/"
        "nnUNetTrainer__nnUNetPlans__3d_fullres with dataset.json, plans.json and fold_0/checkpoint_final.pth; "
        "`medsegagent models list` shows what is found."
    )
    entries = [entry for card in cards if card in library.cards for entry in library.cards[card].models]
    public = [entry.id for entry in entries if any(part.source for part in entry.parts)]
    if not public:
        return how
    return f"`medsegagent models install --for INSTRUCTION` gets public ones ({some(public)}). {how}"


def _why_no_model(store: Store, card: str) -> str:
    problems = [f"{problem.folder.name}: {problem.reason}" for problem in store.problems if problem.card == card]
    return "; ".join(problems) or "no model is installed"
