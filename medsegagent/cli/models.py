"""`medsegagent models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medsegagent.cli import screen
from medsegagent.cli.options import LibraryOption, ModalityOption, ModelsDirOption

app = typer.Typer(help="Trained models: what is installed, what can be, and installing it.", no_args_is_help=True)
JsonOption = Annotated[bool, typer.Option("--json", help="For machines.")]
ModelArgument = Annotated[str, typer.Argument(help="A model's id, as `models search` shows it.")]


@app.command("list")
def list_models(
    library: LibraryOption = "all",
    models_dir: ModelsDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the installed models per card, and trained models that no card knows."""
    from medsegagent.cards.library import Library
    from medsegagent.engines.installed import find_installed

    store = find_installed(Library.load(library), models_dir)
    if as_json:
        screen.as_json(
            {
                "models": [model.model_dump(mode="json") for model in store.models],
                "without_card": [str(folder) for folder in store.without_card],
                "problems": [str(problem) for problem in store.problems],
            }
        )
        return
    rows = [(m.card, m.id, len(m.parts), sum(len(part.labels) for part in m.parts)) for m in store.models]
    screen.table(("card", "model", "parts", "labels"), rows)
    for folder in store.without_card:
        screen.warn(f"{folder}: a trained model without a card; `medsegagent cards add {folder}` makes one.")
    for problem in store.problems:
        screen.warn(str(problem))


@app.command("search")
def search_models(
    text: Annotated[str, typer.Argument(help="Words in a model's name, card, description or labels; none: all.")] = "",
    library: LibraryOption = "all",
    as_json: JsonOption = False,
) -> None:
    """Search the public models."""
    from medsegagent.cards.library import Library
    from medsegagent.cli.model_views import offer_json, show_offers
    from medsegagent.models.catalogue import search
    from medsegagent.models.own_store import default_home

    home = default_home()
    found = search(Library.load(library), text)
    if as_json:
        screen.as_json([offer_json(offer, home) for offer in found])
    else:
        show_offers(found, home)


@app.command("show")
def show_model(model: ModelArgument, library: LibraryOption = "all", as_json: JsonOption = False) -> None:
    """Show one public model: labels, licence, source, and whether it is installed."""
    from medsegagent.cards.library import Library
    from medsegagent.cli.model_views import offer_json, show_offer
    from medsegagent.models.catalogue import find
    from medsegagent.models.own_store import default_home

    offer = find(Library.load(library), model)
    if as_json:
        screen.as_json(offer_json(offer, default_home()))
    else:
        show_offer(offer, default_home())


@app.command("install")
def install_models(
    models: Annotated[list[str] | None, typer.Argument(help="Ids, as `models search` shows them.")] = None,
    card: Annotated[str | None, typer.Option("--card", help="Install this card's first model.")] = None,
    instruction: Annotated[str | None, typer.Option("--for", help="Install what this instruction needs.")] = None,
    archive: Annotated[Path | None, typer.Option("--from", help="Take it from this zip archive or folder.")] = None,
    mirror: Annotated[
        str, typer.Option("--mirror", envvar="MEDSEGAGENT_MIRROR", help="Folder or address with MODEL/ARCHIVE below.")
    ] = "",
    library: LibraryOption = "all",
    modality: ModalityOption = None,
    max_models: Annotated[int, typer.Option("--max-models", min=1, help="With --for: models for each target.")] = 1,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="I hold the licence that the publisher asks for.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Install public models, each into a folder of its own; nnUNet_results is never written.

    `nninteractive` installs the weights of nnInteractive, for `refine --with nninteractive`.
    """
    from medsegagent.cards.library import Library
    from medsegagent.cli.installing import confirm, install_all, offers_for
    from medsegagent.models.install import Installation
    from medsegagent.models.own_store import default_home

    home = default_home()
    if models == ["nninteractive"]:
        from medsegagent.cli.installing import install_promptable

        install_promptable(home, str(archive or mirror), accepted=accept_licence)
        return
    offers = offers_for(Library.load(library), models or [], card, instruction, modality, max_models, archive)
    confirm(offers, yes=yes or instruction is None)
    install_all(offers, Installation(home, archive=archive, mirror=mirror, licence_accepted=accept_licence))


@app.command("verify")
def verify_models(
    model: Annotated[str | None, typer.Argument(help="A model's id; none: all that are installed.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that installed files are still what was installed."""
    from medsegagent.errors import ExitCode
    from medsegagent.models.inventory import verify
    from medsegagent.models.own_store import default_home

    verdicts = verify(default_home(), model)
    if as_json:
        screen.as_json([{"model": v.model, "folder": str(v.folder), "faults": list(v.faults)} for v in verdicts])
    else:
        rows = [(v.model, v.folder.parent.name, "; ".join(v.faults) or "as installed") for v in verdicts]
        screen.table(("model", "part", "state"), rows)
    if any(verdict.faults for verdict in verdicts):
        raise typer.Exit(ExitCode.BAD_INPUT)


@app.command("remove")
def remove_model(model: ModelArgument) -> None:
    """Remove an installed model."""
    from medsegagent.models.inventory import remove
    from medsegagent.models.own_store import default_home

    screen.out.print(f"removed {remove(default_home(), model)}", markup=False, soft_wrap=True)


@app.command("where")
def where(
    model: Annotated[str | None, typer.Argument(help="A model's id; none: the whole store.")] = None,
) -> None:
    """Print the folder of an installed model (nnU-Net's results layout), or of the store."""
    from medsegagent.models.inventory import installed_root
    from medsegagent.models.own_store import default_home

    home = default_home()
    screen.out.print(str(installed_root(home, model) if model else home.folder), markup=False, soft_wrap=True)
