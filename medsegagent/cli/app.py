"""The Typer application, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

from medsegagent.cli import (
    cards,
    convert,
    demo,
    doctor,
    evaluate,
    inspect,
    match,
    models,
    promptable,
    refine,
    replay,
    segment,
    targets,
)
from medsegagent.cli.flags import with_flag
from medsegagent.cli.screen import problem
from medsegagent.errors import ExitCode, MedSegAgentError

app = typer.Typer(
    name="medsegagent",
    help="Text in, masks out: picks, runs and fuses nnU-Net v2 models. Research software, not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(name="segment")(segment.segment)
app.command(name="match")(match.match)
app.command(name="inspect")(inspect.inspect)
app.command(name="convert")(convert.convert)
app.command(name="demo")(demo.demo)
app.command(name="refine")(refine.refine)
app.command(name="replay")(replay.replay)
app.command(name="doctor")(doctor.doctor)
app.command(name="targets")(targets.targets)
app.add_typer(cards.app, name="cards")
app.add_typer(models.app, name="models")
app.add_typer(promptable.app, name="promptable")
app.add_typer(evaluate.app, name="evaluate")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"medsegagent {version('medsegagent')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    pass


def run_app(arguments: list[str]) -> int:
    """Run one command.

    Returns:
        The exit code, see `medsegagent.errors.ExitCode`.
    """
    debug = "--debug" in arguments
    # --debug may stand anywhere, as people add it to the end of a failed command.
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        code = app(arguments, standalone_mode=False)
        return int(code or 0)
    except MedSegAgentError as error:
        if debug:
            traceback.print_exc()
        problem(str(with_flag(error)))
        return int(error.exit_code)
    except typer.TyperException as error:
        if message := error.format_message():  # without a command Typer has shown the help, and says nothing
            problem(f"{message.rstrip('.')}. See `medsegagent --help`, or --help after a command.")
        return int(ExitCode.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        problem("Interrupted; nothing half-written is left.")
        return int(ExitCode.INTERRUPTED)
    except MemoryError:
        problem("Not enough memory. Crop or resample the image, close other programs, or use a larger machine.")
        return int(ExitCode.BAD_INPUT)
    except BrokenPipeError:
        # The reader went away (`| head`): not an error of ours; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK)
    except Exception as error:
        if debug:
            traceback.print_exc()
        problem(f"A bug in medsegagent: {type(error).__name__}: {error}. Run again with --debug and report it, please.")
        return int(ExitCode.BUG)
