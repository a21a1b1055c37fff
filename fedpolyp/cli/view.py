"""`fedpolyp view`: a page on this machine, to watch runs and to try their models."""

import os
import sys
import threading
import webbrowser
from typing import Annotated

import typer

from fedpolyp.cli.console import PlainConsole
from fedpolyp.cli.supervise import stop_signal

PORT = 8642


def view(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|COMPARISON]",
            help="a run, a comparison, or a folder of them  [dim]\\[runs][/dim]",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0: one that is free")] = PORT,
    no_open: Annotated[bool, typer.Option("--no-open", help="print the address, and open no browser")] = False,
) -> None:
    """Open a page, for this machine only, that shows the progress of runs and their models' predictions in your images.

    Without RUN or COMPARISON it lists the runs in runs/; you can also name a folder of runs. Ctrl-C ends it.
    """
    from fedpolyp.view.shelf import shelf

    shown = shelf(what)
    # A run on this machine may need all of a GPU's memory, and single images do not need a GPU.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    from fedpolyp.view.guard import Secrets
    from fedpolyp.view.seeing import Seer, load_predictor
    from fedpolyp.view.server import application, listening, serve

    with stop_signal() as stop, listening(port) as listener:
        place = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        seer, secrets = Seer(load_predictor), Secrets()
        app = application(shown, seer, listener.getsockname()[1], secrets)
        PlainConsole().print(
            f"{place}#token={secrets.token}\nonly this machine can open it; press Ctrl-C to stop", soft_wrap=True
        )
        sys.stdout.flush()
        if not no_open and _has_screen():
            threading.Thread(target=webbrowser.open, args=(f"{place}#once={secrets.once}",), daemon=True).start()
        serve(app, listener, stop)
    seer.close()
    if seer.busy:  # a model that is being loaded or used is not waited for
        sys.stdout.flush()
        os._exit(0)


def _has_screen() -> bool:
    """Whether a browser would open in a window: one in this terminal would be in the way."""
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
