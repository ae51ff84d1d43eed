"""How requests, selections, plans and results look in a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from medsegagent.cli import screen
from medsegagent.language.request import Question, Request
from medsegagent.matching.selection import Dropped, LabelExpression, Selection
from medsegagent.planning.plan import Plan
from medsegagent.wording import some

if TYPE_CHECKING:
    from medsegagent.cards.library import Library
    from medsegagent.road.result import Result

_MOST_LABELS = 2
_MOST_VALUES = 3
_MOST_LINES = 20
"""Lines of a selection that fit a screen; more are grouped."""


def show_request(request: Request) -> None:
    """Show how the instruction was understood, with the words that led to it."""
    rows = [("target", target.name, _words(target.spans)) for target in request.targets]
    rows += [("without", target.name, _words(target.spans)) for target in request.exclusions]
    families = ("/" if request.modality.combined else " or ").join(request.modality.families) or "any"
    rows.append(("modality", " ".join([families, *request.modality.subtypes]), _words(request.modality.spans)))
    rows += [("not known", item.span.text, ", ".join(item.suggestions)) for item in request.unresolved]
    rows += [("not read", "", repr(span.text)) for span in request.unread]
    if not request.modality.families:
        rows.append(("assumed", "any kind of image", "none is named"))
    rows += [
        ("assumed", f"{target.name}: all of it, both sides where there are two", "")
        for target in request.targets
        if target.side is None
    ]
    screen.table(("understood", "as", "from the words"), rows)


def show_selection(
    selection: Selection, library: Library | None = None, dropped: Sequence[Dropped] | None = None
) -> None:
    """Show the chosen cards and labels: a line per target and card, or, where they are many, per kind of image.

    Args:
        selection: What was chosen.
        library: Its cards, to say what images they take.
        dropped: If given, the choice is explained: every card with its reason, and these, grouped by theirs.
    """
    names = {target.id: target.name for target in selection.request.targets}
    found = [
        (names.get(target.target, target.target), card.card, images_of(card.card, library) if library else "", target)
        for card in selection.cards
        for target in card.targets
    ]
    found.sort(key=lambda row: list(names).index(row[3].target) if row[3].target in names else 0)
    if dropped is not None and found:
        rows = [(name, card, kind, _labels(t.whole), folded(t.whole.values), t.reason) for name, card, kind, t in found]
        screen.table(("target", "card", "images", "labels", "values", "why"), rows)
    elif 0 < len(found) <= _MOST_LINES:
        columns = ("target", "card", "images", "values", "labels")
        screen.lines(columns, [(n, card, kind, folded(t.whole.values), _labels(t.whole)) for n, card, kind, t in found])
    elif found:
        groups: dict[tuple[str, str], list[str]] = {}
        for name, card, kind, _ in found:
            groups.setdefault((name, kind), []).append(card)
        rows_ = [(name, kind, len(cards), some(cards, 3)) for (name, kind), cards in groups.items()]
        screen.lines(("target", "images", "count", "cards"), rows_)
        screen.err.print("--explain shows each card with its labels and values, --json all of it.", markup=False)
    if dropped:
        reasons: dict[tuple[str, str], list[str]] = {}
        for item in dropped:
            reasons.setdefault((item.stage, item.reason), []).append(item.card)
        told = [(stage, reason, len(cards), some(cards, 3)) for (stage, reason), cards in reasons.items()]
        screen.table(("dropped at", "because", "count", "cards"), told)


def images_of(card: str, library: Library) -> str:
    """The kinds of image that a card takes: "CT", "CT, MR"."""
    return ", ".join(sorted({accepted.family for channel in library.channels[card] for accepted in channel}))


def folded(values: Sequence[int]) -> str:
    """As in "5", "2, 3", "12 values, 10-21"."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    text = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    if len(values) <= _MOST_VALUES:
        return ", ".join(map(str, sorted(values)))
    return f"{len(values)} values, {text}" if len(runs) <= _MOST_VALUES else f"{len(values)} values"


