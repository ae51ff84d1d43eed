"""`medsegagent demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medsegagent.cli import screen


def demo(
    instruction: Annotated[str | None, typer.Argument(help="What to segment; default: all the phantom has.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("medsegagent_demo"),
    seed: Annotated[int, typer.Option(help="Which synthetic patient; none was seen in training.", min=0)] = 0,
    refine: Annotated[
        bool, typer.Option("--refine", help="Also spoil one mask and correct it in four turns, a picture each.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Hide the agents' conversation.")] = False,
) -> None:
    """Run the whole road on a synthetic patient with tiny demo models: no key, no download, no GPU."""
    from medsegagent.cli.one_case import bars
    from medsegagent.cli.views import show_message, show_result
    from medsegagent.road.demo import INSTRUCTION, run_demo
    from medsegagent.road.events import Event, Progress, Said

    with bars() as shown:

        def show(event: Event) -> None:
            if isinstance(event, Progress):
                shown(event.model, event.done, event.total)
            elif isinstance(event, Said) and not quiet:
                show_message(event.agent, event.content.summary)

        result = run_demo(out, instruction=instruction or INSTRUCTION, seed=seed, overwrite=True, on_event=show)
    show_result(result.run, result.dice)
    if refine:
        from medsegagent.cli.refining import show_demo

        show_demo(out, seed)
    screen.out.print("The patient is synthetic and so are the models' training patients: this shows the road only.")
