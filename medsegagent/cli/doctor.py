"""`medsegagent doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from medsegagent.cli import screen
from medsegagent.cli.options import ModelsDirOption


def doctor(
    models_dir: ModelsDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show what this machine has: Python, torch, device, models per card, LLM configuration. Never a key."""
    from medsegagent.agents.checkup import check

    found = check(models_dir)
    if as_json:
        screen.as_json(found.model_dump())
        return
    screen.table(("what", "found"), found.machine.items())
    if found.models:
        screen.table(("card", "installed models"), [(card, "\n".join(ids)) for card, ids in found.models.items()])
    for folder in found.without_card:
        screen.warn(f"{folder}: a trained model without a card; docs/add_a_card.md shows how to use it.")
    for problem in found.problems:
        screen.warn(problem)
