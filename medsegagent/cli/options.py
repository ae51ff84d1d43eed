"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LibraryOption = Annotated[
    str, typer.Option("--library", help="Cards to choose from: benchmark, zoo, all, or a folder of cards.")
]
VocabularyOption = Annotated[
    list[Path] | None,
    typer.Option("--vocabulary", help="YAML file with terms of your own, as in docs/vocabulary.md (repeatable)."),
]
ModalityOption = Annotated[
    str | None, typer.Option("--modality", help='Overrides the instruction and the image: "CT", "MR T1", "PET/CT", ...')
]
ModelsDirOption = Annotated[
    Path | None,
    typer.Option("--models-dir", help="nnU-Net results folder; default: the environment variable nnUNet_results."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show the agents' conversation as it happens.")]
