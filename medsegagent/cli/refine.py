"""`medsegagent refine`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medsegagent.cli.options import DeviceOption

if TYPE_CHECKING:
    from medsegagent.prompting.policies.base import Policy

_PROMPTS, _MODEL, _WHO = "Prompts", "Which promptable model", "Who chooses the prompts"
PolicyName = Literal["person", "script", "oracle", "disagreement", "llm"]

WithOption = Annotated[
    str,
    typer.Option("--with", help="walker, nninteractive, nninteractive-remote, sam or http.", rich_help_panel=_MODEL),
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--promptable", help="Folder of its weights; default: what is installed.", rich_help_panel=_MODEL),
]
UrlOption = Annotated[str, typer.Option("--url", help="Its server, http://HOST:PORT.", rich_help_panel=_MODEL)]
PlaneOption = Annotated[
    Literal["axial", "coronal", "sagittal"],
    typer.Option("--plane", help="For models that work slice by slice, and for pictures.", rich_help_panel=_MODEL),
]
AcceptOption = Annotated[
    bool,
    typer.Option("--accept-licence", help="The licence of the weights allows my use.", rich_help_panel=_MODEL),
]
SendOption = Annotated[
    bool,
    typer.Option("--send-images", help="Voxels may be sent to the server or vision model.", rich_help_panel=_MODEL),
]


def refine(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    structure: Annotated[str, typer.Argument(help="Which mask, e.g. liver.")],
    point: Annotated[
        list[str] | None,
        typer.Option("--point", help="I,J,K: a voxel that is in (repeatable).", rich_help_panel=_PROMPTS),
    ] = None,
    no_point: Annotated[
        list[str] | None,
        typer.Option("--not", help="I,J,K: a voxel that is out (repeatable).", rich_help_panel=_PROMPTS),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option("--box", help="I0:I1,J0:J1,K0:K1: a box around it, ends not in it.", rich_help_panel=_PROMPTS),
    ] = None,
    scribble: Annotated[
        list[Path] | None,
        typer.Option("--scribble", help="A mask file of voxels that are in.", rich_help_panel=_PROMPTS),
    ] = None,
    no_scribble: Annotated[
        list[Path] | None,
        typer.Option("--not-scribble", help="A mask file of voxels that are out.", rich_help_panel=_PROMPTS),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Go one version back.")] = False,
    choose: Annotated[int | None, typer.Option("--choose", help="Let this version count.", min=1)] = None,
    versions: Annotated[bool, typer.Option("--versions", help="List the versions, change nothing.")] = False,
    policy: Annotated[
        PolicyName | None,
        typer.Option(
            "--policy", help="Default: the prompts given here, or a person at the terminal.", rich_help_panel=_WHO
        ),
    ] = None,
    script: Annotated[Path | None, typer.Option("--script", help="JSON list of prompts.", rich_help_panel=_WHO)] = None,
    truth: Annotated[
        Path | None,
        typer.Option("--truth", help="The right mask: for oracle, and to score turns.", rich_help_panel=_WHO),
    ] = None,
    budget: Annotated[int, typer.Option("--budget", help="Most turns.", min=1, max=100, rich_help_panel=_WHO)] = 5,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start from nothing, not from the mask.")] = False,
    image: Annotated[Path | None, typer.Option("--image", "-i", help="The run's image, if it has moved.")] = None,
    with_: WithOption = "walker",
    promptable: FolderOption = None,
    url: UrlOption = "",
    plane: PlaneOption = "axial",
    device: DeviceOption = "auto",
    accept_licence: AcceptOption = False,
    send_images: SendOption = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="LLM configuration, for --policy llm.", rich_help_panel=_WHO)
    ] = None,
) -> None:
    """Correct one mask of a finished run by clicks, boxes or scribbles. Every version is kept."""
    from medsegagent.cli import refining
    from medsegagent.prompting.catalogue import Wanted
    from medsegagent.prompting.correcting import choose as choose_version
    from medsegagent.prompting.reopened import reopen

    opened = reopen(run, image)
    found = opened.structure(structure)
    if versions:
        refining.show_versions(opened, found)
        return
    if undo or choose is not None:
        refining.show_choice(choose_version(opened, found, choose), found)
        return
    given = refining.prompts_from(
        opened, points=point or (), not_points=no_point or (), boxes=box or (), scribbles=scribble or (),
        not_scribbles=no_scribble or (),
    )  # fmt: skip
    right = refining.truth_from(truth, opened)
    chosen: Policy = refining.policy_from(
        policy, given, script, right, opened, found, plane=plane, config=config, send_images=send_images
    )
    wanted = Wanted(with_, promptable, url, device, plane, accept_licence, send_images)
    refining.run_refinement(opened, found, wanted, chosen, budget=max(budget, len(given)), truth=right, fresh=fresh)