def show_refusal(selection: Selection) -> None:
    """Say why nothing is selected."""
    screen.problem(selection.refusal or "Nothing matches.")


def show_question(question: Question) -> None:
    """Say what is unclear, and the wordings that would be clear."""
    screen.warn(f"{question.text} Say which you mean; shown is the first:")
    for reading in question.readings:
        screen.err.print(f"  - {reading}", markup=False, highlight=False, soft_wrap=True)


def show_plan(plan: Plan) -> None:
    """Show what would run and what would not."""
    rows = [
        (
            item.rank,
            item.model.id,
            ", ".join(target.target for target in item.targets),
            f"{item.weight:g}",
            item.reason,
            item.memory,
        )
        for item in plan.models
    ]
    screen.table(("rank", "model", "targets", "weight", "why this rank", "memory"), rows)
    for warning in dict.fromkeys(warning for item in plan.models for warning in item.warnings):
        screen.warn(warning)
    if plan.skipped:
        skipped = [(item.card, item.model, item.reason) for item in plan.skipped]
        screen.table(("not run: card", "model", "because"), skipped)
    screen.out.print(f"device: {plan.device} ({plan.device_reason})")


def show_result(result: Result, truth: dict[str, float] | None = None) -> None:
    """Show the table of structures.

    Args:
        result: The run.
        truth: Structure id -> Dice against a known truth, for a last column.
    """
    columns = ["structure", "volume (mL)", "models that voted", "agreement (Dice)"]
    rows: list[list[object]] = []
    for item in result.structures:
        agreement = "-" if item.agreement is None else f"{item.agreement:.3f}"
        rows.append([item.name, f"{item.volume_ml:.1f}", "\n".join(item.voters), agreement])
        if truth is not None:
            rows[-1].append(f"{truth[item.id]:.3f}" if item.id in truth else "-")
    screen.table([*columns, "Dice against truth"] if truth is not None else columns, rows)
    for warning in result.warnings:
        screen.warn(warning)
    screen.out.print(escape(result.paragraph))
    screen.out.print(f"files: {escape(str(result.folder))}")


def show_message(agent: str, summary: str) -> None:
    """One line of the conversation."""
    screen.err.print(f"[bold cyan]{escape(agent):>15}[/] {escape(summary)}", soft_wrap=True)


def show_usage(usage: Mapping[str, Any]) -> None:
    """What the language model cost, per agent and in all; nothing where it was not asked."""
    for name, cost in (*usage["agents"].items(), ("in all", usage["total"])) if usage["agents"] else ():
        figures = (
            f"{cost['calls']} call(s), {cost['cached']} from the cache, {cost['prompt_tokens']} prompt and "
            f"{cost['completion_tokens']} completion tokens, {cost['seconds']:.1f} s"
        )
        screen.err.print(f"language model, {name}: {figures}", soft_wrap=True)


def selection_json(selection: Selection, dropped: Sequence[Dropped] = ()) -> dict[str, Any]:
    """The selection for machines: `labels` as judged, then everything behind it."""
    data: dict[str, Any] = {
        "labels": selection.labels,
        "refusal": selection.refusal,
        "notes": list(selection.notes),
        "request": selection.request.model_dump(mode="json"),
        "cards": [card.model_dump(mode="json") for card in selection.cards],
    }
    if dropped:
        data["dropped"] = [item.model_dump(mode="json") for item in dropped]
    return data


def _labels(expression: LabelExpression) -> str:
    shown = ", ".join(expression.plus[:_MOST_LABELS])
    if len(expression.plus) > _MOST_LABELS:
        shown += f" and {len(expression.plus) - _MOST_LABELS} more"
    return shown + (f" minus {', '.join(expression.minus)}" if expression.minus else "")


def _words(spans: Sequence[Any]) -> str:
    return " + ".join(repr(span.text) for span in spans)
