"""`medsegagent evaluate`."""

from __future__ import annotations

import typer

from medsegagent.cli.evaluate_masks import masks
from medsegagent.cli.evaluate_selection import compare, selection

app = typer.Typer(help="Measure: model selection over a test file, masks against a reference.", no_args_is_help=True)
app.command(name="selection")(selection)
app.command(name="compare")(compare)
app.command(name="masks")(masks)
