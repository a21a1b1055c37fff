"""The command line: parses, calls, prints."""

import sys
from typing import Annotated

import typer

from fedpolyp import __version__, interrupts
from fedpolyp.cli import data, privacy, runs, site
from fedpolyp.cli.compare import compare
from fedpolyp.cli.config import config
from fedpolyp.cli.evaluate import evaluate
from fedpolyp.cli.export import export
from fedpolyp.cli.hospitals import hospitals
from fedpolyp.cli.predict import predict
from fedpolyp.cli.report import report
from fedpolyp.cli.simulate import simulate
from fedpolyp.cli.view import view
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.text import printable_lines

app = typer.Typer(
    name="fedpolyp",
    help="Measure what federated learning costs and gains in polyp segmentation.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(simulate)
app.command()(compare)
app.command()(hospitals)
app.command()(report)
app.command()(predict)
app.command()(evaluate)
app.command()(export)
app.command()(view)
app.command()(config)
app.add_typer(data.app, name="data")
app.add_typer(privacy.app, name="privacy")
app.add_typer(runs.app, name="runs")
app.add_typer(site.app, name="site")

_INTERRUPTED = 130  # Typer's silent exit code for a KeyboardInterrupt


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"fedpolyp {__version__}")
        raise typer.Exit


@app.callback()
def fedpolyp(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Measure what federated learning costs and gains in polyp segmentation."""


def main() -> None:
    """Run the command line; ends with `SystemExit`: 0 (done), 1 (failed) or 2 (usage)."""
    try:
        code = _run()
    except KeyboardInterrupt:  # it came while an earlier one was handled
        code = _failed("interrupted")
    sys.exit(code)


def _run() -> int:
    try:
        app()
    except (FedpolypError, OSError) as error:
        return _failed(
            _sentence(error), *getattr(error, "__notes__", []), code=2 if isinstance(error, UsageError) else 1
        )
    except UnicodeEncodeError as error:
        return _failed(f"a path must be valid UTF-8; got {error.object!r}", code=2)
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            return _failed("interrupted")
        return end.code if isinstance(end.code, int) else 0
    return 0


def _failed(*lines: str, code: int = 1) -> int:
    interrupts.ending()
    print(printable_lines("\n".join(["fedpolyp: " + lines[0], *lines[1:]])), file=sys.stderr)
    return code


def _sentence(error: Exception) -> str:
    """The error as a sentence; for a full disk or an unwritable folder, the system's message."""
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename2 or error.filename, error.strerror) if part)
    return str(error)
