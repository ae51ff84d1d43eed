"""`medsegagent promptable`."""

from __future__ import annotations

from typing import Annotated

import typer

from medsegagent.cli import screen
from medsegagent.cli.options import DeviceOption
from medsegagent.cli.refine import AcceptOption, FolderOption, PlaneOption, SendOption, UrlOption, WithOption

app = typer.Typer(help="Promptable models: which there are, and serving one to other programs.", no_args_is_help=True)


@app.command("list")
def list_promptable() -> None:
    """List the promptable models and whether each can be used here."""
    from medsegagent.prompting.catalogue import overview

    screen.table(("name", "what", "takes", "here"), overview())


@app.command("serve")
def serve(
    with_: WithOption = "walker",
    promptable: FolderOption = None,
    url: UrlOption = "",
    plane: PlaneOption = "axial",
    device: DeviceOption = "auto",
    accept_licence: AcceptOption = False,
    send_images: SendOption = False,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 127.0.0.1: this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8265,
    max_sessions: Annotated[int, typer.Option("--max-sessions", min=1)] = 64,
    idle: Annotated[float, typer.Option("--idle", help="Seconds after which an unused session goes.", min=1)] = 3600.0,
) -> None:
    """Serve a promptable model over the session protocol of published agents: pictures in, masks out."""
    from medsegagent.prompting.adapters.extras import require
    from medsegagent.prompting.catalogue import Wanted, open_model
    from medsegagent.prompting.server import make_app

    uvicorn = require("uvicorn", extra="interactive", feature="promptable serve")
    wanted = Wanted(with_, promptable, url, device, plane, accept_licence, send_images)
    app_ = make_app(lambda: open_model(wanted), device=device, max_sessions=max_sessions, idle_s=idle)
    if host not in ("127.0.0.1", "localhost", "::1"):
        screen.warn(f"Anyone who reaches {host}:{port} can use it: the protocol knows no key.")
    screen.err.print(f"serving {with_} at http://{host}:{port}; Ctrl-C ends it", markup=False, highlight=False)
    uvicorn.run(app_, host=host, port=port, log_level="warning")
