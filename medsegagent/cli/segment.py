"""`medsegagent segment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from medsegagent.cli.llm_options import (
    AllowRemoteOption,
    ConfigOption,
    MaxCallsOption,
    MaxTokensOption,
    MindOption,
    ModelOption,
    NoCacheOption,
    TagOption,
    mind_from,
)
from medsegagent.cli.options import (
    DeviceOption,
    LibraryOption,
    ModalityOption,
    ModelsDirOption,
    VerboseOption,
    VocabularyOption,
)

_RESULTS, _MODELS, _NETWORKS, _VOTES = "Results", "Which models", "How networks run", "How masks become one"
_REFINING = "How masks are corrected"


def segment(
    instruction: Annotated[str, typer.Argument(help="What to segment, in plain words.", show_default=False)] = "",
    image: Annotated[
        list[str] | None,
        typer.Option("--image", "-i", help="Image file; for several channels NAME=FILE, once per channel."),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(
            "--cases", help="Several cases: a folder of images, or a .csv or .jsonl of case, image, instruction."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the results.")] = None,
    library: LibraryOption = "all",
    vocabulary: VocabularyOption = None,
    modality: ModalityOption = None,
    models_dir: ModelsDirOption = None,
    device: DeviceOption = "auto",
    separate: Annotated[
        bool, typer.Option("--separate", help="Also one mask per target, under targets/.", rich_help_panel=_RESULTS)
    ] = False,
    keep_predictions: Annotated[
        bool,
        typer.Option(
            "--keep-predictions", help="Also every model's own masks, under predictions/.", rich_help_panel=_RESULTS
        ),
    ] = False,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="Also nifti, nrrd, dicom-seg, rtstruct, stl or obj (repeatable).", rich_help_panel=_RESULTS
        ),
    ] = None,
    series: Annotated[
        str, typer.Option("--series", help="Which DICOM series: its number, or a part of its description.")
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in the folder.", rich_help_panel=_RESULTS)
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Go on where image and instruction disagree.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show request, selection and plan, then stop.")] = False,
    max_models: Annotated[
        int,
        typer.Option("--max-models", min=1, help="At most so many models for each target.", rich_help_panel=_MODELS),
    ] = 3,
    prefer: Annotated[
        list[str] | None,
        typer.Option("--prefer", help="Rank first: a model, card, or publisher.", rich_help_panel=_MODELS),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Run no others (repeatable).", rich_help_panel=_MODELS)
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="Never run it (repeatable).", rich_help_panel=_MODELS)
    ] = None,
    fusion: Annotated[
        str,
        typer.Option(
            "--fusion",
            help="How masks become one: majority, staple, intersection, union or best.",
            rich_help_panel=_VOTES,
        ),
    ] = "majority",
    weight: Annotated[
        list[str] | None,
        typer.Option(
            "--weight",
            help="NAME=2.5: the vote of a model, card, or publisher; else 1 (repeatable).",
            rich_help_panel=_VOTES,
        ),
    ] = None,
    keep_outliers: Annotated[
        bool,
        typer.Option(
            "--keep-outliers", help="Let a model vote that disagrees far beyond the others.", rich_help_panel=_VOTES
        ),
    ] = False,
    folds: Annotated[
        list[str] | None,
        typer.Option(
            "--folds", help="Only this fold of each model (repeatable): 0, 1, ..., all.", rich_help_panel=_NETWORKS
        ),
    ] = None,
    tta: Annotated[
        bool | None,
        typer.Option(
            "--tta/--no-tta", help="Average over mirrored patches, whatever the model says.", rich_help_panel=_NETWORKS
        ),
    ] = None,
    step_size: Annotated[
        float | None,
        typer.Option(
            "--step-size", help="Step between patches, as a fraction of the patch.", rich_help_panel=_NETWORKS
        ),
    ] = None,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast",
            help="No mirroring, larger steps, low precision: not the very same labels.",
            rich_help_panel=_NETWORKS,
        ),
    ] = False,
    roi: Annotated[
        Literal["auto", "off"],
        typer.Option("--roi", help="auto: a coarser installed model says where to look.", rich_help_panel=_NETWORKS),
    ] = "off",
    isolate: Annotated[
        bool,
        typer.Option(
            "--isolate", help="Each model in a process of its own, under a watchdog.", rich_help_panel=_NETWORKS
        ),
    ] = False,
    refine: Annotated[
        Literal["off", "disagreement", "llm"],
        typer.Option("--refine", help="Correct masks by prompts before they are reported.", rich_help_panel=_REFINING),
    ] = "off",
    with_: Annotated[
        str,
        typer.Option("--with", help="With which promptable model: `promptable list`.", rich_help_panel=_REFINING),
    ] = "walker",
    promptable: Annotated[
        Path | None, typer.Option("--promptable", help="Folder of its weights.", rich_help_panel=_REFINING)
    ] = None,
    url: Annotated[str, typer.Option("--url", help="Its server.", rich_help_panel=_REFINING)] = "",
    accept_licence: Annotated[
        bool,
        typer.Option("--accept-licence", help="The licence of its weights allows my use.", rich_help_panel=_REFINING),
    ] = False,
    send_images: Annotated[
        bool,
        typer.Option("--send-images", help="Voxels may be sent to its server or the LLM.", rich_help_panel=_REFINING),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Install a lacking model without asking.", rich_help_panel=_MODELS)
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Never offer to install a model.", rich_help_panel=_MODELS)
    ] = False,
    no_input: Annotated[bool, typer.Option("--no-input", help="Never ask; exit with code 6 instead.")] = False,
    verbose: VerboseOption = False,
    mind: MindOption = None,
    config: ConfigOption = None,
    model: ModelOption = None,
    tag: TagOption = None,
    allow_remote: AllowRemoteOption = False,
    max_calls: MaxCallsOption = None,
    max_tokens: MaxTokensOption = None,
    no_cache: NoCacheOption = False,
) -> None:
    """Segment what INSTRUCTION asks for. Research software, not a medical device."""
    from medsegagent.cli.one_case import CaseRunner, image_arguments, show_run
    from medsegagent.cli.vision import refinement_from
    from medsegagent.errors import UsageError
    from medsegagent.models.effort import folds_named
    from medsegagent.planning.choice import weights_named
    from medsegagent.prompting.wanted import Wanted
    from medsegagent.road.options import Options
    from medsegagent.road.segmenter import KEEP_BYTES, Segmenter

    if bool(image) == bool(cases):
        raise UsageError("give one case with -i, or several with --cases", "One of the two.", "image")
    options = Options(
        max_models=max_models,
        prefer=tuple(prefer or ()),
        only=tuple(only or ()),
        exclude=tuple(exclude or ()),
        weights=weights_named(weight or ()),
        folds=folds_named(folds or ()),
        mirror=tta,
        tile_step=step_size,
        fast=fast,
        roi=roi == "auto",
        isolate=isolate,
        fusion=fusion,
        keep_outliers=keep_outliers,
        modality=modality,
        series=series,
        force=force,
        dry_run=dry_run,
        separate=separate,
        keep_predictions=keep_predictions,
        formats=tuple(formats or ()),
        refinement=refinement_from(
            refine,
            Wanted(with_, promptable, url, device, licence_accepted=accept_licence, send_images=send_images),
            config,
            send_images=send_images,
        ),
    )
    thinker = mind_from(
        mind,
        config,
        model,
        tag,
        allow_remote=allow_remote,
        max_calls=max_calls,
        max_tokens=max_tokens,
        no_cache=no_cache,
        may_ask=not no_input and not cases,
    )
    if out is None and not dry_run:
        raise UsageError("no output folder given", "Name one with -o DIR.", "out")
    segmenter = Segmenter(
        library,
        models_dir=models_dir,
        vocabulary=vocabulary or (),
        device=device,
        mind=thinker,
        keep_bytes=KEEP_BYTES if cases else 0,
    )
    runner = CaseRunner(
        segmenter,
        options,
        overwrite=overwrite,
        verbose=verbose,
        may_ask=not no_input,
        may_install="never" if offline else "yes" if yes else "ask",
    )
    if cases:
        from medsegagent.cli.batch import run_cases

        raise typer.Exit(run_cases(instruction, cases, out, runner))
    show_run(runner.run(instruction, image_arguments(image or []), out))
