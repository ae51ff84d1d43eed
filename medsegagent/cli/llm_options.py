"""Options that say who thinks, for every command that does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medsegagent.agents.llm.mind import Mind

_PANEL = "Language model"

MindOption = Annotated[
    str | None,
    typer.Option(
        "--mind",
        help="rules, hybrid or llm; default: hybrid where an LLM is configured, else rules.",
        rich_help_panel=_PANEL,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="LLM configuration; default: OAI_CONFIG_LIST, the environment variable or the file.",
        rich_help_panel=_PANEL,
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Use the configuration's entry of this model.", rich_help_panel=_PANEL)
]
TagOption = Annotated[
    str | None, typer.Option("--tag", help="Use the configuration's first entry with this tag.", rich_help_panel=_PANEL)
]
AllowRemoteOption = Annotated[
    bool,
    typer.Option(
        "--allow-remote",
        help="Ask an LLM outside this machine and private networks without asking you.",
        rich_help_panel=_PANEL,
    ),
]
MaxCallsOption = Annotated[
    int | None, typer.Option("--max-calls", min=0, help="Most LLM requests in this run.", rich_help_panel=_PANEL)
]
MaxTokensOption = Annotated[
    int | None, typer.Option("--max-tokens", min=0, help="LLM tokens after which to stop.", rich_help_panel=_PANEL)
]
NoCacheOption = Annotated[
    bool, typer.Option("--no-cache", help="Ask the LLM anew, even what it was asked before.", rich_help_panel=_PANEL)
]


def mind_from(
    kind: str | None,
    config: Path | None,
    model: str | None,
    tag: str | None,
    *,
    allow_remote: bool,
    max_calls: int | None,
    max_tokens: int | None,
    no_cache: bool,
    may_ask: bool,
) -> Mind:
    """Settle who thinks.

    Raises:
        UsageError: If there is no such mind.
        ConfigError: If the configuration is broken, or lacks what was asked for.
    """
    from medsegagent.agents.llm.mind import Mind, choose_mind

    chosen, endpoint = choose_mind(kind, config, model, tag)
    return Mind(
        kind=chosen,
        endpoint=endpoint,
        allow_remote=allow_remote,
        confirm=asker(may_ask),
        max_calls=max_calls,
        max_tokens=max_tokens,
        use_cache=not no_cache,
    )


def asker(may_ask: bool) -> Callable[[str], bool] | None:
    """Asks the user each question once; None where nobody can be asked."""
    return cache(_confirm) if may_ask and sys.stdin.isatty() else None


def _confirm(question: str) -> bool:
    from rich.prompt import Confirm

    from medsegagent.cli import screen

    return Confirm.ask(question, console=screen.err, default=False)
